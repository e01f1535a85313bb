"""The bundle, what it carries, and the calibration that lies beside it."""
