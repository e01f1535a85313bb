"""What mkdocs adds to the pages of this folder: one of each command, of its --help; the results; the repository's own.

A hook of mkdocs.yml. Nothing here is written by hand twice: options come from the command line as it is at the build.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from edge_aae.cli import cli

ROOT = Path(__file__).resolve().parents[1]
OF_THE_REPOSITORY = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "LICENSE": "project/license.txt",
}
"""Files outside this folder that have a place in the site, so that links to them lead there"""

LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Name, such as "keys make", and command, of all of the command line; groups before what they hold."""
    for name, command in cli.commands.items():
        yield name, command
        if isinstance(command, click.Group):
            for inner, held in command.commands.items():
                yield f"{name} {inner}", held


def page_of(name: str, command: click.Command) -> str:
    """Markdown of a command: what --help says, its options as a table that a phone can show."""
    context = click.Context(command, info_name=f"edge-aae {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"# edge-aae {name}", f"    edge-aae {name} {usage}".rstrip(), *paragraphs(command.help or "")]
    if isinstance(command, click.Group):
        rows = [
            (f"[{inner}]({file_name(f'{name} {inner}')})", held.get_short_help_str(200))
            for inner, held in command.commands.items()
        ]
        parts.append(table(("command", "what"), rows))
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    parts.append(table(("option", "what"), [(f"`{names}`", words) for names, words in filter(None, records)]))
    return "\n\n".join(parts) + "\n"


def paragraphs(text: str) -> Iterator[str]:
    """Of a help text; what click shows as it stands becomes code, and nothing of it is taken for markup."""
    for paragraph in re.split(r"\n\s*\n", re.sub(r"\f.*", "", text, flags=re.DOTALL).strip()):
        lines = paragraph.splitlines()
        if lines and lines[0].strip() == "\b":
            yield "\n".join(f"    {line.strip()}" for line in lines[1:])
        else:
            yield plain(" ".join(line.strip() for line in lines))


def plain(text: str) -> str:
    """Text with nothing in it that Markdown or HTML would take for its own."""
    return re.sub(r"([\\*_\[\]<>|`])", r"\\\1", text).replace("\\<", "&lt;").replace("\\>", "&gt;")


def table(heads: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    """Markdown table; names may be code, in which a bar ends no cell."""
    lines = [f"| {heads[0]} | {heads[1]} |", "|---|---|"]
    lines += [f"| {code(name) if name.startswith('`') else name} | {plain(words)} |" for name, words in rows]
    return "\n".join(lines)


def code(name: str) -> str:
    """As HTML, because a bar within backquotes would end the cell."""
    text = name.strip("`").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "<code>" + text.replace("|", "&#124;") + "</code>"


def file_name(name: str) -> str:
    """Of a command's page, in the folder of all of them."""
    return f"{name.replace(' ', '-')}.md"


def overview() -> str:
    """Markdown of all commands, by what the command line itself says of them."""
    rows = [
        (f"[{name}]({file_name(name)})", command.get_short_help_str(200))
        for name, command in commands()
        if " " not in name
    ]
    return "\n\n".join(["# Commands", *paragraphs(cli.help or ""), table(("command", "what"), rows)]) + "\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Pages that are generated, or that each measurement adds, have their places among the others."""
    sections = _sections(config)
    sections["Reference"].insert(
        0, {"Commands": ["reference/commands/index.md", *(f"reference/commands/{file_name(n)}" for n, _ in commands())]}
    )
    results = sorted((ROOT / "docs/results").glob("*.md"))
    sections["Benchmarks"].append({"Every result": [f"results/{file.name}" for file in results]})
    sections["Project"] += [path for path in OF_THE_REPOSITORY.values() if path.endswith(".md")]
    return config


def _sections(config: MkDocsConfig) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for entry in config.nav or []:
        if isinstance(entry, dict):
            found |= {name: pages for name, pages in entry.items() if isinstance(pages, list)}
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Generated pages join those of the folder."""
    made = {"reference/commands/index.md": overview()}
    made |= {f"reference/commands/{file_name(name)}": page_of(name, command) for name, command in commands()}
    made |= {place: (ROOT / name).read_text(encoding="utf-8") for name, place in OF_THE_REPOSITORY.items()}
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Links from page to page as they are in the repository, turned where the site has another place for them."""
    place = page.file.src_uri
    source = next((name for name, other in OF_THE_REPOSITORY.items() if other == place), f"docs/{place}")

    def turned(found: re.Match[str]) -> str:
        before, target, after = found.groups()
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        path = normpath(f"{dirname(source)}/{target}".lstrip("/"))
        here = path.removeprefix("docs/") if path.startswith("docs/") else OF_THE_REPOSITORY.get(path)
        # One that leads nowhere is left as it is, for mkdocs to say so.
        return found[0] if here is None else f"{before}{relpath(here, dirname(place) or '.')}{after}"

    return LINK.sub(turned, markdown)
