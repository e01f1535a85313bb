"""Who made a bundle: Ed25519 keys, signatures beside archives, and what a device trusts."""
