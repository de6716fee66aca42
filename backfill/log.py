"""Logs: structlog to stderr, JSON unless a person is looking, secrets blotted out."""

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from backfill.core.plain import json_line, lines


@contextmanager
def _hidden(library: str) -> Iterator[None]:
    """Let a library that isn't loaded yet pass for one that isn't installed."""
    if library in sys.modules:
        yield
        return
    sys.modules[library] = None  # type: ignore[assignment]  # importlib's own mark for that
    try:
        yield
    finally:
        del sys.modules[library]


# structlog would load rich for tracebacks, which are formatted here without it: that is half of
# what a command takes to start.
with _hidden("rich"):
    import structlog
    from structlog.typing import EventDict, Processor, WrappedLogger

_BLOT: Final = "***"
_SHORTEST_SECRET: Final = 4


class Redactor:
    """A processor that blots secrets out of every value of an event, exceptions included (R26)."""

    def __init__(self, secrets: Iterable[str]) -> None:
        long_first = sorted({*secrets}, key=len, reverse=True)
        kept = [_spellings(secret) for secret in long_first if len(secret) >= _SHORTEST_SECRET]
        self._secrets = re.compile("|".join(kept)) if kept else None

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Blot an event."""
        return {self.text(name): self._blotted(value) for name, value in event.items()}

    def text(self, text: str) -> str:
        """Blot a text."""
        return self._secrets.sub(_BLOT, text) if self._secrets else text

    def _blotted(self, value: object) -> object:
        match value:
            case str():
                return self.text(value)
            case None | bool() | int() | float():
                return value
            case bytes():
                return self.text(value.decode(errors="replace"))
            case dict():
                return {self.text(str(name)): self._blotted(inner) for name, inner in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._blotted(inner) for inner in value]
            case _:
                return self.text(repr(value))


def _spellings(secret: str) -> str:
    """Return a pattern for a secret, each character as it is, percent-encoded or escaped."""
    return "".join(f"(?:{'|'.join(_forms(character))})" for character in secret)


def _forms(character: str) -> Iterator[str]:
    yield re.escape(character)
    yield "".join(f"%(?i:{byte:02x})" for byte in character.encode(errors="surrogateescape"))
    if character == " ":
        yield re.escape("+")
    if character in "\\'\"":
        yield re.escape(f"\\{character}")


def configure(log_format: str | None, secrets: Iterable[str]) -> Redactor:
    """Send events to stderr: as ``json``, as ``console`` text, or (None) as fits what stderr is.

    On a terminal only warnings and errors are shown: the progress line tells the rest. No line is
    an order to a runner, whatever it quotes. Returns the redactor, for texts that reach a person by
    another way.
    """
    redactor = Redactor(secrets)
    as_json = log_format == "json" or (log_format is None and not sys.stderr.isatty())
    shape: list[Processor] = (
        [
            structlog.processors.format_exc_info,
            redactor,
            structlog.processors.JSONRenderer(serializer=_json),
        ]
        if as_json
        else [
            structlog.processors.format_exc_info,
            redactor,
            _Console(
                colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
                exception_formatter=_plain,
            ),
        ]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *shape,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.WARNING if sys.stderr.isatty() and not as_json else logging.INFO
        ),
        # Looked up at each event: the progress line puts itself between it and the terminal.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    return redactor


def redacted(text: str) -> str:
    """Blot out of a text what the logs blot out, once they are set up."""
    for processor in structlog.get_config()["processors"]:
        if isinstance(processor, Redactor):
            return processor.text(text)
    return text


class _Console(structlog.dev.ConsoleRenderer):
    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        return lines(super().__call__(logger, method, event))


def _json(event: EventDict, **options: Any) -> str:
    return json_line(json.dumps(event, **options))


def _plain(stream: object, _exc_info: object) -> None:
    """Exceptions are formatted, and blotted, before the renderer sees them."""
