"""Heads that mark defects in maps of features, and what they make of a map."""
