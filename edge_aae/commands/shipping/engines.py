"""`edge-aae build` and `edge-aae cache`: TensorRT engines, built ahead of the first run and kept."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from edge_aae.commands.help_pages import Command, Group
from edge_aae.commands.options import require_signature_option, resolve_model
from edge_aae.commands.parameter_types import PRECISION
from edge_aae.commands.places import bundle_argument
from edge_aae.commands.terminal import say

__all__ = ["build", "cache"]

logger = logging.getLogger(__name__)

MEBIBYTE = 1 << 20


@click.command(cls=Command, short_help="Build a bundle's TensorRT engine into the cache.")
@bundle_argument
@click.option(
    "--backend",
    type=click.Choice(["tensorrt", "tensorrt_rtx"]),
    default="tensorrt",
    show_default=True,
    help="tensorrt: Jetson and data centre; tensorrt_rtx: RTX desktops, builds without a GPU too.",
)
@click.option(
    "--precision", type=PRECISION, default="fp32", show_default=True, help="Or fp16, int8, if the bundle has them."
)
@click.option("--workspace", type=click.IntRange(min=1), default=512, show_default=True, help="MiB for tactics.")
@click.option("--timing-cache/--no-timing-cache", default=True, show_default=True, help="Keep the times of tactics.")
@click.option("--force", is_flag=True, help="Build although an engine is kept, or little memory is free.")
@require_signature_option
def build(
    model: Path | None,
    backend: str,
    precision: str,
    workspace: int,
    timing_cache: bool,
    force: bool,
    require_signature: Path | None,
) -> None:
    """Build the engine of BUNDLE (default: as for run) for this device, unless the cache holds it.

    Experimental: engines are built in the tests, but none has run on a GPU so far.

    The cache lies in $EDGE_AAE_CACHE, or edge-aae/engines below $XDG_CACHE_HOME or ~/.cache.
    """
    from edge_runtime.bundle.bundle import Bundle
    from edge_runtime.engines import BuildSettings, EngineCache, EngineKey, Flavour, build_engine, this_device
    from edge_runtime.engines.build import check_free_memory

    opened = Bundle.open(resolve_model(model), require_signature=require_signature)
    graph = opened.detector(precision)
    flavour, device, engines = Flavour.load(backend), this_device(), EngineCache()
    settings = BuildSettings(workspace_bytes=workspace * MEBIBYTE)
    key = EngineKey.of(graph, flavour, device, precision, settings)

    def build_now() -> bytes:
        if not force:
            check_free_memory()
        logger.info("%s builds %s of %s for %s", flavour.title, precision, opened.path, device)
        return build_engine(flavour, graph, settings, engines.timing_file(key) if timing_cache else None)

    found = engines.get(key, build_now, force=force)
    say(
        f"{'built' if found.built else 'kept'} {found.path} ({len(found.engine) / 1e6:.1f} MB, {precision}, "
        f"{flavour.title}, {device})"
    )
    if not device.is_present:
        say(f"it cannot run here: {device.missing}")


@click.group(cls=Group, short_help="Show or clear the cache of TensorRT engines.")
def cache() -> None:
    """Show or clear the cache of TensorRT engines."""


@cache.command("list")
def list_engines() -> None:
    """List the engines that are kept: size, precision, TensorRT, device, and the hash of the graph."""
    from edge_runtime.engines import EngineCache

    engines = EngineCache()
    entries = engines.entries()
    for entry in entries:
        say(
            f"{entry['bytes'] / 1e6:8.1f} MB  {entry['precision']}  {entry['flavour']} {entry['version']}  "
            f"{entry['device']}  onnx sha256:{entry['onnx_sha256'][:12]}  {entry['path']}"
        )
    say(f"{len(entries)} engine{'' if len(entries) == 1 else 's'} in {engines.folder}")


@cache.command("clear")
def clear_engines() -> None:
    """Remove every engine that is kept."""
    from edge_runtime.engines import EngineCache

    engines = EngineCache()
    n_engines = engines.clear()
    say(f"removed {n_engines} engine{'' if n_engines == 1 else 's'} from {engines.folder}")
