"""From the training images' scores to thresholds, and to an estimate of the contamination."""
