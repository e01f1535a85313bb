"""Sets of real photographs: where each lies, what is trained on, what is tested, and which masks mark its defects.

Tuned on are the development sets alone; the others are looked at to report, not to choose.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.industrial.turned import turned_copy
from edge_runtime.errors import DataError
from edge_runtime.model.images import list_images

__all__ = ["DEVELOPMENT", "KNOWN", "REPORTED", "Known", "PhotographSet", "Places", "find", "known", "names_in"]

DEVELOPMENT, REPORTED = "development", "reported once"

TWINS = Path(__file__).resolve().parents[2] / "docs/results/magnetic-tile-twins.txt"
"""Photographs of tiles that are in the test set too, docs/results/twins.md."""

MVTEC, VISA, ELPV, TURNED = "mvtec-ad-", "visa-", "elpv-", "turned-"
"""How names of sets begin that lie elsewhere than below the data folder."""

ELPV_TRAIN_TENTHS = 7
"""Of the cells without a defect, in the order of the file; the rest, of other modules, is tested."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What a set is used for and what is aimed at on it."""

    role: str = REPORTED
    aim: float | None = None
    """Image AUROC"""
    upright: str | None = None
    """The set this one is a turned copy of: the aim is to lose at most .02 against it"""


KNOWN = {
    "aliens": Known(role=DEVELOPMENT, aim=0.99),
    "turned-aliens": Known(role=DEVELOPMENT, upright="aliens"),
    "mvtec-bottle": Known(role=DEVELOPMENT, aim=0.995),
    "turned-mvtec-pill": Known(role=DEVELOPMENT, upright="mvtec-pill"),
    "elpv-mono": Known(role=DEVELOPMENT, aim=0.77),
    "deep-pcb": Known(role=DEVELOPMENT),
    "mvtec-pill": Known(aim=0.97),
    "mvtec3d-tire": Known(aim=0.82),
    "kolektor": Known(aim=0.90),
    "elpv-poly": Known(aim=0.89),
    "magnetic-tile": Known(),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where sets are looked for."""

    data: Path
    """A folder a set"""
    work: Path
    """Where turned copies are kept"""
    elpv: Path | None = None
    """A folder with labels.csv somewhere below; None for the installed package elpv-dataset"""
    mvtec: Path | None = None
    """MVTec AD: a folder a category"""
    visa: Path | None = None
    """VisA with split_csv/1cls.csv, or its copy sorted into 1cls/CATEGORY/train, test, ground_truth"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotographSet:
    """Files of one set."""

    name: str
    train: tuple[Path, ...]
    """Believed normal"""
    good: tuple[Path, ...]
    """Normal ones to test"""
    defects: Mapping[str, tuple[Path, ...]]
    """Of each kind"""
    masks: Mapping[Path, Path] = field(default_factory=dict)
    """Of photographs among the defects"""

    def __post_init__(self) -> None:
        for what, n in (("train on", len(self.train)), ("test as good", len(self.good)), ("find", self.n_defects)):
            if not n:
                raise DataError(f"{self.name}: no photographs to {what}")

    @property
    def n_defects(self) -> int:
        """Of all kinds together."""
        return sum(map(len, self.defects.values()))

    def places(self) -> Iterator[tuple[str, Path]]:
        """Each file, masks too, with the place it has in MVTec AD's layout."""
        yield from ((f"train/good/{file.name}", file) for file in self.train)
        yield from ((f"test/good/{file.name}", file) for file in self.good)
        for kind, files in self.defects.items():
            yield from ((f"test/{kind}/{file.name}", file) for file in files)
            masked = ((file, self.masks[file]) for file in files if file in self.masks)
            yield from ((f"ground_truth/{kind}/{file.stem}_mask{mask.suffix}", mask) for file, mask in masked)

    @property
    def fingerprint(self) -> str:
        """Of the files' places and sizes: another one means other photographs."""
        lines = "".join(f"{place} {file.stat().st_size}\n" for place, file in self.places())
        return hashlib.sha256(lines.encode()).hexdigest()[:16]


def known(name: str) -> Known:
    """What is known of a set; of a user's own, that it is reported once."""
    return KNOWN.get(name, Known())


def names_in(places: Places) -> list[str]:
    """All sets that are known, and those of MVTec AD and VisA that were named a place."""
    names = list(KNOWN)
    if places.mvtec is not None:
        names += [f"{MVTEC}{folder.name}" for folder in _categories(places.mvtec)]
    if places.visa is not None:
        rows = _visa_rows(places.visa)
        objects = {row["object"] for row in rows} if rows else {folder.name for folder in _visa_folders(places.visa)}
        names += [f"{VISA}{name}" for name in sorted(objects)]
    return names


def find(name: str, places: Places) -> PhotographSet:
    """The set of a name; a turned one is made where it is missing. Raises DataError for one that is not here."""
    if name.startswith(TURNED):
        return _turned(name, places)
    if name.startswith(ELPV):
        return _elpv(name, places.elpv)
    if name.startswith(MVTEC) and places.mvtec is not None:
        return _folder(name, places.mvtec / name.removeprefix(MVTEC))
    if name.startswith(VISA) and places.visa is not None:
        return _visa(name, places.visa)
    left_out = TWINS.read_text().splitlines() if name == "magnetic-tile" else ()
    return _folder(name, places.data / name, left_out)


def _folder(name: str, folder: Path, left_out: Collection[str] = ()) -> PhotographSet:
    """train/good, test/good, test/KIND and, where there are any, masks ground_truth/KIND/NAME.png or NAME_mask.png.

    left_out: train/NAME of photographs that are not trained on.
    """
    if not (folder / "train").is_dir() or not (folder / "test").is_dir():
        raise DataError(f"{name}: no folders train and test in {folder}")
    twins = frozenset(left_out)
    train = folder / "train" / "good" if (folder / "train" / "good").is_dir() else folder / "train"
    kinds = sorted(path.name for path in (folder / "test").iterdir() if path.is_dir() and path.name != "good")
    defects = {kind: tuple(list_images(folder / "test" / kind)) for kind in kinds}
    masks = {}
    for kind, files in defects.items():
        of_kind = {mask.stem: mask for mask in list_images(folder / "ground_truth" / kind)}
        for file in files:
            mask = of_kind.get(f"{file.stem}_mask", of_kind.get(file.stem))
            if mask is not None:
                masks[file] = mask
    return PhotographSet(
        name=name,
        train=tuple(file for file in list_images(train) if f"train/{file.name}" not in twins),
        good=tuple(list_images(folder / "test" / "good")),
        defects=defects,
        masks=masks,
    )


def _turned(name: str, places: Places) -> PhotographSet:
    upright = find(name.removeprefix(TURNED), places)
    folder = places.work / "turned" / f"{name}-{upright.fingerprint}"
    turned_copy(list(upright.places()), folder)
    return _folder(name, folder)


def _elpv(name: str, folder: Path | None) -> PhotographSet:
    """Cells of one kind of module: probability 0 is normal, 1 a defect, what lies between is left out."""
    if folder is None:
        spec = importlib.util.find_spec("elpv_dataset")
        if spec is None or spec.origin is None:
            raise DataError(f"{name}: package elpv-dataset is not installed, and no --elpv FOLDER was named")
        folder = Path(spec.origin).parent
    tables = sorted(folder.rglob("labels.csv"))
    if not tables:
        raise DataError(f"{name}: no labels.csv below {folder}")
    rows = [line.split() for line in tables[0].read_text().splitlines() if line.strip()]
    of_kind = [(tables[0].parent / file, float(share)) for file, share, kind in rows if kind == name.removeprefix(ELPV)]
    good = [file for file, share in of_kind if share == 0.0]
    n_train = ELPV_TRAIN_TENTHS * len(good) // 10
    return PhotographSet(
        name=name,
        train=tuple(good[:n_train]),
        good=tuple(good[n_train:]),
        defects={"defect": tuple(file for file, share in of_kind if share == 1.0)},
    )


def _visa(name: str, folder: Path) -> PhotographSet:
    category = name.removeprefix(VISA)
    rows = [row for row in _visa_rows(folder) if row["object"] == category]
    if not rows:
        return _folder(name, next((path for path in _visa_folders(folder) if path.name == category), folder / category))
    files: dict[tuple[str, bool], list[Path]] = {}
    masks = {}
    for row in rows:
        image = folder / row["image"]
        files.setdefault((row["split"], row["label"] == "normal"), []).append(image)
        if row["mask"]:
            masks[image] = folder / row["mask"]
    return PhotographSet(
        name=name,
        train=tuple(files.get(("train", True), ())),
        good=tuple(files.get(("test", True), ())),
        defects={"defect": tuple(files.get(("test", False), ()))},
        masks=masks,
    )


def _visa_rows(folder: Path) -> list[dict[str, str]]:
    """Of the published split with one class a detector: object, split, label, image, mask; none where it is missing."""
    table = folder / "split_csv" / "1cls.csv"
    if not table.is_file():
        return []
    with table.open(newline="") as lines:
        return list(csv.DictReader(lines))


def _visa_folders(folder: Path) -> list[Path]:
    return _categories(folder / "1cls" if (folder / "1cls").is_dir() else folder)


def _categories(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    return sorted(path for path in folder.iterdir() if (path / "train").is_dir() and (path / "test").is_dir())
