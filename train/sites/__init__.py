"""What is usual at the sites of a grid of features: statistics, and how they are fitted."""
