"""Golden samples: real images with the outputs PyTorch gave for them, by which a device verifies without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.archive import sha256
from edge_runtime.bundle.bundle import manifest_bytes
from edge_runtime.bundle.comparison import Outputs
from edge_runtime.errors import BundleError
from edge_runtime.model.preprocess import Frame
from edge_runtime.npz import npz_bytes, read_npz

__all__ = ["Golden", "hashes_of"]

OUTPUT_DIMS = {"criteria": (2,), "latent": (2, 4), "anomaly_map": (3,), "x_hat": (4,)}
"""Dimensions that the reference outputs may have; a latent of four has a code at every site."""

SEALED_KEYS = ("criteria", "decision", "preprocess")
"""Of the manifest: what turns a graph's outputs into a verdict, and a frame into its input"""


@dataclass(frozen=True, slots=True)
class Golden:
    """golden.npz: network inputs with PyTorch's float32 outputs, and a few frames as they came from the camera."""

    inputs: NDArray[np.uint8]
    """(N, H, W, C)"""
    outputs: Outputs
    contrast_inputs: NDArray[np.uint8] | None = None
    """(M, H, W, C) that are not normal: inputs with a patch of another pasted in, which shows what an output tells;
    None in bundles of before"""
    contrast_outputs: Outputs | None = None
    raw_frames: tuple[Frame, ...] = ()
    raw_inputs: tuple[Frame, ...] = ()
    """What preprocessing made of each raw frame where the bundle was exported: (H, W, C), or (T, H, W, C) tiles"""
    raw_views: tuple[NDArray[np.float64], ...] = ()
    """Where the view lay in each raw frame at export, Placement.matrix (2, 3); none without an alignment"""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by name of what these outputs vouch for, see hashes_of. A changed weight of a unit that no sample wakes
    leaves every output as it was: the hash still tells."""

    def to_npz(self) -> bytes:
        """The bytes of golden.npz; the same samples give the same bytes."""
        assert self.outputs.x_hat is not None, "the reference is PyTorch, which decodes too"
        return npz_bytes(
            {
                "inputs": self.inputs,
                "criteria": self.outputs.criteria,
                "latent": self.outputs.latent,
                "anomaly_map": self.outputs.anomaly_map,
                "x_hat": self.outputs.x_hat,
                **self._contrast_arrays(),
                **{f"frame_{index}": frame for index, frame in enumerate(self.raw_frames)},
                **{f"frame_{index}_input": frame for index, frame in enumerate(self.raw_inputs)},
                **{f"frame_{index}_view": matrix for index, matrix in enumerate(self.raw_views)},
                **{f"sha256_{name}": np.array(digest) for name, digest in self.hashes.items()},
            }
        )

    def _contrast_arrays(self) -> dict[str, NDArray[Any]]:
        if self.contrast_inputs is None or self.contrast_outputs is None:
            return {}
        outputs = {f"contrast_{name}": getattr(self.contrast_outputs, name) for name in OUTPUT_DIMS}
        return {"contrast_inputs": self.contrast_inputs, **outputs}

    @property
    def has_contrast(self) -> bool:
        """Whether there are inputs that are not normal."""
        return self.contrast_inputs is not None

    def every(self) -> tuple[NDArray[np.uint8], Outputs]:
        """Normal inputs and then those of contrast, and the outputs of all of them."""
        if self.contrast_inputs is None or self.contrast_outputs is None:
            return self.inputs, self.outputs
        return np.concatenate((self.inputs, self.contrast_inputs)), self.outputs.joined(self.contrast_outputs)

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
                *_contrast(arrays),
                tuple(arrays[f"frame_{index}"] for index in range(n_raw)),
                tuple(arrays[f"frame_{index}_input"] for index in range(n_raw)),
                tuple(arrays[key] for key in (f"frame_{index}_view" for index in range(n_raw)) if key in arrays),
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
        if self.contrast_inputs is not None:
            expected = f"(M, {', '.join(map(str, self.inputs.shape[1:]))}) uint8 with M > 0"
            _check_array("contrast_inputs", self.contrast_inputs, expected, "u1", (4,))
            if self.contrast_inputs.shape[1:] != self.inputs.shape[1:]:
                raise _unfit("contrast_inputs", self.contrast_inputs, expected)
            for name in OUTPUT_DIMS:
                usual, array = getattr(self.outputs, name), getattr(self.contrast_outputs, name)
                expected = f"(M, {', '.join(map(str, usual.shape[1:]))}) as {name}"
                _check_array(f"contrast_{name}", array, expected, "f2 f4 f8", (usual.ndim,))
                if array.shape[1:] != usual.shape[1:] or len(array) != len(self.contrast_inputs):
                    raise _unfit(f"contrast_{name}", array, expected)
        for index, image in enumerate(self.raw_inputs):
            expected = f"{self.inputs.shape[1:]} uint8, or several of them"
            _check_array(f"frame_{index}_input", image, expected, "u1", (3, 4))
            if image.shape[-3:] != self.inputs.shape[1:]:
                raise _unfit(f"frame_{index}_input", image, expected)
        for index, matrix in enumerate(self.raw_views):
            if matrix.shape != (2, 3) or not np.isfinite(matrix).all():
                raise _unfit(f"frame_{index}_view", matrix, "(2, 3) finite numbers")
        if self.raw_views and len(self.raw_views) != len(self.raw_frames):
            raise BundleError(
                f"golden.npz has views of {len(self.raw_views)} frames, expected {len(self.raw_frames)}; export again"
            )


def _contrast(arrays: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.uint8] | None, Outputs | None]:
    """Inputs and outputs of contrast; None twice where the file is of before there were any."""
    if "contrast_inputs" not in arrays:
        return None, None
    criteria, latent, anomaly_map, x_hat = (arrays[f"contrast_{name}"] for name in OUTPUT_DIMS)
    return arrays["contrast_inputs"], Outputs(criteria, latent, anomaly_map, latent, x_hat)


def _check_array(name: str, array: NDArray[Any], expected: str, dtypes: str, n_dims: tuple[int, ...]) -> None:
    if array.dtype.str[1:] not in dtypes.split() or array.ndim not in n_dims or len(array) == 0:
        raise _unfit(name, array, expected)


def _unfit(name: str, array: NDArray[Any], expected: str) -> BundleError:
    return BundleError(
        f"golden.npz has {name} {array.shape} {array.dtype}, expected {expected}; export the bundle again"
    )


def hashes_of(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 by name of the graphs, the prior, and the parts of the manifest that make a verdict of their outputs."""
    parts = {name: content for name, content in files.items() if name.endswith(".onnx") or name == "prior.npz"}
    parts |= {f"manifest.{key}": manifest_bytes({key: manifest[key]}) for key in SEALED_KEYS}
    return {name: sha256(content) for name, content in parts.items()}
