"""The networks, by name, and what each is to training, scoring and export."""
