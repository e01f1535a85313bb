"""Synthetic defects on the user's own photographs, and the batches that are made of them."""
