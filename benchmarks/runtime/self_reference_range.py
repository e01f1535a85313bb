"""Share of pixels that clip in self-referenced channels.

python benchmarks/runtime/self_reference_range.py FOLDER_OF_IMAGES

The evidence for STEPS_PER_LOG in edge_runtime/model/self_reference.py, from photographs of normal parts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from edge_runtime.model.images import read_image
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.self_reference import STEPS_PER_LOG, unclipped_levels

SCALES = (0.5, 1.0)


def main() -> None:
    """Print one line a scale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="such as magnetic-tile/train/good")
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.folder.iterdir() if path.is_file())
    frames = [read_image(path) for path in paths]
    print(f"{len(frames)} images, k = {STEPS_PER_LOG}, median of medians {np.median([np.median(f) for f in frames]):g}")
    for scale in SCALES:
        preprocess = Preprocess(height=64, width=64, fit="tile", scale=scale)
        clipped, n_pixels = np.zeros(2), 0
        for frame in frames:
            grey = preprocess.scaled(frame)[:, :, 0]
            n_pixels += grey.size
            clipped += [((levels < 0) | (levels > 255)).sum() for levels in unclipped_levels(grey)]
        both, columns = 100.0 * clipped / n_pixels
        print(
            f"scale {scale:g}: {both:.3f} % clip without column and row medians, {columns:.3f} % without column medians"
        )


if __name__ == "__main__":
    main()
