"""What `edge-aae train` is asked: its method, the images, and how it learns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edge_aae.commands.option_groups import OptionGroup, option
from edge_aae.commands.parameter_types import CLASSES, CONTAMINATE, FINITE, LEVELS, PERCENT, ROI, SIZE

if TYPE_CHECKING:
    from train.calibration.thresholds import ThresholdRule
    from train.data.image_store import CacheName
    from train.learning.augmentation import AugmentName
    from train.learning.settings import DecisionName, HeadName
    from train.networks.registry import NetworkName
    from train.schedule import MethodName, RefineName
    from train.views.candidates import ViewName

__all__ = ["ImageOptions", "LearningOptions", "MethodOptions"]

FILE = click.Path(path_type=Path)


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodOptions(OptionGroup):
    """What is trained, and how it decides."""

    network: NetworkName | Literal["auto"] = option(
        "--network",
        type=click.Choice(["auto", "mlp", "conv", "hog", "patch", "features"]),
        default="auto",
        show_default=True,
        help="mlp: the paper's; conv: convolutional; hog: pixels and gradients; patch: textures and large photographs, "
        "in tiles; features: photographs of parts, by a pretrained backbone; auto: by the images, and says why.",
    )
    method: MethodName = option(
        "--method",
        type=click.Choice(["aae", "ae"]),
        default="aae",
        show_default=True,
        help="aae: adversarial, standard normal prior; ae: conventional autoencoder.",
    )
    refine: RefineName = option(
        "--refine",
        type=click.Choice(["robust", "itsr", "none"]),
        default="robust",
        show_default=True,
        help="Against anomalies among the images; robust: cross-fitted; itsr: the paper's three phases.",
    )
    backbone: str = option(
        "--backbone",
        default="efficientnet-lite0",
        show_default=True,
        help="features: the shipped one, or a .safetensors or .pt2 file; see docs/backbones.md.",
    )
    head: HeadName = option(
        "--head",
        type=click.Choice(["auto", "try", "none"]),
        default="auto",
        show_default=True,
        help="features: what has learnt synthetic defects, for structures that differ from image to image. try: joins "
        "where it tells kinds of defects that it was not trained on; auto: only tried where photographs differ.",
    )
    threshold_rule: ThresholdRule = option(
        "--threshold-rule",
        type=click.Choice(["balanced", "conformal"]),
        default="balanced",
        show_default=True,
        help="Of the fused score. balanced: about the rate, which anomalies among the images hardly move; conformal: "
        "at most the rate, which they lower.",
    )
    target_fpr: float | None = option(
        "--target-fpr",
        type=PERCENT,
        help="False alarms to allow on normal images.  [default: 5% with balanced, 1% with conformal]",
    )
    cost_miss: float = option(
        "--cost-miss",
        type=FINITE,
        default=1.0,
        metavar="COST",
        help="Of a missed defect, in any unit: the dearer, the more false alarms balanced allows in place of 5%.",
    )
    cost_false_alarm: float = option(
        "--cost-false-alarm", type=FINITE, default=1.0, metavar="COST", help="Of a false alarm, in the same unit."
    )
    decision: DecisionName | None = option(
        "--decision",
        type=click.Choice(["fused", "union"]),
        help="fused: one score, one threshold; union: the paper's, p90 of each criterion.  "
        "[default: fused with robust]",
    )
    mixture: int = option(
        "--mixture",
        type=int,
        default=1,
        show_default=True,
        help="robust: normal densities fitted to the codes; more where products come in several kinds.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions(OptionGroup):
    """Which images, and what the network sees of them."""

    imgsz: tuple[int, int] | None = option(
        "--imgsz",
        type=SIZE,
        help="Network input, with patch a tile: N or ROWSxCOLUMNS pixels.  [default: 128; features: the images' own "
        "aspect at as many pixels as 256x256; IDX, .npz: as is]",
    )
    channels: Literal["1", "3"] | None = option(
        "--channels", type=click.Choice(["1", "3"]), help="Grey or colour.  [default: what the images have]"
    )
    fit: Literal["stretch", "letterbox"] | None = option(
        "--fit",
        type=click.Choice(["stretch", "letterbox"]),
        help="How images meet the input's shape.  [default: stretch if all have one aspect ratio, else letterbox]",
    )
    align: ViewName | Literal["auto"] | None = option(
        "--align",
        type=click.Choice(["auto", "none", "centre", "turn"]),
        help="Look at the part, found by its outline: centre; turn: along its long axis as well; auto: where synthetic "
        "defects show best.  [default: auto with features, else none]",
    )
    smallest_defect: float | None = option(
        "--smallest-defect",
        type=FINITE,
        help="Its extent in pixels of the images; makes the network's input so large that it is seen.",
    )
    scale: float | None = option(
        "--scale", type=FINITE, help="patch: photographs are scaled by this before tiles are cut.  [default: 0.5]"
    )
    overlap: int | None = option(
        "--overlap", type=int, help="patch: pixels neighbouring tiles share.  [default: a quarter of a tile]"
    )
    width: float = option(
        "--width", type=FINITE, default=1.0, show_default=True, help="patch: times the channels of every layer."
    )
    roi: tuple[int, int, int, int] | None = option(
        "--roi", type=ROI, help="Region of interest in image pixels, cut out first."
    )
    levels: tuple[int, int] | None = option(
        "--levels",
        type=LEVELS,
        help="Of 16-bit images: LOW,HIGH become black and white.  [default: 0 and the largest of the bits they use]",
    )
    classes: tuple[int, ...] = option(
        "--classes", type=CLASSES, default=(), help="Normal classes of labelled data, such as 0 or 0,3."
    )
    contaminate: tuple[tuple[int, float], ...] = option(
        "--contaminate",
        type=CONTAMINATE,
        default=(),
        help="Mix in unmarked anomalies: 2:0.05 makes 5 % of the training set class 2.",
    )
    sample_fps: float = option(
        "--sample-fps", type=FINITE, default=2.0, show_default=True, help="Frames a second taken from a video."
    )
    drop_duplicates: bool | None = option(
        "--drop-duplicates/--keep-duplicates",
        default=None,
        help="Leave out images that look like an earlier one.  [default: drop for videos, keep else]",
    )
    group_by: str = option(
        "--group-by",
        default="auto",
        show_default=True,
        metavar="auto|none|folder|REGEX|minutes:N",
        help="What keeps images of one object or session in one fold; REGEX: its first group, in the name; minutes: "
        "by EXIF or file times; auto: near-duplicates, in videos blocks of time.",
    )
    cache: CacheName = option(
        "--cache",
        type=click.Choice(["auto", "memory", "disk"]),
        default="auto",
        show_default=True,
        help="Where preprocessed images are held; auto: on disk where memory is short.",
    )
    augment: AugmentName = option(
        "--augment",
        type=click.Choice(["none", "light"]),
        default="none",
        show_default=True,
        help="light: each step shifts images by up to 2 pixels and changes their light by up to 10 %.",
    )
    keep: Path | None = option(
        "--keep", type=FILE, help="Images that are normal: names, one a line, or a CSV with a column `name`."
    )
    reject: Path | None = option("--reject", type=FILE, help="Images that are anomalous, named likewise.")
    labels: Path | None = option(
        "--labels", type=FILE, help="A few known images: CSV name,label; 0 or good is normal, else a defect."
    )
    known_bad: Path | None = option(
        "--known-bad",
        type=FILE,
        help="Folder with photographs of some defects: never trained on, the threshold is set between.",
    )
    feedback: Path | None = option(
        "--feedback",
        type=FILE,
        help="Folder of the live page's answers: false alarms join the images as good, defects are known bad.",
    )
    max_bad: float = option(
        "--max-bad",
        type=PERCENT,
        default="1%",
        show_default=True,
        help="Unreadable images tolerated; 1, but with 0%.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningOptions(OptionGroup):
    """How long, in what steps and on what it is trained."""

    latent: int | None = option(
        "--latent", type=int, help="Latent dimensions.  [default: 32; mlp with aae 2; patch, features 16 a site]"
    )
    epochs: int | None = option(
        "--epochs", type=int, help="Epochs of training (itsr: of pretraining; robust: of each network that judges)."
    )
    refine_epochs: int | None = option(
        "--refine-epochs",
        type=int,
        help="Epochs after each of the 10 itsr rounds; of each robust network that screens.",
    )
    retrain_epochs: int | None = option("--retrain-epochs", type=int, help="Epochs of itsr's re-training.")
    epochs_scale: float = option(
        "--epochs-scale", type=FINITE, default=1.0, show_default=True, help="Times every phase's epochs."
    )
    batch: int | None = option("--batch", type=int, help="Images a step.  [default: 128; conv 32, patch, features 16]")
    seed: int = option("--seed", type=int, default=0, show_default=True, help="Repeats a run on one machine.")
    device: str = option(
        "--device", default="auto", show_default=True, help="auto (a GPU if there is one), cpu, cuda or cuda:N."
    )
    amp: bool | None = option(
        "--amp/--no-amp", default=None, help="Train in bfloat16.  [default: on GPUs that have it]"
    )
