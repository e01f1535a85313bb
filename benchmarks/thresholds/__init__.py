"""What thresholds set without labels make of real photographs."""
