"""The head of `features`: crops with synthetic defects, its training, and the trial that it has to stand to join."""
