"""Golden samples: real images with the outputs PyTorch gave for them, by which a device verifies without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.archive import sha256
from edge_runtime.backends import DETECTOR_OUTPUTS, onnx_session, run_session
from edge_runtime.bundle import Bundle
from edge_runtime.comparison import TOLERANCES, Comparison, GateReport, Outputs, compare, compare_outputs
from edge_runtime.errors import BundleError
from edge_runtime.npz import npz_bytes, read_npz
from edge_runtime.preprocess import Frame, Preprocess
from edge_runtime.self_reference import MASK

__all__ = ["Golden", "compare_preprocessing", "run_graphs", "verify_bundle"]

OUTPUT_DIMS = {"criteria": (2,), "latent": (2, 4), "anomaly_map": (3,), "x_hat": (4,)}
"""Dimensions that the reference outputs may have; a latent of four has a code at every site."""

RESIZED_CHANNELS = (0, MASK)
"""Of self-referenced inputs: grey and the valid mask, which follow from resizing alone."""


@dataclass(frozen=True, slots=True)
class Golden:
    """golden.npz: network inputs with PyTorch's float32 outputs, and a few frames as they came from the camera."""

    inputs: NDArray[np.uint8]
    """(N, H, W, C)"""
    outputs: Outputs
    raw_frames: tuple[Frame, ...] = ()
    raw_inputs: tuple[Frame, ...] = ()
    """What preprocessing made of each raw frame where the bundle was exported: (H, W, C), or (T, H, W, C) tiles"""
    graphs: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by name of the graphs that these outputs vouch for. A changed weight of a unit that no sample wakes
    leaves every output as it was: the hash still tells."""

    def to_npz(self) -> bytes:
        """The bytes of golden.npz; the same samples give the same bytes."""
        return npz_bytes(
            {
                "inputs": self.inputs,
                "criteria": self.outputs.criteria,
                "latent": self.outputs.latent,
                "anomaly_map": self.outputs.anomaly_map,
                "x_hat": self.outputs.x_hat,
                **{f"frame_{index}": frame for index, frame in enumerate(self.raw_frames)},
                **{f"frame_{index}_input": frame for index, frame in enumerate(self.raw_inputs)},
                **{f"sha256_{name}": np.array(digest) for name, digest in self.graphs.items()},
            }
        )

    @classmethod
    def from_npz(cls, content: bytes) -> Golden:
        """The samples read back; raises BundleError for pickles and missing arrays."""
        arrays = read_npz(content, name="golden.npz")
        n_raw = sum(key.startswith("frame_") and key.endswith("_input") for key in arrays)
        try:
            latent = arrays["latent"]
            outputs = Outputs(arrays["criteria"], latent, arrays["anomaly_map"], latent, arrays["x_hat"])
            golden = cls(
                arrays["inputs"],
                outputs,
                tuple(arrays[f"frame_{index}"] for index in range(n_raw)),
                tuple(arrays[f"frame_{index}_input"] for index in range(n_raw)),
                {key.removeprefix("sha256_"): str(arrays[key]) for key in arrays if key.startswith("sha256_")},
            )
        except KeyError as error:
            raise BundleError(f"golden.npz lacks array {error}; export the bundle again") from error
        golden._check()
        return golden

    def _check(self) -> None:
        _check_array("inputs", self.inputs, "(N, H, W, C) uint8 with N > 0", "u1", (4,))
        for name, n_dims in OUTPUT_DIMS.items():
            shape = f"{' or '.join(map(str, n_dims))} dimensions of float, the first N"
            _check_array(name, getattr(self.outputs, name), shape, "f2 f4 f8", n_dims)
        for index, image in enumerate(self.raw_inputs):
            expected = f"{self.inputs.shape[1:]} uint8, or several of them"
            _check_array(f"frame_{index}_input", image, expected, "u1", (3, 4))
            if image.shape[-3:] != self.inputs.shape[1:]:
                raise _unfit(f"frame_{index}_input", image, expected)


def _check_array(name: str, array: NDArray[Any], expected: str, dtypes: str, n_dims: tuple[int, ...]) -> None:
    if array.dtype.str[1:] not in dtypes.split() or array.ndim not in n_dims or len(array) == 0:
        raise _unfit(name, array, expected)


def _unfit(name: str, array: NDArray[Any], expected: str) -> BundleError:
    return BundleError(
        f"golden.npz has {name} {array.shape} {array.dtype}, expected {expected}; export the bundle again"
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
    x = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255.0)
    encoder = onnx_session(files["encoder.onnx"], threads=threads)
    decoder = onnx_session(files["decoder.onnx"], threads=threads)
    (encoded,) = run_session(encoder, {"x": x})
    (decoded,) = run_session(decoder, {"z": np.asarray(latent, dtype=np.float32)})
    return Outputs(by_name["criteria"], by_name["latent"], by_name["anomaly_map"], encoded, decoded)


def verify_bundle(bundle: Bundle, *, threads: int = 0) -> GateReport:
    """The bundle's graphs and this machine's preprocessing against the bundle's golden samples; needs no torch."""
    golden = Golden.from_npz(bundle.files["golden.npz"])
    if golden.inputs.shape[1:] != bundle.preprocess.input_shape:
        raise BundleError(
            f"golden inputs are {golden.inputs.shape[1:]}, the network takes {bundle.preprocess.input_shape}; "
            "export the bundle again"
        )
    actual = run_graphs(bundle.files, golden.inputs, golden.outputs.latent, threads=threads)
    report = compare_outputs(
        golden.outputs,
        actual,
        bundle.criteria,
        bundle.decision,
        backend="onnxruntime-cpu",
        against="golden samples",
    )
    altered = {
        *bundle.altered_graphs,
        *(name for name, digest in golden.graphs.items() if sha256(bundle.files.get(name, b"")) != digest),
    }
    return replace(
        report,
        comparisons=(*report.comparisons, *compare_preprocessing(golden, bundle.preprocess)),
        altered_graphs=tuple(sorted(altered)),
    )


def compare_preprocessing(golden: Golden, preprocess: Preprocess) -> list[Comparison]:
    """What this machine's preprocessing makes of the raw golden frames against what it made at export.

    Frames may be resized a grey level apart, which near black is a large step of the logarithm; so derived channels
    are made again from the reference's own grey frame, and must then be the same to the byte.
    """
    if not golden.raw_frames:
        return []
    expected = [image if image.ndim == 4 else image[None] for image in golden.raw_inputs]
    came = [preprocess.tiles(frame) for frame in golden.raw_frames]
    if preprocess.self_reference == "none":
        return [_compare_tiles("network_input", expected, [tiles for tiles, _ in came])]
    resized = [tiles[..., RESIZED_CHANNELS] for tiles in expected]
    comparisons = [_compare_tiles("network_input", resized, [tiles[..., RESIZED_CHANNELS] for tiles, _ in came])]
    if all(tiles.shape == reference.shape for reference, (tiles, _) in zip(expected, came, strict=True)):
        again = [
            preprocess.tiles_of(tiling.assemble(reference)[:, :, :1], tiling)
            for reference, (_, tiling) in zip(expected, came, strict=True)
        ]
        comparisons.append(_compare_tiles("self_reference", expected, again))
    return comparisons


def _compare_tiles(name: str, expected: Sequence[Frame], came: Sequence[Frame]) -> Comparison:
    """Frames' tiles as one comparison; worst_frame is a frame, not a tile."""
    where = f"preprocess: {name}"
    for index, (reference, tiles) in enumerate(zip(expected, came, strict=True)):
        if reference.shape != tiles.shape:
            return replace(compare(where, reference, tiles, TOLERANCES[name]), worst_frame=index)
    comparison = compare(where, np.concatenate(expected), np.concatenate(came), TOLERANCES[name])
    frame_of_tile = np.repeat(np.arange(len(expected)), [len(tiles) for tiles in expected])
    return replace(comparison, worst_frame=int(frame_of_tile[comparison.worst_frame]))
