"""Typer's app, quicker to start: a value that needs no conversion gets none.

Typer 0.29 builds a pydantic adapter for each option and argument of a command, given or not: most
of its start. It builds every command, too, whichever is asked for.
"""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Final, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command_name
from typer.models import CommandInfo, TyperInfo

_F = TypeVar("_F", bound=Callable[..., Any])


class _Option(TyperOption):
    def process_value(self, ctx: Any, value: Any) -> Any:
        wanted = self.type_descriptor.annotation
        if value is None and not self.required:
            converted: Any = () if self.multiple else None
        elif type(value) is wanted:  # a text, a flag, or a default of ours
            converted = value
        elif wanted == list[str] and isinstance(value, (list, tuple)):
            converted = list(value)
        else:
            return super().process_value(ctx, value)
        return self.callback(ctx, self, converted) if self.callback else converted


class _Argument(TyperArgument):
    def process_value(self, ctx: Any, value: Any) -> Any:
        if value is None and not self.required:
            return None
        if self.type_descriptor.annotation == list[str] and isinstance(value, (list, tuple)):
            return list(value)
        return super().process_value(ctx, value)


_QUICK: Final[dict[Any, Any]] = {TyperOption: _Option, TyperArgument: _Argument}


def _quickened(params: list[Any]) -> list[Any]:
    for param in params:
        # Typer makes options and arguments itself, and takes no class for them.
        param.__class__ = _QUICK.get(type(param), type(param))
    return params


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _quickened(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _quickened(super().get_params(ctx))


class App(typer.Typer):
    """A Typer whose commands convert what was given, and no more."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=_Group, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[_F], _F]:
        """Add a command, as ``typer.Typer.command`` does."""
        return super().command(name, cls=_Command, **options)

    def narrowed(self, words: Sequence[str]) -> "App":
        """Return the app with the command alone that a line begins with; the app itself if none."""
        first = words[0] if words else None
        commands = [one for one in self.registered_commands if _name_of(one) == first]
        groups = [one for one in self.registered_groups if one.name == first]
        if not commands and not groups:
            return self
        narrow = copy(self)
        narrow.registered_commands = commands
        narrow.registered_groups = [_narrowed(one, words[1:]) for one in groups]
        return narrow


def _name_of(command: CommandInfo) -> str:
    return command.name or get_command_name(command.callback.__name__ if command.callback else "")


def _narrowed(group: TyperInfo, words: Sequence[str]) -> TyperInfo:
    narrow = copy(group)
    if isinstance(group.typer_instance, App):
        narrow.typer_instance = group.typer_instance.narrowed(words)
    return narrow
