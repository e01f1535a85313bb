"""Which images a run trains on, as settings: written to config.json, read back by --resume."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edge_runtime.errors import ConfigError
from edge_runtime.image_files.levels import FULL_RANGE, Levels, check_levels
from edge_runtime.image_files.unreadable import check_max_bad
from train.data.grouping import check_group_by
from train.data.guidance import GuidanceFiles
from train.data.image_store import CacheName
from train.intake.feedback_images import FeedbackImages
from train.views.candidates import ViewName

__all__ = ["DataSettings"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSettings:
    """Which images a run trains on."""

    path: str
    classes: tuple[int, ...] = ()
    """Normal classes of a labelled set; empty takes all images."""
    contaminate: tuple[tuple[int, float], ...] = ()
    """(class, share) drawn unmarked into the training set; share is n_anomalous / n_all, the paper's alpha."""
    imgsz: tuple[int, int] | None = None
    """Rows and columns of the network's input; None: the images' own size for labelled sets, 128x128 for folders."""
    channels: Literal[1, 3] | None = None
    """None: 1 if the images looked at (64, evenly spread) are all grey, else 3."""
    fit: Literal["stretch", "letterbox"] | None = None
    """None: stretch where the images looked at have one aspect ratio, else letterbox. Network patch cuts tiles."""
    scale: float | None = None
    """Network patch: pixels of the scaled photograph for one of the photograph's; None: a half."""
    overlap: int | None = None
    """Network patch: pixels that neighbouring tiles share at least; None: a quarter of a tile's shorter side."""
    roi: tuple[int, int, int, int] | None = None
    levels: Levels | None = None
    """Of 16-bit images those that become black and white; None: a run finds them, see train/intake/depth.py."""
    align: ViewName | Literal["auto"] = "none"
    """Whether the view follows the part. auto is settled by train/runs/view_choice.py, before images are loaded."""
    smallest_defect: float | None = None
    """Pixels of the photograph; the input is made so large that it is seen."""
    max_bad: float = 0.01
    """Share of images that may be unreadable; one may, whatever the share, unless it is 0."""
    sample_fps: float = 2.0
    """Frames a second taken from a video: a part that passes within a second is seen about twice."""
    drop_duplicates: bool | None = None
    """Near-duplicates are left out; None: of videos alone, where they say how long nothing moved."""
    group_by: str = "auto"
    """What keeps images together in folds: auto (near-duplicates, in videos blocks of time), none, folder, minutes:N,
    or a regular expression on names."""
    finer: int = 1
    """How many times finer the network's input is than what a backbone's sites are made from; settled by the run."""
    known_bad: str | None = None
    """A folder of photographs of defects, which set the threshold and are never trained on."""
    feedback: FeedbackImages | None = None
    """What people said of alarms: good images that join, and defects that set the threshold, never trained on."""
    cache: CacheName = "auto"
    """Where the images are held; auto: in memory, or on disk where they would take half of what is free."""
    guidance: GuidanceFiles = field(default_factory=GuidanceFiles)
    """A person's corrections and labels."""
    seed: int = 0
    """Draws the contaminating images."""

    def __post_init__(self) -> None:
        check_max_bad(self.max_bad)
        if not (math.isfinite(self.sample_fps) and self.sample_fps > 0.0):
            raise ConfigError(f"--sample-fps is {self.sample_fps}, expected frames a second, above 0")
        check_group_by(self.group_by)
        if self.cache not in ("auto", "memory", "disk"):
            raise ConfigError(f"--cache is {self.cache!r}, expected auto, memory or disk")
        if self.levels is not None:
            check_levels(self.levels, "--levels")
        if self.finer < 1:
            raise ConfigError(f"finer is {self.finer}, expected 1 or more")
        if self.align not in ("auto", "none", "centre", "turn"):
            raise ConfigError(f"--align is {self.align!r}, expected auto, none, centre or turn")
        if self.smallest_defect is not None and not (math.isfinite(self.smallest_defect) and self.smallest_defect > 0):
            raise ConfigError(f"--smallest-defect is {self.smallest_defect}, expected pixels of the images, above 0")
        if self.smallest_defect is not None and self.imgsz is not None:
            raise ConfigError("--smallest-defect sizes the network's input, and so does --imgsz; name one of them")
        if self.align != "none" and self.fit == "letterbox":
            raise ConfigError(
                f"--fit letterbox with --align {self.align}: a view that follows the part takes more of the image in "
                "place of bars; leave --fit out"
            )
        for label, share in self.contaminate:
            if not 0.0 < share < 1.0:
                raise ConfigError(f"--contaminate {label}:{share}, expected a share between 0 and 1, such as 2:0.05")
            if label in self.classes:
                raise ConfigError(f"--contaminate {label}: that class is among the normal --classes")
        labels = [label for label, _ in self.contaminate]
        for label in labels:
            if labels.count(label) > 1:
                raise ConfigError(f"--contaminate {label} is named {labels.count(label)} times; name each class once")
        if self.contaminate and not self.classes:
            raise ConfigError("--contaminate needs --classes, the normal ones")
        if sum(share for _, share in self.contaminate) >= 1.0:
            raise ConfigError("--contaminate shares add up to 1 or more; they are parts of the whole training set")

    @property
    def used_levels(self) -> Levels | None:
        """The levels of preprocessing; None where they are the whole range."""
        return None if self.levels == FULL_RANGE else self.levels

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DataSettings:
        """The settings read back; raises ConfigError for unknown keys."""
        try:
            return cls(
                **{
                    **values,
                    "classes": tuple(values["classes"]),
                    "contaminate": tuple((label, share) for label, share in values["contaminate"]),
                    "imgsz": tuple(values["imgsz"]) if values["imgsz"] else None,
                    "roi": tuple(values["roi"]) if values["roi"] else None,
                    "levels": tuple(values["levels"]) if values.get("levels") else None,
                    "feedback": FeedbackImages.from_json(values["feedback"]) if values.get("feedback") else None,
                    "guidance": GuidanceFiles.from_json(values["guidance"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"the run's data settings are of another release: {error}; train again") from error
