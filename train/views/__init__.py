"""What of a photograph the network looks at, at what size: candidates, and which is taken."""
