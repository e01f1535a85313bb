"""Golden samples: real images with the outputs PyTorch gave for them, so that a device verifies a bundle without torch.

Also the comparison that every parity check uses, here and in export: what is compared, how, and within which bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.archive import sha256
from edge_runtime.backends import DETECTOR_OUTPUTS, onnx_session, run_session
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError
from edge_runtime.metrics import rank_correlation
from edge_runtime.npz import npz_bytes, read_npz
from edge_runtime.preprocess import Frame, Preprocess
from edge_runtime.score import Decision

__all__ = [
    "Comparison",
    "GateReport",
    "Golden",
    "Outputs",
    "TOLERANCES",
    "Tolerance",
    "compare_outputs",
    "run_graphs",
    "verify_bundle",
]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """An output passes where |actual - reference| <= atol + rtol |reference|, element by element."""

    atol: float
    rtol: float


TOLERANCES: Mapping[str, Tolerance] = {
    # Convolutions summed in another order differ by a few float32 steps (1.2e-7) of the largest partial sum; over a
    # dozen layers 1e-6 was seen on reconstructions in [0, 1]. Ten times that still shows one perturbed weight.
    "x_hat": Tolerance(atol=1e-5, rtol=0.0),
    # A squared difference doubles the error of x_hat, to which the detector's own code adds; 7e-6 was seen on noise.
    "anomaly_map": Tolerance(atol=5e-5, rtol=0.0),
    # Codes are unbounded sums over some thousand features; their error grows with their size.
    "latent": Tolerance(atol=1e-4, rtol=1e-4),
    # sqrt of a sum of up to a million squares, and a sum of squared codes, both carry the relative error above.
    "criteria": Tolerance(atol=1e-4, rtol=1e-4),
    # Grey levels: area interpolation rounds differently in OpenCV's vectorised paths.
    "network_input": Tolerance(atol=1.0, rtol=0.0),
}
"""FP32 graphs against PyTorch in float32; also the device's preprocessing against the one training used."""

MIN_RANK_CORRELATION = 0.999
"""Of fused scores; FP32 errors may only swap near-ties."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Every output of the three graphs, or of PyTorch, for the same N network inputs."""

    criteria: NDArray[np.floating[Any]]
    """(N, K)"""
    latent: NDArray[np.floating[Any]]
    """(N, D), the detector's"""
    anomaly_map: NDArray[np.floating[Any]]
    """(N, h, w)"""
    encoder_latent: NDArray[np.floating[Any]]
    """(N, D), the encoder's"""
    x_hat: NDArray[np.floating[Any]]
    """(N, C, H, W), the decoder's for the reference codes"""


@dataclass(frozen=True, slots=True)
class Golden:
    """golden.npz: network inputs with PyTorch's float32 outputs, and a few frames as they came from the camera."""

    inputs: NDArray[np.uint8]
    """(N, H, W, C)"""
    outputs: Outputs
    raw_frames: tuple[Frame, ...] = ()
    raw_inputs: tuple[Frame, ...] = ()
    """What preprocessing made of the raw frames where the bundle was exported"""
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
        if golden.inputs.dtype != np.uint8 or golden.inputs.ndim != 4 or len(golden.inputs) == 0:
            raise BundleError(
                f"golden.npz has inputs {golden.inputs.shape} {golden.inputs.dtype}, "
                "expected (N, H, W, C) uint8 with N > 0; export the bundle again"
            )
        return golden


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far one output lies from its reference."""

    where: str
    """Graph and output, such as `decoder.onnx: x_hat`"""
    max_error: float
    """Largest absolute difference; infinite where shapes differ or a value is not finite"""
    p99_error: float
    mean_error: float
    tolerance: Tolerance
    worst_frame: int
    """Index of the frame with the largest excess"""
    passed: bool


@dataclass(frozen=True, slots=True)
class GateReport:
    """The verdict of one parity check."""

    backend: str
    reference: str
    n_frames: int
    comparisons: tuple[Comparison, ...]
    decision_flips: int
    """Frames on whose anomaly the two sides disagree"""
    score_rank_correlation: float
    altered_graphs: tuple[str, ...] = ()
    """Graphs that are not, byte for byte, those the reference was taken from"""

    @property
    def passed(self) -> bool:
        """Whether every output lies within its tolerance and no decision flips."""
        return not self.failures()

    def failures(self) -> list[str]:
        """One line for each thing that failed, empty where the gate passed."""
        lines = [
            f"{item.where} differs from {self.reference}: max error {item.max_error:.3g} at frame {item.worst_frame}, "
            f"allowed {item.tolerance.atol:g} + {item.tolerance.rtol:g} x |reference|"
            for item in self.comparisons
            if not item.passed
        ]
        lines += [
            f"{name} is not the graph that was exported: its SHA-256 differs from the one the golden samples vouch for"
            for name in self.altered_graphs
        ]
        if self.decision_flips:
            lines.append(f"{self.decision_flips} of {self.n_frames} decisions flip; expected none")
        if not self.score_rank_correlation >= MIN_RANK_CORRELATION:
            lines.append(
                f"rank correlation of scores is {self.score_rank_correlation:.6f}, "
                f"expected at least {MIN_RANK_CORRELATION}"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """The report for the manifest and for --json; an infinite error becomes null."""
        return {
            "backend": self.backend,
            "reference": self.reference,
            "n_frames": self.n_frames,
            "passed": self.passed,
            "decision_flips": self.decision_flips,
            "score_rank_correlation": _finite(self.score_rank_correlation),
            "altered_graphs": list(self.altered_graphs),
            "outputs": {
                item.where: {
                    "max": _finite(item.max_error),
                    "p99": _finite(item.p99_error),
                    "mean": _finite(item.mean_error),
                    "atol": item.tolerance.atol,
                    "rtol": item.tolerance.rtol,
                    "passed": item.passed,
                }
                for item in self.comparisons
            },
        }


def run_graphs(
    files: Mapping[str, bytes],
    inputs: NDArray[np.uint8],
    latent: NDArray[np.floating[Any]],
    *,
    threads: int = 0,
) -> Outputs:
    """All outputs of detector.onnx, encoder.onnx and decoder.onnx through onnxruntime on the CPU.

    inputs: (N, H, W, C) uint8; latent: (N, D) codes for the decoder, the reference's, so that its error is its own.
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


def compare_outputs(
    reference: Outputs,
    actual: Outputs,
    criteria: Sequence[str],
    decision: Decision,
    *,
    backend: str,
    against: str,
) -> GateReport:
    """Every output of the graphs against its reference, and the decisions that follow from them."""
    rows = [
        _compare(f"detector.onnx: {name}", reference.criteria[:, k], actual.criteria[:, k], TOLERANCES["criteria"])
        for k, name in enumerate(criteria)
        if actual.criteria.shape == reference.criteria.shape
    ]
    if not rows:
        rows = [_compare("detector.onnx: criteria", reference.criteria, actual.criteria, TOLERANCES["criteria"])]
    rows += [
        _compare("detector.onnx: latent", reference.latent, actual.latent, TOLERANCES["latent"]),
        _compare("detector.onnx: anomaly_map", reference.anomaly_map, actual.anomaly_map, TOLERANCES["anomaly_map"]),
        _compare("encoder.onnx: latent", reference.encoder_latent, actual.encoder_latent, TOLERANCES["latent"]),
        _compare("decoder.onnx: x_hat", reference.x_hat, actual.x_hat, TOLERANCES["x_hat"]),
    ]
    n_frames = len(reference.criteria)
    flips, correlation = n_frames, 0.0
    if actual.criteria.shape == reference.criteria.shape and np.isfinite(actual.criteria).all():
        expected, came = decision.score(reference.criteria), decision.score(actual.criteria)
        flips = int((decision.is_anomalous(expected) != decision.is_anomalous(came)).sum())
        correlation = rank_correlation(expected, came)
    return GateReport(backend, against, n_frames, tuple(rows), flips, correlation)


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
    """What this machine's preprocessing makes of the raw golden frames against what it made at export."""
    if not golden.raw_frames:
        return []
    expected = np.stack(golden.raw_inputs).astype(np.float64)
    came = np.stack([preprocess(frame) for frame in golden.raw_frames]).astype(np.float64)
    return [_compare("preprocess: network_input", expected, came, TOLERANCES["network_input"])]


def _compare(where: str, reference: NDArray[Any], actual: NDArray[Any], tolerance: Tolerance) -> Comparison:
    infinite = float("inf")
    if reference.shape != actual.shape or not np.isfinite(actual).all():
        return Comparison(where, infinite, infinite, infinite, tolerance, 0, False)
    expected = np.asarray(reference, dtype=np.float64)
    error = np.abs(np.asarray(actual, dtype=np.float64) - expected)
    excess = error - (tolerance.atol + tolerance.rtol * np.abs(expected))
    worst_frame = int(np.unravel_index(int(np.argmax(excess)), excess.shape)[0])
    return Comparison(
        where,
        float(error.max()),
        float(np.quantile(error, 0.99)),
        float(error.mean()),
        tolerance,
        worst_frame,
        bool((excess <= 0).all()),
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
