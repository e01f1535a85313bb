"""Verification without torch: a bundle's graphs, and this machine's preprocessing, against its golden samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends import DETECTOR_OUTPUTS, Backend, onnx_session, open_backend, run_session
from edge_runtime.bundle.budgets import BUDGETS, Budget, Tolerance, detector_file
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.comparison import Comparison, Outputs, compare
from edge_runtime.bundle.golden import Golden, hashes_of
from edge_runtime.bundle.spread import criterion_spreads
from edge_runtime.errors import BundleError
from edge_runtime.gate.report import Check, GateReport, compare_outputs
from edge_runtime.model.alignment import ALIGNED, Placement
from edge_runtime.model.preprocess import Frame, Preprocess
from edge_runtime.model.prior import Prior
from edge_runtime.model.score import CRITERIA
from edge_runtime.model.self_reference import MASK
from edge_runtime.model.site_normal import SiteNormal, highest_sites

__all__ = [
    "DEFAULT_BACKEND",
    "check_bundle",
    "compare_preprocessing",
    "compare_prior",
    "detector_outputs",
    "run_graphs",
    "run_precision",
    "runs_every_graph",
    "verify_bundle",
]

CHUNK = 8
"""Frames that encoder and decoder take at once."""

DEFAULT_BACKEND = "onnxruntime-cpu"

LIKELIHOOD = "neg_log_prior"

PREPROCESSING: Mapping[str, Tolerance] = {
    # Grey levels: area interpolation rounds differently in OpenCV's vectorised paths.
    "network_input": Tolerance(atol=1.0, rtol=0.0),
    # Pixels of the network's input that the corners of a view may lie apart: grey levels one off moved them by 0.1.
    "view": Tolerance(atol=0.25, rtol=0.0),
    # Integer arithmetic on the same grey levels.
    "self_reference": Tolerance(atol=0.0, rtol=0.0),
}

RESIZED_CHANNELS = (0, MASK)
"""Of self-referenced inputs: grey and the valid mask, which follow from resizing alone."""


def detector_outputs(backend: Backend, inputs: NDArray[np.uint8]) -> Outputs:
    """The detector's outputs for (N, H, W, C) uint8 network inputs, one by one, for the graph's batch is 1."""
    raw = [backend.run(frame[None]) for frame in inputs]
    return Outputs(
        np.concatenate([outputs.criteria for outputs in raw]),
        np.concatenate([outputs.latent for outputs in raw]),
        np.concatenate([outputs.anomaly_map for outputs in raw]),
    )


def run_graphs(
    files: Mapping[str, bytes],
    inputs: NDArray[np.uint8],
    latent: NDArray[np.floating[Any]],
    *,
    threads: int = 0,
) -> Outputs:
    """All outputs of detector.onnx, encoder.onnx and decoder.onnx through onnxruntime on the CPU.

    inputs: (N, H, W, C) uint8; latent: (N, D) or (N, D, h, w) codes for the decoder, the reference's, so that its
    error is its own.
    """
    detector = onnx_session(files["detector.onnx"], threads=threads)
    frames = [run_session(detector, {"frame": frame[None]}) for frame in inputs]
    columns = [np.concatenate(column) for column in zip(*frames, strict=True)]
    by_name = dict(zip((output.name for output in detector.get_outputs()), columns, strict=True))
    missing = set(DETECTOR_OUTPUTS) - set(by_name)
    if missing:
        raise BundleError(f"detector.onnx lacks outputs {sorted(missing)}; export the bundle again")
    encoder = onnx_session(files["encoder.onnx"], threads=threads)
    decoder = onnx_session(files["decoder.onnx"], threads=threads)
    codes = np.asarray(latent, dtype=np.float32)
    encoded: list[NDArray[np.float32]] = []
    decoded: list[NDArray[np.float32]] = []
    for begin in range(0, len(inputs), CHUNK):
        part = inputs[begin : begin + CHUNK]
        x = np.ascontiguousarray(part.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255.0)
        encoded += run_session(encoder, {"x": x})
        decoded += run_session(decoder, {"z": codes[begin : begin + CHUNK]})
    return Outputs(
        by_name["criteria"], by_name["latent"], by_name["anomaly_map"], np.concatenate(encoded), np.concatenate(decoded)
    )


def runs_every_graph(precision: str, backend: str) -> bool:
    """Whether a check of the pair runs encoder and decoder too; others run the detector alone."""
    return precision == "fp32" and backend == DEFAULT_BACKEND


def run_precision(
    files: Mapping[str, bytes],
    inputs: NDArray[np.uint8],
    latent: NDArray[np.floating[Any]],
    *,
    precision: str = "fp32",
    backend: str = DEFAULT_BACKEND,
    threads: int = 0,
) -> Outputs:
    """All outputs of a precision's graphs through a backend; inputs, latent: as of run_graphs.

    Raises BackendError where the backend cannot run the graph here.
    """
    if runs_every_graph(precision, backend):
        return run_graphs(files, inputs, latent, threads=threads)
    graph = files[detector_file(precision)]
    return detector_outputs(open_backend(backend, graph, threads=threads, precision=precision), inputs)


def verify_bundle(
    bundle: Bundle,
    *,
    precision: str = "fp32",
    backend: str = DEFAULT_BACKEND,
    threads: int = 0,
    budget: Budget | None = None,
) -> GateReport:
    """The report of check_bundle."""
    return check_bundle(bundle, precision=precision, backend=backend, threads=threads, budget=budget).report


def check_bundle(
    bundle: Bundle,
    *,
    precision: str = "fp32",
    backend: str = DEFAULT_BACKEND,
    threads: int = 0,
    budget: Budget | None = None,
) -> Check:
    """One precision's detector, and this machine's preprocessing, against the bundle's golden samples.

    With fp32 through onnxruntime, encoder and decoder as well. budget: the precision's own where None. Raises
    BundleError where the bundle has no such graph, BackendError where the backend cannot run it.
    """
    golden = Golden.from_npz(bundle.files["golden.npz"])
    if golden.inputs.shape[1:] != bundle.preprocess.input_shape:
        raise BundleError(
            f"golden inputs are {golden.inputs.shape[1:]}, the network takes {bundle.preprocess.input_shape}; "
            "export the bundle again"
        )
    bundle.detector(precision)  # one that the bundle lacks is said, with those that it has
    inputs, reference = golden.every()
    actual = run_precision(
        bundle.files, inputs, reference.latent, precision=precision, backend=backend, threads=threads
    )
    spreads = criterion_spreads(bundle.manifest["calibration"])
    report = compare_outputs(
        reference,
        actual,
        bundle.criteria,
        bundle.decision,
        backend=backend,
        against="golden samples",
        precision=precision,
        budget=budget,
        spreads=spreads,
        contrast=golden.has_contrast,
        prior=compare_prior(golden, bundle.prior, spreads.get(LIKELIHOOD)),
        preprocessing=compare_preprocessing(golden, bundle.preprocess),
        altered=_altered(bundle, golden),
    )
    return Check(report=report, inputs=inputs, reference=reference, actual=actual)


def _altered(bundle: Bundle, golden: Golden) -> list[str]:
    """Files and parts of the manifest that the golden samples do not vouch for."""
    now = hashes_of(bundle.manifest, bundle.files)
    return sorted(
        {*bundle.altered_graphs, *(name for name, digest in golden.hashes.items() if now.get(name) != digest)}
    )


def compare_prior(golden: Golden, prior: Prior, spread: float | None) -> list[Comparison]:
    """What the bundle's prior says of the golden codes against the likelihood that PyTorch gave with them.

    spread: of the criterion. Empty for `patch`: which of its sites count depends on more than the codes.
    """
    codes, expected = golden.outputs.latent.astype(np.float32), golden.outputs.criteria[:, CRITERIA.index(LIKELIHOOD)]
    if isinstance(prior, SiteNormal):
        found = highest_sites(prior.neg_log_density(codes)) if codes.shape[1:] == prior.mean.shape else codes
    elif codes.ndim == 2:
        found = prior.neg_log_density(codes) if codes.shape[1] == prior.dim else codes
    else:
        return []
    varies = min(spread or 0.0, float(np.ptp(expected)))
    return [compare(f"prior.npz: {LIKELIHOOD}", expected, found, BUDGETS["fp32"].of_criterion(varies), spread=spread)]


def compare_preprocessing(golden: Golden, preprocess: Preprocess) -> list[Comparison]:
    """What this machine's preprocessing makes of the raw golden frames against what it made at export.

    Frames may be resized a grey level apart, which near black is a large step of the logarithm; so derived channels
    are made again from the reference's own grey frame, and must then be the same to the byte. An aligned view must lie
    where it lay, and is warped from where it lay: a tenth of a pixel at an edge is many grey levels.
    """
    if not golden.raw_frames:
        return []
    expected = [image if image.ndim == 4 else image[None] for image in golden.raw_inputs]
    comparisons = []
    placements: list[Placement | None] = [None] * len(golden.raw_frames)
    if preprocess.align is not None:
        comparisons.append(_compare_views(golden, preprocess))
        placements = [_placement_of(matrix) for matrix in golden.raw_views] or placements
    came = [preprocess.tiles(frame, place) for frame, place in zip(golden.raw_frames, placements, strict=True)]
    if preprocess.self_reference == "none":
        return [*comparisons, _compare_tiles("network_input", expected, [tiles for tiles, _ in came])]
    resized = [tiles[..., RESIZED_CHANNELS] for tiles in expected]
    comparisons += [_compare_tiles("network_input", resized, [tiles[..., RESIZED_CHANNELS] for tiles, _ in came])]
    if all(tiles.shape == reference.shape for reference, (tiles, _) in zip(expected, came, strict=True)):
        again = [
            preprocess.tiles_of(tiling.assemble(reference)[:, :, :1], tiling)
            for reference, (_, tiling) in zip(expected, came, strict=True)
        ]
        comparisons.append(_compare_tiles("self_reference", expected, again))
    return comparisons


def _compare_views(golden: Golden, preprocess: Preprocess) -> Comparison:
    """The corners of the views found here against those at export, in pixels of the network's input."""
    height, width, _ = preprocess.input_shape
    found = [preprocess.place(frame) for frame in golden.raw_frames]
    here = np.array([place.corners(height, width) for place in found if place is not None])  # (N, 4, 2)
    pixel = np.linalg.norm(here[:, 1] - here[:, 0], axis=1)[:, None, None] / width
    there = np.array([_placement_of(matrix).corners(height, width) for matrix in golden.raw_views])
    if there.shape != here.shape:
        return compare("preprocess: view", there, here, PREPROCESSING["view"])
    return compare("preprocess: view", there / pixel, here / pixel, PREPROCESSING["view"])


def _placement_of(matrix: NDArray[np.float64]) -> Placement:
    first, second = ((float(a), float(b), float(c)) for a, b, c in matrix)
    return Placement(code=ALIGNED, matrix=(first, second))


def _compare_tiles(name: str, expected: Sequence[Frame], came: Sequence[Frame]) -> Comparison:
    """Frames' tiles as one comparison; worst_frame is a frame, not a tile."""
    where = f"preprocess: {name}"
    for index, (reference, tiles) in enumerate(zip(expected, came, strict=True)):
        if reference.shape != tiles.shape:
            return replace(compare(where, reference, tiles, PREPROCESSING[name]), worst_frame=index)
    comparison = compare(where, np.concatenate(expected), np.concatenate(came), PREPROCESSING[name])
    frame_of_tile = np.repeat(np.arange(len(expected)), [len(tiles) for tiles in expected])
    return replace(comparison, worst_frame=int(frame_of_tile[comparison.worst_frame]))
