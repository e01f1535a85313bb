"""The commands of `edge-aae`, one module each; they import click at the top and everything else when called."""
