"""Options of a command that belong together: the fields of a dataclass, which then holds what was given for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import click

__all__ = ["OptionGroup", "option"]

Command = TypeVar("Command", bound=Callable[..., Any])
Group = TypeVar("Group", bound="OptionGroup")


def option(*flags: str, **attributes: Any) -> Any:
    """A field of a group: click's option of these flags and attributes, whose variable is the field's name."""
    return field(metadata={"flags": flags, "attributes": attributes})


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionGroup:
    """What every group is: a frozen dataclass whose fields are each an `option`.

    A group checks in __post_init__ what can be wrong with it alone; nothing is opened there.
    """

    @classmethod
    def options(cls, command: Command) -> Command:
        """Add the options to a command, in the order of the fields."""
        for declared in reversed(fields(cls)):
            added = click.option(*declared.metadata["flags"], declared.name, **declared.metadata["attributes"])
            command = added(command)
        return command

    @classmethod
    def of(cls: type[Group], parsed: Mapping[str, Any]) -> Group:
        """The group of what a command was given, among which are the values of other options too."""
        return cls(**{declared.name: parsed[declared.name] for declared in fields(cls)})
