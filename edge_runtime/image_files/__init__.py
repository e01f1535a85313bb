"""Bytes of image files: their parts, how the picture lies in them, whether all of it is there."""
