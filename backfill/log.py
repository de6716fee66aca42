"""Logs: structlog to stderr, JSON unless a person is looking, secrets blotted out."""

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from backfill.core.plain import json_text, lines, one_line, printable
from backfill.core.redact import Redactor

FORMATS: Final = ("json", "console")
_IN_THE_SUMMARY: Final = {"series.failed", "bars.quarantined"}


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


def configure(log_format: str | None, secrets: Iterable[str]) -> Redactor:
    """Send events to stderr: as ``json``, as ``console`` text, or (None) as fits what stderr is.

    On a terminal only warnings and errors are shown, and none that the summary tells: the progress
    line tells the rest. No line is an order to a runner, whatever it quotes. What libraries log to
    Python's own loggers goes the same way. Returns the redactor, for texts that reach a person by
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
            *([] if as_json or not sys.stderr.isatty() else [_untold]),
            *shape,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.WARNING if sys.stderr.isatty() and not as_json else logging.INFO
        ),
        # Looked up at each event: the progress line puts itself between it and the terminal.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    if not any(isinstance(one, _Passed) for one in root.handlers):
        root.addHandler(_Passed(logging.WARNING))
    return redactor


def is_json() -> bool:
    """Whether events are written as lines of JSON, once logs are set up."""
    processors = structlog.get_config()["processors"]
    return any(isinstance(one, structlog.processors.JSONRenderer) for one in processors)


def told(text: str) -> str:
    """Return a message as it may leave, without what the logs blot out, once they are set up."""
    for processor in structlog.get_config()["processors"]:
        if isinstance(processor, Redactor):
            return processor.told(text)
    return one_line(text)


class _Passed(logging.Handler):
    """Passes on what a library says by itself, such as asyncio of an error that nobody awaited."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno,
            "library.said",
            library=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info,
        )


class _Console(structlog.dev.ConsoleRenderer):
    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        shown = {
            name: printable(value, kept="\n") if isinstance(value, str) else value
            for name, value in event.items()
        }
        return lines(super().__call__(logger, method, shown))


def _untold(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop what the summary tells on the same terminal, in a block for each cause."""
    if event["event"] in _IN_THE_SUMMARY:
        raise structlog.DropEvent
    return event


def _json(event: EventDict, **_: Any) -> str:
    return json_text(event)


def _plain(stream: object, _exc_info: object) -> None:
    """Exceptions are formatted, and blotted, before the renderer sees them."""
