"""What `edge-aae train` says a run has come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_runtime.verdict import verdict_of

if TYPE_CHECKING:
    from train.runs.session import TrainingOutcome

__all__ = ["calibration_lines", "outcome_lines"]

FEW_IMAGES = 200
"""Below it the realised false-alarm rate is uncertain by more than a percent."""


def outcome_lines(outcome: TrainingOutcome) -> list[str]:
    """What was trained, what it is worth, what its threshold was set for, where it lies and what comes next."""
    config, folder, calibration = outcome.config, outcome.folder.path, outcome.calibration
    done = f"{config.epochs_done} of {config.epochs_total} epochs in {outcome.seconds:.0f} s, {config.n_images} images"
    if config.n_skipped:
        done += f", {config.n_skipped} more could not be read (skipped.csv)"
    if outcome.n_rejected:
        # A robust run that is interrupted has no table and no sheet yet.
        shown = " (refinement.csv says why, rejected.png shows them)" if calibration else ""
        done += f", {outcome.n_rejected} of them set aside{shown}"
    lines = [f"{'trained' if outcome.complete else 'interrupted'}: {done}"]
    if calibration:
        lines += calibration_lines(calibration)
    lines.append(f"run folder: {folder}")
    if not outcome.complete:
        return [*lines, f"go on with: edge-aae train --resume --out {folder}"]
    return [*lines, verdict_of(calibration or {}).next_line("edge-aae export")]


def calibration_lines(calibration: dict[str, Any]) -> list[str]:
    """The verdict; and what the threshold was set for, where it was set for a rate."""
    lines, limit = [verdict_of(calibration).line], calibration.get("limit")
    if not limit:
        return lines
    known = calibration.get("known_bad")
    lines += _known_bad_lines(known) if known else [f"threshold: {_aim(limit)}"]
    if limit["n"] < FEW_IMAGES:
        lines.append(f"only {limit['n']} images: with {FEW_IMAGES} or more, detector and threshold are more certain")
    return lines


def _known_bad_lines(known: dict[str, Any]) -> list[str]:
    from edge_runtime.bundle.separation import Separation

    counts = {name: value for name, value in known.items() if name != "threshold"}
    return [f"threshold: {known['threshold']:.3g} on the score, by the known defects", *Separation(**counts).lines()]


def _aim(limit: dict[str, Any]) -> str:
    asked, n = limit["target_fpr"], limit["n"]
    if limit.get("rule") != "balanced":
        at_most = f"set for at most {asked:.3g} false alarms"
        if limit["extrapolated"]:
            return f"{at_most}; {n} images cannot show so low a rate: extrapolated from the tail of their scores"
        return f"{at_most}, whatever is mixed in among the images"
    about = f"set for about {limit['stands_for']:.1%} false alarms"
    if asked is None:
        return f"{about} (--target-fpr asks for another rate)"
    if limit["stands_for"] > asked:
        return f"{about}; {n} images cannot show the {asked:.3g} asked for"
    return f"{about}, as asked for"
