"""How a command shows its help: a short one by --help, all of it by --help-all, options under headings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from edge_aae.commands.config_file import of_the_file
from edge_aae.commands.foreign_words import key_value_word, unknown_command, unknown_option
from edge_aae.commands.help_sections import HelpSection, sections_of
from edge_runtime.errors import ConfigError

__all__ = ["Command", "Group"]

EVERYTHING = "edge_aae.help_all"
"""In a context's meta: whether all options are to be shown."""
OTHERS = "Other options"
HELP = ("help", "help-all")
HELP_FLAGS = ["-h", "--help"]


class Command(click.Command):
    """A command whose --help shows what most people need, and whose --help-all shows every option."""

    _help_all: click.Option | None = None

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **{"context_settings": {"help_option_names": HELP_FLAGS}, **attributes})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; an option of another program, or of another command, is answered with what it is here."""
        if not ctx.resilient_parsing and (assigned := key_value_word(args, self.name)):
            raise click.UsageError(assigned, ctx)
        with _blaming_the_file(ctx):
            try:
                return super().parse_args(ctx, args)
            except click.NoSuchOption as error:
                raise click.UsageError(unknown_option(error.option_name, ctx), ctx) from None
            except click.BadParameter as error:
                if error.param is None or not (file := of_the_file(error.message, ctx, error.param)):
                    raise
                raise click.UsageError(f"{file}{_name(error.param)}: {error.message}", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """As click does; a value that only turns out to be bad meanwhile is said to be of the file that gave it."""
        with _blaming_the_file(ctx):
            return super().invoke(ctx)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """With --help-all, which is shown where it shows more than --help."""
        if self._help_all is None:  # one object: click tells parameters apart by identity
            n_options = sum(isinstance(param, click.Option) for param in self.params)
            self._help_all = _help_all(f"Show all {n_options} options and exit.", hidden=not self.has_more)
        return [*super().get_params(ctx), self._help_all]

    @property
    def has_more(self) -> bool:
        """Whether options or explanations are left out of the short help."""
        return any(section.more for section in sections_of(self.name))

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The whole text; of a short help the first paragraph and the examples."""
        if self.help is None or not self.has_more or EVERYTHING in ctx.meta:
            super().format_help_text(ctx, formatter)
            return
        first, *others = inspect.cleandoc(self.help).split("\n\n")
        examples = [paragraph for paragraph in others if paragraph.startswith("\b")]
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text("\n\n".join([first, *examples]))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options by section; those that no section names, and those of help, come last."""
        sections = sections_of(self.name)
        if not sections:
            super().format_options(ctx, formatter)
            return
        records = {_name(param): param.get_help_record(ctx) for param in self._options(ctx)}
        listed = {name for section in sections for name in section.all}
        rest = tuple(name for name in records if name not in listed)
        everything = EVERYTHING in ctx.meta
        for section in (*sections, HelpSection(OTHERS if set(rest) - set(HELP) else "Help", rest)):
            names = section.all if everything else section.shown
            rows = [record for name in names if (record := records.get(name)) is not None]
            if rows:
                with formatter.section(section.title):
                    formatter.write_dl(rows)

    def _options(self, ctx: click.Context) -> Iterator[click.Option]:
        return (param for param in self.get_params(ctx) if isinstance(param, click.Option))


class Group(click.Group):
    """Commands of this kind; alone it shows its help, which is what was wanted."""

    command_class = Command
    _help_all: click.Option | None = None

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """With --help-all, which is taken everywhere, and shows what --help does."""
        if self._help_all is None:
            self._help_all = _help_all("Show this message and exit.", hidden=True)
        return [*super().get_params(ctx), self._help_all]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without a word, the help, and exit status 0."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are used."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named; for another word the one that does it here."""
        known = args[0].startswith("-") or ctx.resilient_parsing or self.get_command(ctx, args[0]) is not None
        if not known:
            raise click.UsageError(unknown_command(args[0], ctx), ctx)
        return super().resolve_command(ctx, args)


@contextmanager
def _blaming_the_file(context: click.Context) -> Iterator[None]:
    """Before an error about an option's value stands the --config that gave the value."""
    try:
        yield
    except ConfigError as error:
        error.args = (f"{of_the_file(str(error), context)}{error}",)
        raise


def _help_all(said: str, *, hidden: bool) -> click.Option:
    return click.Option(
        ["--help-all"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_all,
        hidden=hidden,
        help=said,
    )


def _show_all(context: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        context.meta[EVERYTHING] = True
        click.echo(context.get_help(), color=context.color)
        context.exit()


def _name(option: click.Parameter) -> str:
    return max(option.opts, key=len).lstrip("-")
