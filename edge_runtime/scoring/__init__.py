"""From frames to scores: the detector, its heatmaps, and sets of images."""
