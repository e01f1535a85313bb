"""anomalib's PatchCore or PaDiM on frozen EfficientNet-Lite0, over one split: runs in the environment of anomalib.sh.

    python -m benchmarks.peers.anomalib_models patchcore DATA --weights FILE --seed 0 --out result.json

DATA has train/NAME, test/good/NAME and test/KIND/NAME. Sizes and scales are the per-site Gaussian's, so are the blocks
whose outputs are taken; the rest is anomalib's own, as Engine and Folder do it. Called by benchmarks/peers/methods.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.command_line import status_of
from benchmarks.industrial.site_gaussian import SIDE, TAPS, Lite0, trunk
from edge_runtime.errors import DataError
from edge_runtime.files import json_bytes, write_atomically
from edge_runtime.metrics import auroc, average_precision

MODELS = ("patchcore", "padim")
PADIM_CHANNELS = 100
"""Kept of 152, as anomalib keeps for ResNet-18; it has no number for other trunks."""
BATCH = 8


def main(words: Sequence[str] | None = None) -> int:
    """Train, score, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="EfficientNet-Lite0's .pth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--coreset", type=float, default=0.1, help="share of the patches that PatchCore keeps")
    parser.add_argument("--version", help="of anomalib, and no other")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    return status_of(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    write_atomically(arguments.out, json_bytes(_measured(arguments)))
    return 0


def fixed_padding(lite0: Lite0, side: int) -> Lite0:
    """The trunk for images of one size, its padding as constants: anomalib traces what it is given."""
    same = {name: module for name, module in lite0.named_modules() if hasattr(module, "same_padding")}
    padding: dict[str, tuple[int, int, int, int]] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, given, name=name: padding.__setitem__(name, module.same_padding(given[0]))
        )
        for name, module in same.items()
    ]
    with torch.inference_mode():
        lite0(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    for name, module in same.items():
        plain = nn.Conv2d(
            module.in_channels, module.out_channels, module.kernel_size, module.stride, groups=module.groups, bias=False
        )
        plain.weight = module.weight
        parent, _, last = name.rpartition(".")
        setattr(lite0.get_submodule(parent), last, nn.Sequential(nn.ZeroPad2d(padding[name]), plain))
    return lite0.eval()


def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    _stand_in_for_torchvisions_operators()
    os.environ.setdefault("TQDM_DISABLE", "1")
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.models import Padim, Patchcore
    from anomalib.pre_processing import PreProcessor
    from lightning import seed_everything
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    if arguments.version not in (None, version("anomalib")):
        raise DataError(f"anomalib is {version('anomalib')}, expected {arguments.version}; run anomalib.sh again")
    seed_everything(arguments.seed)
    data = arguments.data.resolve()
    kinds = sorted(folder.name for folder in (data / "test").iterdir() if folder.name != "good")
    photographs = Folder(
        name=data.name,
        root=data,
        normal_dir="train",
        normal_test_dir="test/good",
        abnormal_dir=[f"test/{kind}" for kind in kinds],
        # The default takes half of the tested photographs away, to set a threshold on; nothing is validated here.
        val_split_mode="same_as_test",
        train_batch_size=BATCH,
        eval_batch_size=BATCH,
        num_workers=0,
    )
    scale = Normalize(mean=[127 / 255] * 3, std=[128 / 255] * 3)
    own: dict[str, Any] = {
        "backbone": fixed_padding(trunk(arguments.weights), SIDE),
        "layers": [f"blocks.{tap}" for tap in TAPS],
        "pre_processor": PreProcessor(transform=Compose([Resize((SIDE, SIDE), antialias=True), scale])),
        # Scores as they are: normalised ones are cut off at 0 and 1.
        "post_processor": False,
        "evaluator": False,
        "visualizer": False,
    }
    if arguments.model == "patchcore":
        model = Patchcore(coreset_sampling_ratio=arguments.coreset, **own)
    else:
        model = Padim(n_features=PADIM_CHANNELS, **own)
    folder = arguments.out.parent / "anomalib"
    engine = Engine(accelerator="cpu", devices=1, logger=False, limit_val_batches=0, default_root_dir=folder)
    started = time.perf_counter()
    engine.fit(model=model, datamodule=photographs)
    seconds = time.perf_counter() - started
    batches = engine.predict(model=model, dataloaders=photographs.test_dataloader())
    scores = np.concatenate([batch.pred_score.flatten().numpy() for batch in batches]).astype(np.float64)
    anomalous = np.concatenate([batch.gt_label.flatten().numpy() for batch in batches]).astype(bool)
    return {
        "auroc": auroc(scores, anomalous),
        "ap": average_precision(scores, anomalous),
        "train_s": round(seconds, 1),
        "read": [len(photographs.train_data), int((~anomalous).sum()), int(anomalous.sum())],
    }


def _stand_in_for_torchvisions_operators() -> None:
    """Lets torchvision import beside a CPU build of PyTorch, whose wheel from the package index is built for CUDA.

    It then lacks its compiled operators, which neither model calls; their names alone are missed at import.
    """
    if torch.version.cuda is None:
        operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(operators)


_KEPT: list[Any] = []
"""Definitions last as long as what made them."""

if __name__ == "__main__":
    sys.exit(main())
