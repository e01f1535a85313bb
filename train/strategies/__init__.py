"""The kinds of training: what each does in its phases, and what it finds of the images."""
