"""The loop from sources to records."""
