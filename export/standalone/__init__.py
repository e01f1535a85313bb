"""A folder that needs no edge-aae: graphs, how a score follows, golden samples, two references. No PyTorch here."""
