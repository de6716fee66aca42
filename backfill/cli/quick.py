"""Typer's app, quicker to start: a value that needs no conversion gets none.

Typer 0.29 builds a pydantic adapter for each option and argument of a command, given or not: most
of its start.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

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
