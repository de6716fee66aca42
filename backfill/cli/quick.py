"""Typer's app, quicker to start: an option whose value needs no conversion gets none.

Typer 0.29 builds a pydantic adapter for each option of a command, given or not: most of its start.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

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


def _quickened(params: list[Any]) -> list[Any]:
    for param in params:
        if type(param) is TyperOption:
            # Typer makes the options itself, and takes no class for them.
            param.__class__ = _Option
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
