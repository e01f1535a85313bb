"""Which files of a folder are trained on, and by which levels they are read."""
