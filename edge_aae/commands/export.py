"""`edge-aae export`, `edge-aae verify` and `edge-aae info`: bundles made, proven and shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_aae.commands.options import DEFAULT_MODEL, resolve_model
from edge_runtime.errors import GateError
from edge_runtime.extras import require
from edge_runtime.score import Decision, FusedRule, UnionRule

if TYPE_CHECKING:
    from edge_runtime.bundle import Bundle
    from edge_runtime.comparison import GateReport

__all__ = ["export", "info", "verify"]


@click.command(short_help="Write the bundle of a run, if it passes the parity gate.")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=DEFAULT_MODEL,
    show_default=True,
    help="Bundle to write.",
)
def export(run: Path | None, out: Path) -> None:
    """Write the bundle of RUN (default: runs/latest): ONNX graphs, prior, golden samples, manifest.

    The parity gate compares the graphs with PyTorch first; the bundle appears only if they agree (exit 3 otherwise).
    """
    require("torch", extra="train", purpose="exports")
    require("onnxscript", extra="export", purpose="exports")
    from export.bundling import export_bundle
    from train.run_folder import latest_run

    result = export_bundle(run or latest_run(), out)
    for report in result.reports:
        _print_report(report)
    click.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB, model sha256:{result.bundle.digest[:12]})")
    click.echo("next: edge-aae verify, edge-aae score IMAGES, edge-aae run --camera 0")


@click.command(short_help="Run the parity gate again, on this machine.")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Run folder: compare with PyTorch on it. Without, with the golden samples in the bundle (no torch needed).",
)
@click.option("--threads", type=int, default=0, help="For onnxruntime; 0 uses every core.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON.")
def verify(bundle: Path | None, against: Path | None, threads: int, as_json: bool) -> None:
    """Run the parity gate on BUNDLE (default: as for run); exit 3 where an output differs, naming it."""
    from edge_runtime.bundle import Bundle
    from edge_runtime.golden import verify_bundle

    opened = Bundle.open(resolve_model(bundle), tolerate_altered_graphs=True)
    reports = [verify_bundle(opened, threads=threads)]
    if against is not None:
        reports += _against_run(opened, against)
    if as_json:
        click.echo(
            json.dumps({"bundle": str(opened.path), "reports": [report.to_json() for report in reports]}, indent=2)
        )
    else:
        for report in reports:
            _print_report(report)
    failures = [line for report in reports for line in report.failures()]
    if failures:
        raise GateError(f"{opened.path} failed the parity gate: " + "; ".join(failures))
    if not as_json:
        click.echo(f"{opened.path}: passed")


@click.command(short_help="Show what a bundle holds.")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the whole manifest as JSON.")
def info(bundle: Path | None, as_json: bool) -> None:
    """Show what BUNDLE (default: as for run) holds; every file's hash is checked first."""
    from edge_runtime.bundle import Bundle

    opened = Bundle.open(resolve_model(bundle))
    if as_json:
        click.echo(json.dumps({"digest": opened.digest, **opened.manifest}, indent=2, sort_keys=True))
        return
    for line in _describe(opened):
        click.echo(line)


def _against_run(bundle: Bundle, run_path: Path) -> list[GateReport]:
    require("torch", extra="train", purpose="comparisons with PyTorch")
    require("onnx", extra="export", purpose="comparisons with PyTorch")
    from export.parity import check_same_network, gate, gate_frames
    from train.run_folder import RunFolder

    run = RunFolder(run_path).load()
    check_same_network(run, bundle.preprocess.input_shape, bundle.prior.dim)
    return gate(run, bundle.files, bundle.decision, gate_frames(run.sample_inputs))


def _print_report(report: GateReport) -> None:
    click.echo(
        f"{report.backend} against {report.reference}, {report.n_frames} frames: "
        f"{'passed' if report.passed else 'FAILED'}, {report.decision_flips} decision flips, "
        f"score rank correlation {report.score_rank_correlation:.6f}"
    )
    for name in report.altered_graphs:
        click.echo(f"  {name:<38} not the graph that was exported (SHA-256)  DIFFERS")
    for item in report.comparisons:
        click.echo(
            f"  {item.where:<38} max {item.max_error:.1e}  p99 {item.p99_error:.1e}  mean {item.mean_error:.1e}  "
            f"allowed {item.tolerance.atol:g} + {item.tolerance.rtol:g} |ref|  {'ok' if item.passed else 'DIFFERS'}"
        )


def _describe(bundle: Bundle) -> list[str]:
    manifest: Any = bundle.manifest
    model, training, preprocess = manifest["model"], manifest["training"], bundle.preprocess
    data = training.get("data", {})
    height, width, channels = preprocess.input_shape
    fit: str = preprocess.fit
    if fit == "tile":
        fit = f"tiles at scale {preprocess.scale:g} that share {preprocess.overlap} pixels or more"
    derived = "" if preprocess.self_reference == "none" else ", row and column medians removed"
    lines = [
        f"bundle      {bundle.path}  sha256:{bundle.digest}",
        f"model       {model.get('network')} {model.get('method')}, refine {model.get('refine')}, "
        f"{model.get('latent_dim')} latent dimensions, {model.get('parameters', 0):,} parameters",
        f"input       {height}x{width}x{channels} uint8, {fit}{derived}, "
        f"{preprocess.interpolation} interpolation, region of interest {preprocess.roi or 'whole frame'}",
        f"prior       {manifest['prior'].get('kind')}, {manifest['prior'].get('dim')} dimensions",
        f"decision    {manifest['decision']['rule']}, anomalous above score {bundle.decision.threshold:g}",
    ]
    lines += _describe_rule(bundle.decision, manifest["calibration"])
    lines += [
        f"training    {training.get('n_images')} images from {data.get('path')}, {training.get('epochs')} of "
        f"{training.get('epochs_planned')} epochs, {training.get('status')}, on {training.get('device')}",
        f"made by     edge-aae {manifest['created_by'].get('edge_aae')}, torch {manifest['created_by'].get('torch')}",
        "files",
    ]
    lines += [
        f"  {name:<16} {facts['bytes']:>12,} bytes  sha256:{facts['sha256'][:16]}..."
        for name, facts in sorted(manifest["files"].items())
    ]
    for precision, evidence in manifest["parity"].items():
        for report in evidence.get("reports", []):
            lines.append(
                f"parity      {precision} {report['backend']} against {report['reference']}: "
                f"{'passed' if report['passed'] else 'FAILED'}, {report['decision_flips']} flips, "
                f"{report['n_frames']} frames"
            )
    return lines


def _describe_rule(decision: Decision, calibration: dict[str, Any]) -> list[str]:
    if isinstance(decision, UnionRule):
        return [
            f"  {name:<22} threshold {limit.threshold:.6g}, median {limit.center:.6g}"
            for name, limit in decision.limits.items()
        ]
    assert isinstance(decision, FusedRule), "there are two rules"
    lines = [
        f"  {name:<22} {term.weight:.4g} x {term.transform} of what lies above {term.floor:.4g}"
        for name, term in decision.terms.items()
    ]
    found, share = calibration.get("limit", {}), calibration.get("contamination", {})
    if found:
        lines.append(
            f"  asked false-alarm rate {found['target_fpr']:.3g} from {found['n']} out-of-fold scores"
            + (", extrapolated" if found["extrapolated"] else "")
        )
    if share:
        lines.append(
            f"  training images that look anomalous {share['share']:.1%}, between {share['low']:.1%} "
            f"and {share['high']:.1%}"
        )
    return lines
