"""One variable of the environment: its names, what it means, and how its text is read."""

import os
from collections.abc import Callable, Mapping
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any, Final

from backfill.core.dataclass import dataclass
from backfill.errors import UsageError

_METADATA: Final = "variable"
_FILE: Final = "_FILE"
_LONGEST: Final = 16_384
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
    holds_secret: bool = False

    @property
    def is_secret(self) -> bool:
        """Whether its value must never be shown."""
        return self.read is Secret

    @property
    def may_be_file(self) -> bool:
        """Whether the file that ``<NAME>_FILE`` names may hold it: all of it is secret, or some."""
        return self.is_secret or self.holds_secret

    @property
    def all_names(self) -> tuple[str, ...]:
        """Its names, and those that name files."""
        return (*self.names, *map(file_name, self.names)) if self.may_be_file else self.names


def variable(
    *names: str,
    meaning: str,
    default: object = None,
    read: Callable[[str], object] = str,
    holds_secret: bool = False,
) -> Any:  # as dataclasses.field, which the field's own type bounds
    """Return a dataclass field that is read from the environment."""
    source = Variable(names, meaning, read, holds_secret)
    return field(default=default, metadata={_METADATA: source})


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
    """Return which of a variable's names aren't empty, the first first, each with its text.

    A secret's text may stand in a file instead, which ``<NAME>_FILE`` names.

    Raises
    ------
    UsageError
        If such a file can't be read, or both are given.
    """
    said = [(name, os.environ.get(name, "").strip()) for name in variable.names]
    if variable.may_be_file:
        said = [_said_or_filed(name, text) for name, text in said]
    return [pair for pair in said if pair[1]]


def _said_or_filed(name: str, text: str) -> tuple[str, str]:
    filed = text_in_file(os.environ, name)
    if filed is None:
        return name, text
    if text:
        raise UsageError(f"{name} and {file_name(name)} are both set: leave one of them out")
    return file_name(name), filed


def file_name(name: str) -> str:
    """Return the variable that names the file in which another one's text may stand."""
    return f"{name}{_FILE}"


def text_in_file(environment: Mapping[str, str], name: str) -> str | None:
    """Return a variable's text from the file that ``<NAME>_FILE`` names; None if that names none.

    Raises
    ------
    UsageError
        If the file can't be read, or holds more than a line. The message holds neither its name,
        which may be the secret itself by mistake, nor anything of what it holds.
    """
    path = environment.get(file_name(name), "").strip()
    if not path:
        return None
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LONGEST + 1).decode().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{file_name(name)} names a file that can't be read: {reason}") from None
    if len(text) > _LONGEST or len(text.splitlines()) > 1:
        raise UsageError(f"{file_name(name)} names a file that holds more than a line")
    return text


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
