"""What is made of frames and scores over time: faults, smoothing, events, drift."""
