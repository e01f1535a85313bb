"""Mixed precision: whether the networks of a run compute in bfloat16 while they train."""

from __future__ import annotations

import torch

from edge_runtime.errors import ConfigError

__all__ = ["has_bfloat16", "uses_amp"]


def uses_amp(wanted: bool | None, device: torch.device) -> bool:
    """Whether training computes in bfloat16: as wanted, and for None on CUDA devices that have it built in.

    Raises ConfigError where it is wanted and the device has it not.
    """
    if device.type != "cuda":
        return bool(wanted)
    built_in = has_bfloat16(device)
    if wanted and not built_in:
        raise ConfigError(f"--amp needs bfloat16, which {torch.cuda.get_device_name(device)} has not; use --no-amp")
    return built_in if wanted is None else wanted


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 built in; one that emulates it is many times slower for it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
