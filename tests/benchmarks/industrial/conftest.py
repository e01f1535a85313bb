"""Tiny sets of photographs, and a stand-in for the product that answers as it does, in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

STAND_IN = '''
"""Answers as edge-aae does; its seed decides the figures, its options what goes wrong."""
import json, pathlib, sys, time

words = sys.argv[1:]
option = lambda name: pathlib.Path(words[words.index(name) + 1])
with open(pathlib.Path(__file__).parents[1] / "calls.txt", "a") as calls:
    calls.write(words[0] + "\\n")
if words[0] == "train":
    if "--fail" in words:
        print("error: no network of that name\\nsomething after it")
        sys.exit(1)
    if "--hang" in words:
        time.sleep(60)
    run = option("--out")
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"train": {"network": "stand-in"}}))
    names = [path.name for path in pathlib.Path(words[1]).iterdir()]
    rows = [f"{name},{int(not name.startswith('m-'))}" for name in sorted(names)]
    (run / "refinement.csv").write_text("\\n".join(["name,kept", *rows]) + "\\n")
    (run / "seed").write_text(words[words.index("--seed") + 1])
    (run / "refused").write_text(str("--refuse" in words))
elif words[0] == "export":
    run = pathlib.Path(words[1])
    if (run / "refused").read_text() == "True":
        print("error: the parity gate failed: score error 4")
        sys.exit(3)
    option("--out").write_text((run / "seed").read_text())
elif words[0] == "evaluate":
    model = pathlib.Path(words[1])
    seed = int((model / "seed" if model.is_dir() else model).read_text())
    if "--heatmaps" in words:
        import shutil
        for path in sorted(pathlib.Path(words[2]).rglob("*.png")):
            place = option("--heatmaps") / (str(path.relative_to(words[2])) + ".png")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        sys.exit()
    figures = {"n_normal": 2, "n_anomalous": 4, "auroc": 0.9 + 0.02 * seed, "average_precision": 0.8,
               "true_positive_rate": 0.5, "false_positive_rate": 0.0, "balanced_accuracy": 0.75,
               "pixels": {"auroc": 0.7, "aupro": 0.6}}
    option("--out").mkdir()
    (option("--out") / "report.json").write_text(json.dumps({"subsets": {"all": figures}, "unscored": []}))
elif words[0] == "bench":
    option("--json").write_text(json.dumps({"end_to_end_ms": {"p50": 4.25}}))
'''

MakeSet = Callable[..., Path]


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A checkout whose product is the stand-in; calls.txt in it lists the commands that ran."""
    for package in ("edge_aae", "train"):
        (tmp_path / "checkout" / package).mkdir(parents=True)
        (tmp_path / "checkout" / package / "__init__.py").touch()
    (tmp_path / "checkout" / "edge_aae" / "__main__.py").write_text(STAND_IN)
    return tmp_path / "checkout"


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """Makes a folder with a set: a bright part on grey, with a mask of every defect."""

    def make(folder: str = "data/aliens", n_train: int = 8, n_good: int = 2, **kinds: int) -> Path:
        root = tmp_path / folder
        rng = np.random.default_rng(0)
        for place, n in (
            ("train/good", n_train),
            ("test/good", n_good),
            *((f"test/{kind}", n) for kind, n in kinds.items()),
        ):
            (root / place).mkdir(parents=True)
            for index in range(n):
                image = rng.integers(90, 110, (48, 64, 3), dtype=np.uint8)
                cv2.ellipse(image, (32, 24), (14, 8), 0.0, 0.0, 360.0, (200, 220, 240), -1)
                if not place.endswith("good"):
                    image[22:26, 24:29] = 20
                    mask = np.zeros((48, 64), np.uint8)
                    mask[22:26, 24:29] = 255
                    masks = root / "ground_truth" / Path(place).name
                    masks.mkdir(parents=True, exist_ok=True)
                    cv2.imwrite(str(masks / f"{index}_mask.png"), mask)
                cv2.imwrite(str(root / place / f"{index}.png"), image)
        return root

    return make
