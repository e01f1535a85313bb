"""The whole road on an embedded sample."""
