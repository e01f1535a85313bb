"""Groups of options: each declared once, as a field, and given to functions as a whole."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

from edge_aae.commands.option_groups import OptionGroup, option


@dataclass(frozen=True, kw_only=True, slots=True)
class Coating(OptionGroup):
    layers: int = option("--layers", type=int, default="2", show_default=True, help="How many.")
    colours: tuple[str, ...] = option("--colour", multiple=True, help="Of each layer.")

    def __post_init__(self) -> None:
        if self.colours and len(self.colours) != self.layers:
            raise click.UsageError(f"{len(self.colours)} colours for {self.layers} layers")


@dataclass(frozen=True, kw_only=True, slots=True)
class Varnish(Coating):
    matt: bool = option("--matt", is_flag=True)


@click.command()
@click.option("--first")
@Varnish.options
@click.option("--last")
def coat(**parsed: Any) -> None:
    click.echo(repr(Varnish.of(parsed)))


def test_the_options_stand_in_the_order_of_the_fields_the_base_groups_first() -> None:
    assert [parameter.opts for parameter in coat.params] == [
        ["--first"], ["--layers"], ["--colour"], ["--matt"], ["--last"],
    ]  # fmt: skip
    shown = CliRunner().invoke(coat, ["--help"]).output
    assert "How many.  [default: 2]" in shown


def test_a_group_holds_what_was_given_for_it_and_click_converted() -> None:
    assert Varnish.of(coat.make_context("coat", ["--first", "x"]).params) == Varnish(layers=2, colours=(), matt=False)
    given = coat.make_context("coat", ["--colour", "red", "--layers", "1", "--matt"]).params
    assert Varnish.of(given) == Varnish(layers=1, colours=("red",), matt=True)
    with pytest.raises(FrozenInstanceError):
        Varnish.of(given).layers = 3  # type: ignore[misc]


def test_what_does_not_fit_is_refused_when_the_group_is_made_and_not_while_options_are_read() -> None:
    context = coat.make_context("coat", ["--colour", "red"])
    with pytest.raises(click.UsageError, match="1 colours for 2 layers"):
        Varnish.of(context.params)
    ended = CliRunner().invoke(coat, ["--colour", "red"])
    assert ended.exit_code == 2
    assert "Usage: coat" in ended.output
