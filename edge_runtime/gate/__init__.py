"""The parity gate's reports, and a bundle's verification on the device."""
