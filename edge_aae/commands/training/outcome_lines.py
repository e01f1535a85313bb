"""What `edge-aae train` says a run has come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.runs.session import TrainingOutcome

__all__ = ["calibration_lines", "outcome_lines"]

FEW_IMAGES = 200
"""Below it the realised false-alarm rate is uncertain by more than a percent."""


def outcome_lines(outcome: TrainingOutcome) -> list[str]:
    """What was trained, what its threshold rests on, where it lies and what comes next."""
    config = outcome.config
    folder = outcome.folder.path
    calibration = outcome.calibration or {}
    flagged = f", {calibration['flagged_share']:.1%} above the threshold" if calibration else ""
    # A robust run that is interrupted has no findings yet.
    written = "  (rejected.png, scores.png, losses.png, refinement.csv)" if calibration else ""
    return [
        f"{'trained' if outcome.complete else 'interrupted'}: {config.epochs_done} of {config.epochs_total} epochs "
        f"in {outcome.seconds:.0f} s, {config.n_images} images, {config.n_skipped} skipped, "
        f"{outcome.n_rejected} rejected{flagged}",
        *calibration_lines(calibration),
        f"run folder: {folder}{written}",
        "next: edge-aae export" if outcome.complete else f"go on with: edge-aae train --resume --out {folder}",
    ]


def calibration_lines(calibration: dict[str, Any]) -> list[str]:
    """What the threshold rests on, and how far it can be trusted; nothing where it was not fitted to a rate."""
    found, share = calibration.get("limit"), calibration.get("contamination")
    if not found or not share:
        return []
    n_images = found["n"]
    lines = [
        f"estimated anomalies among them: {share['share']:.1%}, between {share['low']:.1%} and {share['high']:.1%}",
        balanced_line(found) if found.get("rule") == "balanced" else _conformal_line(found),
    ]
    lines += known_bad_lines(calibration.get("known_bad"))
    if n_images < FEW_IMAGES:
        lines.append(f"only {n_images} images: with {FEW_IMAGES} or more, detector and threshold are more certain")
    return lines


def known_bad_lines(known: dict[str, Any] | None) -> list[str]:
    """What a threshold between training images and known defects does."""
    if not known:
        return []
    from edge_runtime.bundle.separation import Separation

    counts = {name: value for name, value in known.items() if name != "threshold"}
    return [f"--known-bad: threshold {known['threshold']:.3g} on the score, not 1", *Separation(**counts).lines()]


def balanced_line(found: dict[str, Any]) -> str:
    """What the balanced rule's threshold was set for, and what is to be expected of it."""
    asked, stands_for, (low, high) = found["target_fpr"], found["stands_for"], found["realised_fpr"]
    if asked is None:
        aim = f"threshold set for about {stands_for:.1%} false alarms (--target-fpr asks for another rate)"
    elif stands_for > asked:
        aim = f"threshold: {found['n']} images cannot show {asked:.3g} false alarms; set for about {stands_for:.1%}"
    else:
        aim = f"threshold set for about the {asked:.1%} false alarms asked for"
    return (
        f"{aim}: expect {found['expected_fpr']:.1%} of normal images above it, {low:.1%} to {high:.1%} "
        f"({found['level']:.0%})"
    )


def _conformal_line(found: dict[str, Any]) -> str:
    n_images = found["n"]
    asked = f"false alarms asked for: at most {found['target_fpr']:.3g} of normal images"
    if found["extrapolated"]:
        return f"{asked}; {n_images} images cannot show so low a rate: extrapolated from the tail of their scores"
    low, high = found["realised_fpr"]
    return f"{asked}; expect {low:.2%} to {high:.2%} (90 %) after {n_images} images, less if some are anomalous"
