"""What Linux, macOS and Windows do differently: locks, users, pipes, children, replaced files. Imports none of ours."""
