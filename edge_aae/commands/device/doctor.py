"""`edge-aae doctor`: what this machine has and lacks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from edge_aae.commands.help_pages import Command
from edge_aae.commands.options import require_signature_option, resolve_model
from edge_aae.commands.places import bundle_argument
from edge_aae.commands.secret_values import warn_of_shown_secrets
from edge_runtime.errors import BundleError

__all__ = ["doctor"]

MARKS = {"ok": ("ok", "green"), "note": ("--", "cyan"), "warning": ("!!", "yellow"), "error": ("XX", "red")}


@click.command(cls=Command, short_help="What this machine has and lacks for a run, and what to do.")
@click.option("--camera", "cameras", multiple=True, help="Measure its true frame rate: an index or a source.")
@bundle_argument
@require_signature_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def doctor(cameras: tuple[str, ...], model: Path | None, require_signature: Path | None, as_json: bool) -> None:
    """Say what this machine has and lacks for a run: one check a line, with what to do about it.

    ok: as it should be; --: fine for most; !!: will hurt; XX: a run cannot work. Exit status 1 where there is an XX.
    With a bundle (--model, or one that is found as `run` finds it) every backend is tried with it.

    \b
    edge-aae doctor --camera 0
    """
    from edge_runtime.operations.doctor import examine

    warn_of_shown_secrets(click.get_current_context())
    try:
        bundle: Path | None = resolve_model(model)
    except BundleError:
        bundle = None
    checks: list[Any] = []
    for check in examine(bundle, cameras, require_signature):
        checks.append(check)
        if not as_json:
            mark, colour = MARKS[check.state]
            click.echo(f"{click.style(mark, fg=colour)}  {check.name:<16} {check.found}")
            if check.remedy:
                click.echo(f"    {'':<16} -> {check.remedy}")
    failed = [check for check in checks if check.state == "error"]
    if as_json:
        click.echo(json.dumps({"ok": not failed, "checks": [check.to_json() for check in checks]}, indent=2))
    if failed:
        sys.exit(1)
