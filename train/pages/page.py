"""One self-contained HTML page, and the pieces that it is made of: sections, tables, figures, pictures.

Without scripts, readable in print and in the dark. run_page.py and bundle_page.py say what stands on it.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge_runtime.files import write_atomically
from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.heatmap import HeatScale, overlay
from edge_runtime.verdict import head_line, order_line
from train.evaluation.plots import figures_of
from train.evaluation.report import Report
from train.evaluation.report_forms import lines_of
from train.pages.figures import STYLE as STYLE_OF_FIGURES
from train.pages.figures import svg_of
from train.runs.pictures import tile
from train.runs.view_choice import ViewChoice

__all__ = [
    "as_text",
    "contamination",
    "drawing",
    "facts",
    "folded",
    "found_rows",
    "heat_picture",
    "labelled_images",
    "picture",
    "pictures_with_map",
    "section",
    "sheet",
    "still",
    "table",
    "views",
    "write_page",
]

STYLE = Path(__file__).with_name("page.css")
"""The one stylesheet of all pages that are files: of a training, of a bundle, of the demo"""

SEEN_SIDE = 256
"""Pixels of the longer side of the pictures that a page opens with."""
JPEG_QUALITY = 85

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Write the sections as one HTML file. Raises DataError."""
    body, style = "\n".join(sections), STYLE.read_text(encoding="utf-8")
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{as_text(title)}</title>\n'
        f'<link rel="icon" href="data:,">\n<style>\n{style}</style>\n</head>\n<body>\n'
        f"<h1>{as_text(title)}</h1>\n{body}\n"
        "</body>\n</html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode("utf-8", errors="replace"))


def labelled_images(report: Report) -> str:
    """The section about an evaluation: its lines and its figures."""
    with matplotlib.rc_context(STYLE_OF_FIGURES):
        drawn = [(name.removesuffix(".png").replace("_", " "), figure) for name, figure in figures_of(report)]
    figures = "".join(drawing(figure, name) for name, figure in drawn)
    lines = as_text("\n".join(lines_of(report)))
    return section("On labelled images", f'<pre>{lines}</pre><div class="two">{figures}</div>')


def views(choice: ViewChoice) -> str:
    """The section about how the view was chosen."""
    rows = [(line.name, "x".join(map(str, line.size)), line.figure, line.remark) for line in choice.figures]
    compared = (
        f" Compared on {choice.n_images} photographs and {choice.n_copies} copies of them with a synthetic defect, by "
        f"features of {choice.backbone}."
        if choice.n_images
        else ""
    )
    told = as_text(f"{choice.chosen}: {choice.reason}.{compared}")
    return folded("Views", f'{table(["view", "input", "", ""], rows)}<p class="quiet">{told}</p>')


def contamination(calibration: dict[str, Any]) -> list[tuple[str, str]]:
    """The row of a table of facts about the estimated contamination, none where it was not estimated."""
    found = calibration.get("contamination")
    if not found:
        return []
    return [("contamination", f"{found['share']:.1%} estimated ({found['low']:.1%} to {found['high']:.1%})")]


def found_rows(calibration: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of a table of facts: about the order of the images and about the head, where there is something to say."""
    rows = (("order", order_line(calibration)), ("head", head_line(calibration)))
    return [(name, line) for name, line in rows if line]


def folded(title: str, content: str) -> str:
    """A section that stands closed until its reader opens it; on paper it is open."""
    return f"<details>\n<summary>{as_text(title)}</summary>\n{content}\n</details>" if content else ""


def section(title: str, content: str) -> str:
    """A heading and what stands under it."""
    return f"<section>\n<h2>{as_text(title)}</h2>\n{content}\n</section>"


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """A table of names and what they are."""
    return table(["", ""], rows).replace("<table>", '<table class="facts">', 1)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose rows begin with their name; header: a name a column, all empty for none."""
    head = f"<tr>{''.join(f'<th>{as_text(name)}</th>' for name in header)}</tr>" if any(header) else ""
    body = "".join(
        f"<tr><th scope='row'>{as_text(row[0])}</th>{''.join(f'<td>{as_text(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return f"<table>{head}{body}</table>"


def drawing(figure: Figure, title: str, caption: str = "") -> str:
    """A figure; title: what a reader hears who does not see it."""
    told = f"<figcaption>{as_text(caption)}</figcaption>" if caption else ""
    return f"<figure>{svg_of(figure, title)}{told}</figure>"


def sheet(pictures: Iterable[str]) -> str:
    """Pictures, as picture and pictures_with_map give them, side by side."""
    return f'<div class="sheet">{"".join(pictures)}</div>'


def picture(image: Frame, caption: str) -> str:
    """A training image as a person sees it, at most a sheet's tile large."""
    square = tile(np.ascontiguousarray(image), "")
    encoded = base64.b64encode(cv2.imencode(".png", square[: square.shape[1]])[1].tobytes()).decode("ascii")
    told = as_text(caption)
    return f'<figure><img alt="{told}" src="data:image/png;base64,{encoded}"><figcaption>{told}</figcaption></figure>'


def pictures_with_map(
    image: Frame, caption: str, x_hat: NDArray[np.float32] | None, anomaly_map: NDArray[np.float32], scale: HeatScale
) -> list[str]:
    """An image, what its code is decoded to where that is an image too, and the image under its map.

    x_hat: (C, H, W) in [0, 1]; anomaly_map: (h, w).
    """
    found = [picture(image, caption)]
    if x_hat is not None:
        found.append(picture((255.0 * np.clip(x_hat, 0.0, 1.0)).astype(np.uint8).transpose(1, 2, 0), "decoded"))
    return [*found, picture(_under_map(image, anomaly_map, scale), "map")]


def still(image: Frame) -> str:
    """An image as the address of an <img>: its longer side SEEN_SIDE pixels, photographs as JPEG, tiny ones as PNG."""
    factor = SEEN_SIDE / max(image.shape[:2])
    size = max(1, round(factor * image.shape[1])), max(1, round(factor * image.shape[0]))
    if factor == 1.0:
        seen = image
    else:
        seen = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if factor > 1.0 else cv2.INTER_AREA)  # type: ignore[assignment]
    kind, options = ("png", []) if factor > 1.0 else ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    encoded = cv2.imencode(f".{kind}", np.ascontiguousarray(_seen(seen)), options)[1].tobytes()
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"


def heat_picture(image: Frame, anomaly_map: NDArray[np.float32], scale: HeatScale) -> str:
    """An image under its map, as `still` gives it. anomaly_map: (h, w) over the whole image."""
    return still(_under_map(image, anomaly_map, scale))


def _under_map(image: Frame, anomaly_map: NDArray[np.float32], scale: HeatScale) -> Frame:
    heat: Any = cv2.resize(anomaly_map, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return overlay(np.ascontiguousarray(_seen(image)), heat, scale)


def _seen(image: Frame) -> Frame:
    """What a person sees of an image: (H, W) grey or (H, W, 3) BGR; grey comes first of self-referenced channels."""
    return image if image.ndim == 2 or image.shape[2] == 3 else image[:, :, 0]


def as_text(words: str) -> str:
    """Words as HTML shows them; bytes of file names that are no UTF-8 become question marks."""
    return html.escape(words.encode("utf-8", errors="replace").decode("utf-8"))
