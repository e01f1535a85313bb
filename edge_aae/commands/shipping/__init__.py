"""Commands that make and check bundles and engines."""
