"""Pages for a browser: the report of a training or a bundle, and the review of rejected images."""
