"""Scores frames with numpy and onnxruntime alone. What it takes and what it leaves out stands in README.txt.

python reference.py [--graph FILE] FRAME.npy...   scores these
python reference.py [--graph FILE]                compares with golden/, exit status 1 where something differs
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FOLDER = Path(__file__).resolve().parent
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
HOW, RULE = MANIFEST["preprocess"], MANIFEST["decision"]


def resized(x: Any, height: int, width: int) -> Any:
    """(rows, columns, C) uint8 -> (height, width, C), as cv2.resize gives it but for single grey levels."""
    rows, columns = x.shape[:2]
    if (rows, columns) == (height, width):
        return x
    if HOW["interpolation"] == "nearest":
        return x[np.arange(height) * rows // height][:, np.arange(width) * columns // width]
    if HOW["interpolation"] == "area" and height <= rows and width <= columns:
        mean = np.moveaxis(shares(height, rows) @ np.moveaxis(x, 2, 0) @ shares(width, columns).T, 0, 2)
        half_up = (rows, columns) == (2 * height, 2 * width)
        return (np.floor(mean + 0.5) if half_up else np.rint(mean)).astype(np.uint8)
    left, right, weight = neighbours(width, columns)
    x = (x[:, left] * (2048 - weight)[:, None] + x[:, right] * weight[:, None]) >> 4
    top, bottom, weight = neighbours(height, rows)
    above, below = x[top] * (2048 - weight)[:, None, None] >> 16, x[bottom] * weight[:, None, None] >> 16
    return ((above + below + 2) >> 2).astype(np.uint8)


def shares(n_out: int, n_in: int) -> Any:
    """(n_out, n_in): what each pixel adds to each mean over an area."""
    first, pixel = np.arange(n_out)[:, None] * n_in / n_out, np.arange(n_in)
    covered = np.minimum(first + n_in / n_out, pixel + 1) - np.maximum(first, pixel)
    return np.maximum(covered, 0) * n_out / n_in


def neighbours(n_out: int, n_in: int) -> Any:
    """Of each pixel the two around its place, and the second one's weight in 2048ths."""
    place = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    first = place.astype(np.int64)
    return first, np.minimum(first + 1, n_in - 1), np.rint((place - first) * 2048).astype(np.int64)


def prepared(frame: Any) -> Any:
    """The network's input (height, width, C) of a frame, (H, W) grey or (H, W, 3) BGR uint8."""
    x = frame.reshape(*frame.shape[:2], -1)
    left, top, width, height = HOW["roi"] or (0, 0, x.shape[1], x.shape[0])
    if frame.dtype != np.uint8 or x.shape[2] not in (1, 3) or top + height > x.shape[0] or left + width > x.shape[1]:
        sys.exit(f"frame is {frame.shape} {frame.dtype}, expected uint8, (H, W) or (H, W, 3), around {HOW['roi']}")
    x = x[top : top + height, left : left + width]
    if HOW["channels"] < x.shape[2]:
        x = ((x @ np.array([3735, 19235, 9798]) + 16384) >> 15).astype(np.uint8)[:, :, None]
    height, width, channels = MANIFEST["input"]["shape"]
    if HOW["fit"] == "letterbox":
        scale = min(height / x.shape[0], width / x.shape[1])
        size = [max(1, min(most, round(n * scale))) for n, most in zip(x.shape, (height, width), strict=False)]
        canvas = np.full((height, width, channels), 114, dtype=np.uint8)
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        canvas[top : top + size[0], left : left + size[1]] = resized(x, *size)
        return canvas
    return np.broadcast_to(resized(x, height, width), (height, width, channels))


def score(session: Any, inputs: Any) -> tuple[float, dict[str, float]]:
    """Score and criteria of a frame's network inputs, (height, width, C) or (T, height, width, C); higher is worse."""
    tiles = inputs.reshape(-1, *inputs.shape[-3:])
    if tiles.dtype != np.uint8 or list(tiles.shape[1:]) != MANIFEST["input"]["shape"]:
        sys.exit(f"network input is {inputs.shape} {inputs.dtype}, expected {MANIFEST['input']['shape']} uint8")
    rows = [session.run(["criteria"], {"frame": np.ascontiguousarray(tile[None])})[0][0] for tile in tiles]
    value = dict(zip(MANIFEST["criteria"], np.max(rows, axis=0).astype(float).tolist(), strict=True))
    if RULE["rule"] == "union":
        of = RULE["limits"]
        return max(
            (value[name] - of[name]["center"]) / (of[name]["threshold"] - of[name]["center"]) for name in of
        ), value
    total = 0.0
    for name, term in RULE["terms"].items():
        above = value[name] - term["floor"]
        total += term["weight"] * (np.log(max(above, 1e-12)) if term["transform"] == "log" else above)
    return float((total - RULE["limit"]["center"]) / (RULE["limit"]["threshold"] - RULE["limit"]["center"])), value


def main() -> int:
    """Print a line for each frame; those of golden/ with what was expected, where that differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", default="detector.onnx")
    parser.add_argument("frames", nargs="*")
    asked, n_differ = parser.parse_args(), 0
    session = onnxruntime.InferenceSession(FOLDER / asked.graph, providers=["CPUExecutionProvider"])
    kind = "frame" if MANIFEST["reference_takes_frames"] else "input"
    rows = [{"file": name, "kind": kind} for name in asked.frames]
    rows = rows or list(csv.DictReader((FOLDER / "golden" / f"{Path(asked.graph).stem}.csv").read_text().splitlines()))
    for row in rows:
        given = np.load(row["file"] if asked.frames else FOLDER / "golden" / row["file"])
        found, value = score(session, prepared(given) if row["kind"] == "frame" else given)
        verdict = "anomalous" if found > RULE["threshold"] else "normal"
        print(f"{row['file']} {found:.6f} {verdict}", *(f"{name}={number:.6g}" for name, number in value.items()))
        if not asked.frames:
            error = abs(max(found, 0.0) - max(float(row["score"]), 0.0))
            if not error <= float(row["tolerance"]) or row["decision"] not in (verdict, "either"):
                print(f"  differs: expected {row['score']} within {row['tolerance']}, {row['decision']}")
                n_differ += 1
    return min(n_differ, 1)


if __name__ == "__main__":
    sys.exit(main())
