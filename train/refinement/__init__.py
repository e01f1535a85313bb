"""Which training images are believed to be anomalies, when, and why."""
