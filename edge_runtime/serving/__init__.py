"""What every server of ours shares: who may ask, how long a connection may take and how many there may be, and the
process apart from the run that serves.

Used by /healthz and /metrics (operations), the live page (live) and `edge-aae review`. The standard library alone.
"""
