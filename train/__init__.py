"""Training: data, networks, the adversarial autoencoder, refinement, calibration. Imports torch."""
