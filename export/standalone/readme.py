"""README.txt of the folder: what is in it, how it is tried, and what the references leave to whoever uses it."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_runtime import __version__
from edge_runtime.bundle.bundle import Bundle
from export.standalone.samples import takes_frames

__all__ = ["before_the_references", "left_out", "readme"]

WIDTH = 100
"""Characters of a line."""
RULES = "docs/bundle.md of edge-aae"


def before_the_references(bundle: Bundle) -> list[str]:
    """What has to be done to a camera frame before the references take it; empty where they take frames."""
    how = bundle.preprocess
    if takes_frames(how):
        return []
    height, width, channels = how.input_shape
    steps = [] if how.roi is None else ["cut the region of interest out: `roi`, x, y, width, height in frame pixels"]
    if how.channels == 1:
        steps.append("convert colour to grey: (3735 B + 19235 G + 9798 R + 16384) >> 15")
    if how.align is not None:
        steps.append(
            f"find the part and warp the view that follows it, `align`, onto {height}x{width} pixels: {RULES}, `The "
            "view`; edge_runtime/model/alignment.py does it"
        )
    elif how.fit == "tile":
        steps.append(f"scale both sides by {how.scale:g}, interpolation {how.interpolation}")
    else:
        steps.append(f"resize to {height}x{width}, fit {how.fit}, interpolation {how.interpolation}")
    if how.self_reference != "none":
        steps.append(
            f"derive {channels} channels from the whole scaled frame, `self_reference` {how.self_reference}: {RULES}, "
            "`Self-referenced channels`; edge_runtime/model/self_reference.py does it"
        )
    if how.fit == "tile":
        steps.append(
            f"cut tiles of {height}x{width} that share {how.overlap} pixels or more: {RULES}, `Tiles`; "
            "edge_runtime/model/tiling.py does it; a frame is the stack of its tiles, (T, height, width, channels)"
        )
    return steps


def left_out(bundle: Bundle) -> list[str]:
    """What edge-aae does with this bundle, beside scoring, and the references do not."""
    found = []
    levels = bundle.preprocess.levels
    if levels is not None:
        low, high = levels
        found.append(
            f"16-bit images: level x becomes floor(255 (x - {low}) / {high - low}), cut off at 0 and 255, before the "
            "references, which take 8 bits"
        )
    if bundle.defect_size.min_area is not None:
        found.append(
            f"the smallest area, {bundle.defect_size.min_area}: edge-aae calls a frame above the threshold normal "
            "where all regions of the map are smaller; the references, and golden/, decide by the score alone"
        )
    if bundle.quality_limits is not None:
        found.append("telling pictures that are blurred, dark or bright unlike those trained on")
    return [
        *found,
        "heatmaps in frame coordinates (`anomaly_map` is over the network input), regions, masks",
        "orientation tags of image files, alarms over time, a threshold calibrated on site",
    ]


def readme(bundle: Bundle, graphs: Mapping[str, Mapping[str, Any]]) -> str:
    """The text. graphs: as in the folder's manifest."""
    template = string.Template((Path(__file__).parent / "README.txt").read_text(encoding="utf-8"))
    return template.substitute(
        digest=bundle.digest,
        version=__version__,
        graphs=_listed([f"{name}: {_graph_line(facts)}" for name, facts in graphs.items()]),
        takes=_takes(bundle),
        left_out=_listed(left_out(bundle)),
        weights=_filled(_weights(bundle), "  "),
    )


def _takes(bundle: Bundle) -> str:
    steps = before_the_references(bundle)
    if not steps:
        return _filled(
            "Frames as the camera gives them, (H, W) grey or (H, W, 3) BGR, uint8, of any size that holds the region "
            "of interest. They do all of `preprocess`: region, grey, resizing, bars. Resizing gives what OpenCV gives, "
            "but for single grey levels.",
            "  ",
        )
    shape = ", ".join(map(str, bundle.preprocess.input_shape))
    said = (
        f"NETWORK INPUTS, ({shape}) uint8, or the stack of those of a frame, and no camera frames; golden/ holds such "
        "inputs. Before it, this has to be done to a frame, in this order:"
    )
    numbered = [_filled(step, f"  {number}. ") for number, step in enumerate(steps, 1)]
    return "\n".join([_filled(said, "  "), *numbered])


def _weights(bundle: Bundle) -> str:
    backbone = bundle.manifest["model"].get("backbone")
    data = bundle.manifest["training"].get("data", {}).get("path")
    trained = "trained by whoever exported this" + (f", on {data}" if data else "")
    if not isinstance(backbone, Mapping):
        return f"The graphs hold no weights of others: all were {trained}."
    return (
        f"The graphs hold weights of {backbone.get('name')} ({backbone.get('architecture')}). Licence: "
        f"{backbone.get('licence')}. Origin: {backbone.get('origin')}. All others were {trained}."
    )


def _graph_line(facts: Mapping[str, Any]) -> str:
    gate = ", ".join(f"{name} {verdict}" for name, verdict in facts["gate"].items())
    return f"{facts['precision']}, {facts['purpose']}{f'; parity gate at export: {gate}' if gate else ''}"


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(_filled(line, "  - ") for line in lines)


def _filled(text: str, first: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
