"""`edge-aae export` and `edge-aae info`: bundles made and shown."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_aae.commands.help_pages import Command
from edge_aae.commands.key_files import signing_key
from edge_aae.commands.options import DEFAULT_MODEL, SizeOptions, require_signature_option, resolve_model
from edge_aae.commands.parameter_types import PRECISION_NAMES
from edge_aae.commands.places import bundle_argument, kind_of, refuse_as_run
from edge_aae.commands.shipping.onnx_folder import (
    DEFAULT_FOLDER,
    Format,
    check_folder_options,
    gated_of_bundle,
    write_onnx_folder,
)
from edge_aae.commands.shipping.verify import print_report
from edge_aae.commands.terminal import say, say_line
from edge_runtime.errors import BundleError, MissingExtraError
from edge_runtime.extras import require
from edge_runtime.files import check_file_place
from edge_runtime.model.score import Decision, FusedRule, UnionRule

if TYPE_CHECKING:
    from edge_runtime.bundle.bundle import Bundle

__all__ = ["check_as_run", "export", "info"]

logger = logging.getLogger(__name__)

FILE = click.Path(path_type=Path)


@click.command(cls=Command, short_help="Write the bundle of a run, if it passes the parity gate.")
@click.argument("run", required=False, type=FILE)
@click.option(
    "--out", type=FILE, help=f"Bundle, or folder, to write.  [default: {DEFAULT_MODEL}; {DEFAULT_FOLDER} of onnx]"
)
@click.option(
    "--format",
    type=Format(),
    default="aae",
    show_default=True,
    help="aae: the bundle; onnx: a folder for programs without edge-aae, of RUN or of a bundle.",
)
@click.option(
    "--precision",
    "precisions",
    type=PRECISION_NAMES,
    help="Comma-separated: fp32, fp16, int8; each must pass.  [default: all, without those that fail]",
)
@click.option(
    "--calibration",
    type=FILE,
    help="The training images, if they moved; INT8 needs them.",
)
@click.option("--batch", type=click.IntRange(min=2), help="Add detector-batch.onnx for up to so many frames at once.")
@click.option(
    "--worst", type=FILE, default=Path("parity-failure"), show_default=True, help="Folder for a failing check's frame."
)
@click.option("--allow-failing", is_flag=True, help="Ship what fails the gate too, marked; runs then say so.")
@click.option("--sign", "sign", type=FILE, help="Private key of `keys make`: write the bundle's signature beside it.")
@SizeOptions.options
def export(
    run: Path | None,
    out: Path | None,
    format: str,
    precisions: tuple[str, ...] | None,
    calibration: Path | None,
    batch: int | None,
    worst: Path,
    allow_failing: bool,
    sign: Path | None,
    **options: Any,
) -> None:
    """Write the bundle of RUN (default: runs/latest): ONNX graphs, prior, golden samples, manifest.

    The parity gate compares the graphs with PyTorch first; the bundle appears only if they agree (exit 3 otherwise).
    Each precision ships if it passes: FP32 must, FP16 and INT8 are left out where they do not, with the reason.
    --mm-per-pixel and --min-area are kept in the bundle, for cameras that are all mounted alike.

    --format onnx writes a folder instead: the graphs, how a score follows from them, golden samples, and references in
    numpy and C++ that need no edge-aae. RUN may then be a bundle, whose gate runs again on its golden samples.
    """
    out = out or (DEFAULT_FOLDER if format == "onnx" else DEFAULT_MODEL)
    of_bundle = format == "onnx" and run is not None and kind_of(run) == "bundle"
    if format == "onnx":
        check_folder_options(click.get_current_context(), out, of_bundle=of_bundle)
    else:
        _check_place(out)
    if of_bundle:
        assert run is not None
        bundle = gated_of_bundle(run, precisions, allow_failing=allow_failing, worst=worst)
        write_onnx_folder(bundle, out, precisions)
        return
    if run is not None:
        refuse_as_run(run)
    require("torch", extra="train", purpose="exports")
    require("onnxscript", extra="export", purpose="exports")
    from edge_runtime.signing.signatures import signature_path
    from edge_runtime.verdict import verdict_of
    from export.bundling import ExportRequest, export_bundle, gated_bundle
    from train.runs.run_folder import latest_run

    request = ExportRequest(
        precisions=precisions,  # type: ignore[arg-type]
        calibration=calibration,
        batch=batch,
        allow_failing=allow_failing,
        worst=worst,
        sign=None if sign is None else signing_key(sign),
        **SizeOptions.of(options).asked(),
    )
    replaced = "" if format == "onnx" else _replaced(out)
    write = gated_bundle if format == "onnx" else export_bundle
    result = write(run or latest_run(), out, request)
    for report in result.reports:
        print_report(report)
    for name, reason in result.refused.items():
        say(f"{name} left out: {reason}")
    if format == "onnx":
        write_onnx_folder(result.bundle, out, precisions)
        return
    for name in result.bundle.precisions:
        if result.bundle.ships_failing(name):
            say(f"{name} FAILED the gate and is shipped all the same, marked (--allow-failing)")
    verdict = verdict_of(result.bundle.manifest["calibration"])
    say(verdict.line)
    say(
        f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB, {', '.join(result.bundle.precisions)}, "
        f"model sha256:{result.bundle.digest[:12]}){replaced}"
    )
    if result.signature is not None:
        say(f"wrote {signature_path(out)}: signed by {result.signature.name}")
    file, option = shlex.quote(str(out)), f" --model {shlex.quote(str(out))}"
    say(verdict.next_line(f"edge-aae verify {file}, edge-aae score IMAGES{option}, edge-aae run --camera 0{option}"))


def _check_place(out: Path) -> None:
    """Raise click.UsageError for a folder where the bundle is to be, DataError where nothing can be written."""
    if out.is_dir():
        raise click.UsageError(f"--out {out} is a folder; name a file, such as {out / DEFAULT_MODEL}")
    check_file_place(out)


def _replaced(out: Path) -> str:
    """What lies where the bundle is to be written, for the line that says so; empty where nothing does."""
    from edge_runtime.bundle.bundle import Bundle

    if not out.exists():
        return ""
    try:
        old = Bundle.open(out, tolerate_altered_graphs=True)
    except BundleError:
        return ", in place of what was no bundle"
    data = old.manifest["training"].get("data", {}).get("path")
    return f", in place of model sha256:{old.digest[:12]}, trained on {data}"


@click.command(cls=Command, short_help="Show what a bundle holds.")
@bundle_argument
@click.option("--json", "as_json", is_flag=True, help="Print the whole manifest as JSON.")
@require_signature_option
def info(model: Path | None, as_json: bool, require_signature: Path | None) -> None:
    """Show what BUNDLE (default: as for run) holds; first it is checked as a run checks it."""
    from edge_runtime.bundle.bundle import Bundle

    opened = Bundle.open(resolve_model(model), require_signature=require_signature)
    check_as_run(opened)
    if as_json:
        # After the manifest, which may hold any key: what is ours to say it does not say for us.
        ours = {"digest": opened.digest, "signed_by": opened.signed_by}
        click.echo(json.dumps({**opened.manifest, **ours}, indent=2, sort_keys=True))
        return
    for line in _describe(opened):
        say_line(line)


def check_as_run(bundle: Bundle) -> None:
    """Read the golden samples and run the detector once, as far as this machine can; raises what a run would."""
    from edge_runtime.bundle.golden import Golden
    from edge_runtime.scoring.detector import Detector

    Golden.from_npz(bundle.files["golden.npz"])
    try:
        Detector.load(bundle, on_site=False)
    except MissingExtraError as error:
        logger.info("the graphs were not run: %s", error)


def _describe(bundle: Bundle) -> list[str]:
    from edge_runtime.bundle.site_calibration import SiteCalibration
    from edge_runtime.verdict import verdict_of

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
        f"signature   {_describe_signature(bundle)}",
        f"model       {model.get('network')} {model.get('method')}, refine {model.get('refine')}, "
        f"{model.get('latent_dim')} latent dimensions, {model.get('parameters', 0):,} parameters",
        f"input       {height}x{width}x{channels} uint8, {fit}{derived}, "
        f"{preprocess.interpolation} interpolation, region of interest {preprocess.roi or 'whole frame'}",
        *([] if preprocess.align is None else [f"view        {preprocess.align}"]),
        f"prior       {manifest['prior'].get('kind')}, {manifest['prior'].get('dim')} dimensions",
        f"decision    {manifest['decision']['rule']}, anomalous above score {bundle.decision.threshold:g}",
    ]
    lines += [f"sizes       {bundle.defect_size}"] if bundle.defect_size else []
    lines += _describe_rule(bundle.decision, manifest["calibration"])
    site = SiteCalibration.beside(bundle.path)
    if site is not None:
        stale = "" if site.model == bundle.digest else ", of another bundle: not used"
        lines.append(f"on site     {site}{stale}")
    lines += [
        f"training    {training.get('n_images')} images from {data.get('path')}, {training.get('epochs')} of "
        f"{training.get('epochs_planned')} epochs, {training.get('status')}, on {training.get('device')}",
        f"made by     edge-aae {manifest['created_by'].get('edge_aae')}, torch {manifest['created_by'].get('torch')}",
        "files",
    ]
    lines += [
        f"  {name:<20} {len(bundle.files[name]):>12,} bytes  sha256:{facts['sha256'][:16]}..."
        for name, facts in sorted(manifest["files"].items())
    ]
    for precision, evidence in manifest["parity"].items():
        for report in evidence.get("reports", []):
            lines.append(
                f"parity      {precision} {report['backend']} against {report.get('reference')}: "
                f"{'passed' if report.get('passed') else 'FAILED'}, {report.get('decision_flips')} flips, "
                f"{report.get('n_frames')} frames"
            )
    verdict = verdict_of(manifest["calibration"], as_trained=site is None or site.model != bundle.digest)
    return [*lines, verdict.line, verdict.next_line("edge-aae score IMAGES, edge-aae run --camera 0")]


def _describe_signature(bundle: Bundle) -> str:
    from edge_runtime.signing.signatures import read_signatures, signature_path

    if bundle.signed_by is not None:
        return f"by {bundle.signed_by}, which is trusted"
    if not signature_path(bundle.path).exists():
        return "none"
    try:
        names = ", ".join(signature.name for signature in read_signatures(bundle.path))
    except BundleError as error:
        return f"none that can be read: {error}"
    return f"said to be by {names}, not checked; --require-signature PUB checks it"


def _describe_rule(decision: Decision, calibration: dict[str, Any]) -> list[str]:
    if isinstance(decision, UnionRule):
        return [
            f"  {name:<22} threshold {limit.threshold:.6g}, median {limit.center:.6g}"
            for name, limit in decision.limits.items()
        ]
    assert isinstance(decision, FusedRule), "there are two rules"
    from edge_runtime.verdict import head_line, order_line

    lines = [
        f"  {name:<22} {term.weight:.4g} x {term.transform} of what lies above {term.floor:.4g}"
        for name, term in decision.terms.items()
    ]
    found, share = calibration.get("limit"), calibration.get("contamination")
    if found:
        rate = found.get("stands_for", found.get("target_fpr"))
        lines.append(
            f"  threshold by rule {found.get('rule', 'conformal')}, false-alarm rate "
            f"{'not known' if rate is None else format(rate, '.3g')} from {found.get('n')} "
            "out-of-fold scores" + (", extrapolated" if found["extrapolated"] else "")
        )
    lines += [f"  {line}" for line in (order_line(calibration), head_line(calibration)) if line]
    if share:
        lines.append(
            f"  training images that look anomalous {share['share']:.1%}, between {share['low']:.1%} "
            f"and {share['high']:.1%}"
        )
    return lines
