"""`edge-aae export --format onnx`: a folder for programs without edge-aae, of a run or of a bundle."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edge_aae.commands.foreign_words import FORMAT
from edge_aae.commands.shipping.verify import Engines, keep_worst, print_report
from edge_aae.commands.terminal import say
from edge_runtime.errors import GateError
from edge_runtime.files import check_folder_place

if TYPE_CHECKING:
    from edge_runtime.bundle.bundle import Bundle

__all__ = ["DEFAULT_FOLDER", "Format", "check_folder_options", "gated_of_bundle", "write_onnx_folder"]

DEFAULT_FOLDER = Path("model-onnx")

OF_RUNS = {
    "calibration": "INT8 is calibrated when a run is exported",
    "batch": "graphs are made when a run is exported",
    "mm_per_pixel": "sizes are kept when a run is exported",
    "min_area": "sizes are kept when a run is exported",
}
"""Options that mean nothing for a bundle, and why"""


class Format(click.Choice[str]):
    """aae or onnx; for another word, what makes such a file here."""

    def __init__(self) -> None:
        super().__init__(["aae", "onnx"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As click does, with another message."""
        if value not in self.choices:
            self.fail(f"{value!r}, expected aae or onnx; {FORMAT['export']}", param, ctx)
        return str(value)


def check_folder_options(context: click.Context, out: Path, *, of_bundle: bool) -> None:
    """Raise click.UsageError for options that --format onnx does not take, and DataError where OUT is taken."""
    from export.standalone.folder import check_place

    if context.params["sign"] is not None:
        raise click.UsageError(
            "--sign signs a bundle, one file; the folder of --format onnx is none: export the bundle with --sign, or "
            "sign an archive of the folder by your own means"
        )
    if out.suffix == ".aae":
        raise click.UsageError(f"--format onnx writes a folder, {out} names a bundle: --out {DEFAULT_FOLDER}")
    for name, reason in OF_RUNS.items():
        if of_bundle and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = "--" + name.replace("_", "-")
            raise click.UsageError(f"{flag} is of no use with a bundle: {reason}; name the run folder, or leave it out")
    check_place(out)
    check_folder_place(out)


def gated_of_bundle(path: Path, precisions: Sequence[str] | None, *, allow_failing: bool, worst: Path) -> Bundle:
    """An existing bundle once it has passed the gate again, on its golden samples; needs no PyTorch.

    Raises BundleError, GateError where a precision fails that is not shipped so and allowed.
    """
    from edge_runtime.bundle.budgets import budget_of
    from edge_runtime.bundle.bundle import Bundle
    from export.standalone.folder import chosen_of

    bundle = Bundle.open(path)
    chosen = chosen_of(bundle, precisions)
    checks = list(Engines(bundle, chosen, (), 0).against_golden(budget_of))
    for check in checks:
        print_report(check.report)
    failing = {name for name in chosen if bundle.ships_failing(name)}
    if failing and not allow_failing:
        raise GateError(
            f"{path} was exported with {', '.join(sorted(failing))} although it failed the gate; --allow-failing takes "
            "it all the same, or name others with --precision"
        )
    failed = [check for check in checks if not check.report.passed and check.report.precision not in failing]
    if failed:
        keep_worst(failed, worst)
        lines = [f"{check.report.title}: {line}" for check in failed for line in check.report.failures()]
        raise GateError(f"{path} failed the parity gate: " + "; ".join(dict.fromkeys(lines)))
    return bundle


def write_onnx_folder(bundle: Bundle, out: Path, precisions: Sequence[str] | None) -> None:
    """Write the folder and say what is in it. Raises BundleError, DataError, GateError."""
    from edge_runtime.verdict import verdict_of
    from export.standalone.folder import chosen_of, write_folder
    from export.standalone.samples import takes_frames

    for name in chosen_of(bundle, precisions):
        if bundle.ships_failing(name):
            say(f"{name} FAILED the gate and is in the folder all the same, marked (--allow-failing)")
    replaced = ", in place of what was there" if out.exists() and any(out.iterdir()) else ""
    sizes = write_folder(bundle, out, precisions)
    say(verdict_of(bundle.manifest["calibration"]).line)
    graphs = [name for name in sizes if name.endswith(".onnx")]
    say(
        f"wrote {out}/ ({sum(sizes.values()) / 1e6:.1f} MB: {', '.join(graphs)}; "
        f"model sha256:{bundle.digest[:12]}){replaced}"
    )
    if not takes_frames(bundle.preprocess):
        say("its references take network inputs, not camera frames; what has to be done before is in its README.txt")
    say(f"next: python {shlex.quote(str(out / 'reference.py'))}; reference.cpp with OpenVINO: {out}/README.txt")
