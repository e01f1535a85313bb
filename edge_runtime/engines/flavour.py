"""TensorRT by name: `tensorrt` (Jetson and data centre) or `tensorrt_rtx` (RTX desktops; builds without a GPU too).

One code path serves TensorRT 10.3, 10.16, 11.x and TensorRT-RTX 1.7: only names that all of them have are used, which
tests/edge_runtime/engines/test_api_surface.py holds against their published bindings.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.errors import ConfigError
from edge_runtime.extras import require

__all__ = ["FLAVOURS", "Flavour", "TensorRTLog"]

logger = logging.getLogger(__name__)

FLAVOURS = ("tensorrt", "tensorrt_rtx")
EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
SHORT_NAMES = {"tensorrt": "trt", "tensorrt_rtx": "rtx"}
TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}


@dataclass(frozen=True, slots=True)
class Flavour:
    """One TensorRT and its Python module."""

    name: str
    """As imported: `tensorrt` or `tensorrt_rtx`."""
    trt: Any = field(repr=False, compare=False)
    """The module."""

    @classmethod
    def load(cls, name: str) -> Flavour:
        """Import a TensorRT; raises ConfigError for another name, MissingExtraError where it is not installed."""
        if name not in FLAVOURS:
            raise ConfigError(f"TensorRT flavour is {name!r}, expected one of {', '.join(FLAVOURS)}")
        return cls(name, require(name, extra=EXTRAS[name], purpose=f"{TITLES[name]} engines"))

    @property
    def version(self) -> str:
        """The full version as the module tells it, such as 10.3.0 or 1.7.1.116."""
        return str(self.trt.__version__)

    @property
    def short_name(self) -> str:
        """`trt` or `rtx`, for file names."""
        return SHORT_NAMES[self.name]

    @property
    def title(self) -> str:
        """Name and version for messages."""
        return f"{TITLES[self.name]} {self.version}"

    @property
    def builds_without_gpu(self) -> bool:
        """Whether engines can be built on a machine that cannot run them."""
        return self.name == "tensorrt_rtx"

    @property
    def times_tactics(self) -> bool:
        """Whether building measures kernels on the GPU, so that a timing cache saves time; a no-op in TensorRT-RTX."""
        return self.name == "tensorrt"

    def log(self) -> TensorRTLog:
        """A logger for TensorRT objects, which must outlive them."""
        return TensorRTLog(self.trt)


class TensorRTLog:
    """TensorRT's log, handed on to Python's, with its errors kept for the message of an exception.

    TensorRT reports failure as None or False and says why in its log alone.
    """

    def __init__(self, trt: Any) -> None:
        self.errors: list[str] = []
        severity = trt.ILogger
        # Errors go into the exception's text, not to the terminal a second time. INFO is dozens of lines a build.
        levels = {severity.WARNING: logging.WARNING, severity.INFO: logging.DEBUG}
        failures = (severity.ERROR, severity.INTERNAL_ERROR)
        errors = self.errors

        class Adapter(trt.ILogger):  # type: ignore[misc]  # the base is known at run time alone
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in failures:
                    errors.append(message)
                    logger.debug("TensorRT: %s", message)
                elif severity in levels:
                    logger.log(levels[severity], "TensorRT: %s", message)

        self.adapter = Adapter()

    def reasons(self) -> str:
        """The first errors since the start, in one line; the later ones follow from them."""
        distinct = list(dict.fromkeys(" ".join(message.split()) for message in self.errors))
        return "; ".join(distinct[:2]) or "no reason given"
