"""`edge-aae verify`: the parity gate again, on this machine."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_aae.commands.help_pages import Command
from edge_aae.commands.options import require_signature_option, resolve_model
from edge_aae.commands.parameter_types import ENGINE, FINITE, PERCENT, PRECISION, THREADS
from edge_aae.commands.places import bundle_argument
from edge_aae.commands.terminal import say
from edge_runtime.errors import BackendError, GateError
from edge_runtime.extras import require

if TYPE_CHECKING:
    from edge_runtime.bundle.budgets import Budget
    from edge_runtime.bundle.bundle import Bundle
    from edge_runtime.gate.report import Check, GateReport
    from train.runs.run_folder import TrainedRun

    BudgetOf = Callable[[str, str], Budget]

__all__ = ["Engines", "keep_worst", "print_report", "verify"]

logger = logging.getLogger(__name__)

FILE = click.Path(path_type=Path)


@click.command(cls=Command, short_help="Run the parity gate again, on this machine.")
@bundle_argument
@click.option(
    "--against",
    type=FILE,
    help="Run folder: compare with PyTorch on it. Without, with the golden samples in the bundle (no torch needed).",
)
@click.option("--frames", type=FILE, multiple=True, help="With --against: compare on these images too.")
@click.option(
    "--precision", "precisions", type=PRECISION, multiple=True, help="fp32, fp16 or int8.  [default: all in the bundle]"
)
@click.option(
    "--backend",
    "backends",
    type=ENGINE,
    multiple=True,
    help="onnxruntime-cpu, openvino, openvino-bf16; experimental, never run on a GPU so far: onnxruntime-cuda, "
    "tensorrt, tensorrt_rtx.  [default: onnxruntime-cpu, and openvino where it is installed]",
)
@click.option("--atol", type=FINITE, help="Tighten every output's absolute tolerance to this.")
@click.option(
    "--rtol", type=FINITE, help="Tighten every output's relative tolerance to this; its noise too, for FP16 and less."
)
@click.option("--max-flips", type=PERCENT, help="Tighten the share of decisions that may flip.")
@click.option("--threads", type=THREADS, default=0, help="0 uses every core.")
@require_signature_option
@click.option("--details", is_flag=True, help="Print every output's errors, not those alone that differ.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON.")
@click.option("--junit", type=FILE, help="Write the reports as JUnit XML, for CI.")
@click.option(
    "--worst",
    type=FILE,
    default=Path("parity-failure"),
    show_default=True,
    help="Folder for the worst frame of each check that fails: input, both maps, difference.",
)
def verify(
    model: Path | None,
    against: Path | None,
    frames: tuple[Path, ...],
    precisions: tuple[str, ...],
    backends: tuple[str, ...],
    atol: float | None,
    rtol: float | None,
    max_flips: float | None,
    threads: int,
    require_signature: Path | None,
    details: bool,
    as_json: bool,
    junit: Path | None,
    worst: Path,
) -> None:
    """Run the parity gate on BUNDLE (default: as for run); exit 3 where an output differs, naming it."""
    from edge_runtime.bundle.budgets import budget_of
    from edge_runtime.bundle.bundle import Bundle
    from edge_runtime.gate.junit import write_junit

    if frames and against is None:
        raise click.UsageError("--frames needs --against RUN: without PyTorch only golden samples have a reference")
    opened = Bundle.open(resolve_model(model), tolerate_altered_graphs=True, require_signature=require_signature)
    engines = Engines(opened, precisions, backends, threads)
    run = None if against is None else engines.run_of(against)

    def budget(precision: str, backend: str) -> Budget:
        return budget_of(precision, backend).tightened(atol=atol, rtol=rtol, max_flips=max_flips)

    checks = list(engines.against_golden(budget))
    of_files: list[str] = []
    if run is not None:
        found, of_files = engines.against_run(run, frames, budget)
        checks += found
    reports = [check.report for check in checks]
    failures = [*of_files, *(f"{report.title}: {line}" for report in reports for line in report.failures())]
    if junit is not None:
        write_junit(junit, reports, of_files)
    if as_json:
        content = {
            "bundle": str(opened.path),
            **({} if opened.signed_by is None else {"signed_by": opened.signed_by}),
            "passed": not failures,
            "failures": failures,
            "reports": [report.to_json() for report in reports],
        }
        click.echo(json.dumps(content, indent=2))
    else:
        if opened.signed_by is not None:
            say(f"{opened.path}: signed by {opened.signed_by}")
        for report in reports:
            print_report(report, details=details)
    if failures:
        keep_worst(checks, worst)
        raise GateError(f"{opened.path} failed the parity gate: " + "; ".join(dict.fromkeys(failures)))
    if not as_json:
        say(f"{opened.path}: passed")


class Engines:
    """The precisions and backends to check a bundle with: those named, else all that are at hand."""

    def __init__(self, bundle: Bundle, precisions: Sequence[str], backends: Sequence[str], threads: int) -> None:
        from edge_runtime.backends import present_backends

        self.bundle = bundle
        self.precisions = precisions or bundle.precisions
        self.named = bool(backends)
        self.backends = backends or present_backends()
        self.threads = threads
        for precision in self.precisions:
            bundle.detector(precision)  # an unknown or missing one is said before anything runs

    def against_golden(self, budget: BudgetOf) -> Iterator[Check]:
        """Against the bundle's golden samples."""
        from edge_runtime.gate.verification import check_bundle

        return self._checked(lambda **how: [check_bundle(self.bundle, **how)], budget)

    def run_of(self, path: Path) -> TrainedRun:
        """The run that the bundle was made of; raises DataError for a folder that is none, or of another network."""
        require("torch", extra="train", purpose="comparisons with PyTorch")
        require("onnx", extra="export", purpose="comparisons with PyTorch")
        from export.parity import check_same_network
        from train.runs.run_folder import RunFolder

        run = RunFolder(path).load()
        check_same_network(run, self.bundle.preprocess.input_shape, self.bundle.prior.dim)
        return run

    def against_run(self, run: TrainedRun, images: Sequence[Path], budget: BudgetOf) -> tuple[list[Check], list[str]]:
        """Against PyTorch on a run; and what the files alone tell, by name."""
        from edge_runtime.scoring.image_items import load_items
        from export.frames import frames_of_items, sample_frames
        from export.parity import Reference, check_files

        frames = sample_frames(run)
        if images:
            frames = frames.joined(frames_of_items(load_items(list(images), self.bundle), run.config.preprocess))
        reference = Reference(run, frames)
        check = partial(reference.check, self.bundle.files, self.bundle.decision)
        return list(self._checked(check, budget)), check_files(run, self.bundle)

    def _checked(self, check: Callable[..., Iterable[Check]], budget: BudgetOf) -> Iterator[Check]:
        """What check gives for each pair of precision and backend that can be run."""
        for precision, backend in self._pairs():
            try:
                yield from check(
                    precision=precision, backend=backend, threads=self.threads, budget=budget(precision, backend)
                )
            except BackendError as error:
                self._left_out(precision, backend, error)

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for precision, backend in itertools.product(self.precisions, self.backends):
            if self.refused(precision, backend):
                logger.info("%s through %s failed at export and is refused by runs: not checked", precision, backend)
            else:
                yield precision, backend

    def refused(self, precision: str, backend: str) -> bool:
        """Whether runs refuse the pair; then only who names the backend asks for its check."""
        bundle = self.bundle
        return not self.named and bool(bundle.failed_gate(precision, backend)) and not bundle.ships_failing(precision)

    def _left_out(self, precision: str, backend: str, error: BackendError) -> None:
        """A backend that nobody named and that cannot run a graph is left out, and said; onnxruntime must run all."""
        from edge_runtime.gate.verification import DEFAULT_BACKEND

        if self.named or backend == DEFAULT_BACKEND:
            raise error
        logger.warning("%s through %s was not checked: %s", precision, backend, error)


def print_report(report: GateReport, *, details: bool = False) -> None:
    """The gate's verdict for one check in a line; every output's errors below it where it failed or details are on."""
    decisions = report.decisions
    separation = ""
    if decisions.auroc is not None:
        kept = "kept" if decisions.keeps_separation(report.budget) else "NOT kept"
        separation = ", separation {} {:.4f} -> {:.4f}".format(kept, *decisions.auroc)
    flips = f"{decisions.flips} flip{'' if decisions.flips == 1 else 's'}"
    if report.budget.band and decisions.flips:
        flips += f" ({decisions.flips_beyond_band} further than {report.budget.band:.1%} from the threshold)"
    scores = decisions.score
    error = "" if scores is None else f", score error {scores.max_error:.1e} (mean {scores.mean_error:.1e})"
    say(
        f"{report.title}: {'passed' if report.passed else 'FAILED'} on {decisions.n_frames} frames, {flips}{error}, "
        f"rank correlation {decisions.rank_correlation:.6f}{separation}"
    )
    for name in report.altered:
        say(f"  {name:<44} not what was exported (SHA-256)  DIFFERS")
    for item in report.comparisons:
        if details or not item.passed:
            noise = "" if item.snr_db is None else f"  SNR {item.snr_db:.1f} dB"
            spreads = "" if item.max_in_spreads is None else f" ({item.max_in_spreads:.1e} of its spread)"
            say(
                f"  {item.where:<44} max {item.max_error:.1e}{spreads}  p99 {item.p99_error:.1e}  "
                f"mean {item.mean_error:.1e}{noise}  allowed {item.tolerance}  {'ok' if item.passed else 'DIFFERS'}"
            )


def keep_worst(checks: Sequence[Check], folder: Path) -> None:
    """Write the worst frame of each check that failed."""
    from edge_runtime.errors import MissingExtraError
    from edge_runtime.gate.worst_frame import save_worst_frame

    for check in checks:
        if not check.report.passed:
            try:
                written = save_worst_frame(check, folder)
            except MissingExtraError as error:
                logger.warning("the worst frame was not drawn: %s", error)
            else:
                logger.warning("worst frame of %s: %s", check.report.title, written[-1])
