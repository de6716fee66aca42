"""Secrets blotted out of texts, of a log's events, and of the answers that repeat them.

A text is blotted as it reads once it is decoded, and before it is shortened: half a key would be
found by nobody.
"""

import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from functools import cached_property
from typing import Any, Final

from backfill.core.plain import one_line

BLOT: Final = "***"
"""What stands in place of a secret."""

_SHORTEST_SECRET: Final = 4
_MOST_TOLD: Final = 1000
_MOST_LOGGED: Final = 20_000
"""So many characters of a text are told in a line, and logged."""


class Redactor:
    """Blots some secrets out of whatever it is given (R26)."""

    def __init__(self, secrets: Iterable[str]) -> None:
        long_first = sorted({*secrets}, key=len, reverse=True)
        self._kept = [secret for secret in long_first if len(secret) >= _SHORTEST_SECRET]
        # As it is, or in characters that are spelled: most texts and answers hold none of that.
        spelled = ["\\", "%", *(["+"] if any(" " in one for one in self._kept) else [])]
        self._signs = [*spelled, *self._kept] if self._kept else []
        self._byte_signs = [*map(_bytes, self._signs)]

    @cached_property
    def _in_text(self) -> "re.Pattern[str]":
        """Takes long to make, and is wanted for few texts."""
        return re.compile("|".join(_spelled(one, _forms) for one in self._kept))

    @cached_property
    def _in_bytes(self) -> "re.Pattern[bytes]":
        """Takes longer still."""
        return re.compile(_bytes("|".join(_spelled(one, _forms_in_json) for one in self._kept)))

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Blot every value of a log's event, exceptions included; a processor of structlog."""
        return {self.text(name): self._blotted(value) for name, value in event.items()}

    def text(self, text: str) -> str:
        """Blot a text."""
        if not any(sign in text for sign in self._signs):
            return text
        return self._in_text.sub(BLOT, text)

    def told(self, text: str) -> str:
        """Return a message as it may leave: blotted, then on one line of no great length."""
        return one_line(self.text(text))[:_MOST_TOLD]

    def body(self, body: bytes) -> bytes:
        """Blot an answer, by what its strings are once they are read as JSON, or as a URL in it.

        Where a secret repeats what stands outside of a string, it is no JSON any more.
        """
        if not any(sign in body for sign in self._byte_signs):
            return body
        return self._in_bytes.sub(BLOT.encode(), body)

    def _blotted(self, value: object) -> object:
        match value:
            case str():
                return self.text(value)[:_MOST_LOGGED]
            case None | bool() | int() | float():
                return value
            case bytes():
                return self.text(value.decode(errors="replace"))[:_MOST_LOGGED]
            case dict():
                return {self.text(str(name)): self._blotted(inner) for name, inner in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._blotted(inner) for inner in value]
            case _:
                return self.text(repr(value))[:_MOST_LOGGED]


def _spelled(secret: str, forms: Callable[[str], Iterable[str]]) -> str:
    """Return a pattern for a secret, each character in any of its forms."""
    return "".join(f"(?:{'|'.join(forms(character))})" for character in secret)


def _forms(character: str) -> Iterator[str]:
    """Spell a character as it is, as JSON or a literal may have it, and as a URL."""
    yield from _escapes(character)
    yield f"(?i:{_percent_encoded(character)})"
    if character == " ":
        yield re.escape("+")


def _forms_in_json(character: str) -> Iterator[str]:
    """Spell a character as `_forms` does, and that of a URL as JSON may have it in turn."""
    yield from _forms(character)
    yield _spelled(_percent_encoded(character), _escapes_in_either_case)


def _percent_encoded(character: str) -> str:
    return "".join(f"%{byte:02x}" for byte in _bytes(character))


def _escapes_in_either_case(character: str) -> Iterator[str]:
    yield from {*_escapes(character), *_escapes(character.upper())}


def _escapes(character: str) -> Iterator[str]:
    yield re.escape(character)
    if character in "\\'\"/":
        yield re.escape(f"\\{character}")
    units = character.encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    yield "".join(rf"\\u(?i:{high:02x}{low:02x})" for high, low in pairs)


def _bytes(text: str) -> bytes:
    """Return a text as the environment had it, whether or not that was UTF-8."""
    return text.encode(errors="surrogateescape")
