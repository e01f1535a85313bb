"""Frozen, pretrained trunks that give features of several strides, and how a user brings one."""
