"""Commands of the device, without PyTorch."""
