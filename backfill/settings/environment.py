"""One variable of the environment: its names, what it means, and how its text is read."""

import os
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final

from backfill.errors import UsageError

_METADATA: Final = "variable"
_YES: Final = frozenset({"on", "true", "t", "yes", "y", "1"})
_NO: Final = frozenset({"off", "false", "f", "no", "n", "0"})


class Secret:
    """A text that is shown to nobody who doesn't ask for it by ``reveal``."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """Return the text."""
        return self._text


@dataclass(frozen=True, slots=True)
class Variable:
    """How a field is set from outside: by the first of ``names`` that isn't empty.

    ``read`` makes the field's value of the text; a ``ValueError`` of it says what may stand there.
    """

    names: tuple[str, ...]
    meaning: str
    read: Callable[[str], object]

    @property
    def is_secret(self) -> bool:
        """Whether its value must never be shown."""
        return self.read is Secret


def variable(
    *names: str, meaning: str, default: object = None, read: Callable[[str], object] = str
) -> Any:  # as dataclasses.field, which the field's own type bounds
    """Return a dataclass field that is read from the environment."""
    return field(default=default, metadata={_METADATA: Variable(names, meaning, read)})


def variable_of(one: "Field[Any]") -> Variable | None:
    """Return the variable that a field is read from, if it is."""
    found: Variable | None = one.metadata.get(_METADATA)
    return found


def read_environment(settings: type) -> dict[str, Any]:
    """Return the fields of a dataclass that the environment sets, by name.

    Values are stripped of white space around them, and an empty one counts as unset.

    Raises
    ------
    UsageError
        If a variable holds what it can't; the message names it and not its value.
    """
    values = {}
    for one in fields(settings):
        source = variable_of(one)
        if source is not None and (said := read_variable(source)) is not None:
            values[one.name] = said
    return values


def read_variable(variable: Variable) -> object | None:
    """Return what a variable says; None if it says nothing.

    Raises
    ------
    UsageError
        If it holds what it can't; the message names it and not its value.
    """
    for name, text in said_by(variable)[:1]:
        try:
            return variable.read(text)
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
    return None


def said_by(variable: Variable) -> list[tuple[str, str]]:
    """Return which of a variable's names aren't empty, the first first, each with its text."""
    said = ((name, os.environ.get(name, "").strip()) for name in variable.names)
    return [pair for pair in said if pair[1]]


def switch(text: str) -> bool:
    """Read ``on`` or ``off``, or another spelling of them."""
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise ValueError("should be 'on' or 'off'")


def one_of(*words: str) -> Callable[[str], str]:
    """Return a reader that takes some words and no others."""

    def read(text: str) -> str:
        if text not in words:
            quoted = (f"'{word}'" for word in words)
            raise ValueError(f"should be {' or '.join(quoted)}")
        return words[words.index(text)]

    return read
