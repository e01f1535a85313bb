"""Make the embedded sample of `edge-aae demo`: python benchmarks/release/make_demo_sample.py FASHION_MNIST_FOLDER

2000 T-shirts of the training split with 5 % ankle boots among them, shuffled; from the test split 400 T-shirts,
200 boots and 25 of each other class. The labels serve the demo's report alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from edge_runtime.scoring.labelled import read_labelled

NORMAL, CONTAMINANT = 0, 9
N_TRAIN_NORMAL = 2000
CONTAMINATION = 0.05
N_TEST = {NORMAL: 400, CONTAMINANT: 200}
N_TEST_OTHER = 25
SEED = 20190125
MAX_BYTES = 2_000_000


def main() -> None:
    """Write edge_aae/sample/fashion.npz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fashion_mnist", type=Path, help="folder with the four IDX files")
    parser.add_argument("--out", type=Path, default=Path("edge_aae/sample/fashion.npz"))
    arguments = parser.parse_args()
    rng = np.random.default_rng(SEED)

    train = read_labelled(arguments.fashion_mnist, "train")
    assert train.labels is not None, "Fashion-MNIST has labels"
    n_contaminants = round(N_TRAIN_NORMAL * CONTAMINATION / (1.0 - CONTAMINATION))
    chosen = np.concatenate(
        [
            rng.choice(np.flatnonzero(train.labels == NORMAL), N_TRAIN_NORMAL, replace=False),
            rng.choice(np.flatnonzero(train.labels == CONTAMINANT), n_contaminants, replace=False),
        ]
    )
    rng.shuffle(chosen)
    test = read_labelled(arguments.fashion_mnist, "test")
    assert test.labels is not None, "Fashion-MNIST has labels"
    held_out = np.concatenate(
        [
            rng.choice(np.flatnonzero(test.labels == label), N_TEST.get(label, N_TEST_OTHER), replace=False)
            for label in range(10)
        ]
    )
    np.savez_compressed(
        arguments.out,
        train_images=train.images[chosen],
        train_labels=train.labels[chosen].astype(np.uint8),
        test_images=test.images[held_out],
        test_labels=test.labels[held_out].astype(np.uint8),
    )
    size = arguments.out.stat().st_size
    if size > MAX_BYTES:
        raise SystemExit(f"{arguments.out} has {size} bytes, at most {MAX_BYTES} may ship")
    print(f"{arguments.out}: {len(chosen)} training and {len(held_out)} test images, {size} bytes")


if __name__ == "__main__":
    main()
