"""`python -m edge_aae`, and so `torchrun -m edge_aae`."""

from edge_aae.cli import main

if __name__ == "__main__":
    main()
