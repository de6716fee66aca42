"""Events are one JSON object a line, and no secret is in any of them (R26)."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

import pytest
import structlog
from yarl import URL

from backfill import log
from backfill.core.redact import Redactor

SECRET: Final = "k3y/of+the test:é"
PASSWORD: Final = "pass-word"

Say = Callable[..., str]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(params=["json", "console"])
def say(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Say:
    """Log an event with these values, in either format, and return what stderr shows."""
    log.configure(request.param, [SECRET, PASSWORD])

    def write(event: str = "fetch.page", **values: Any) -> str:
        structlog.get_logger().warning(event, **values)
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.strip()
        return shown.err

    return write


@dataclass
class Holder:
    """An object whose text is only made when the line is written."""

    held: str


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        f"Bearer {SECRET}",
        f"https://host/?apiKey={quote(SECRET, safe='')}&x=1",
        f"https://host/?apiKey={quote(SECRET)}",
        f"https://host/?apiKey={quote_plus(SECRET)}",
        f"https://host/?apiKey={quote(SECRET, safe='').lower()}",
        f"https://host/{quote(SECRET, safe=':+ ')}",
        f"{SECRET}{SECRET}",
        [SECRET],
        ("a", {"b": [f"x {SECRET} y"]}),
        {"key": SECRET},
        {SECRET: "key"},
        {SECRET},
        frozenset({SECRET}),
        SECRET.encode(),
        Path(f"/tmp/{SECRET}"),
        Holder(SECRET),
        URL.build(scheme="https", host="host", query={"apiKey": SECRET}),
        ValueError(f"bad key {SECRET}"),
        f"postgresql://user:{PASSWORD}@host/db",
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_value_shows_a_secret(say: Say, value: object) -> None:
    shown = say(value=value)
    for part in ("k3y", "of+the", "of%2Bthe", PASSWORD):
        assert part not in shown
    assert "***" in shown


def test_the_name_of_an_event_shows_no_secret(say: Say) -> None:
    assert "k3y" not in say(f"connecting with {SECRET}")


def test_a_traceback_shows_no_secret_also_not_of_its_cause(say: Say) -> None:
    error = ValueError(f"no connection to postgresql://user:{PASSWORD}@host")
    error.__cause__ = ConnectionError(f"refused {SECRET}")
    shown = say(exc_info=error)
    assert "ValueError: no connection" in shown
    assert "ConnectionError: refused" in shown
    assert PASSWORD not in shown
    assert "k3y" not in shown


def test_what_is_bound_to_the_context_shows_no_secret(say: Say) -> None:
    with structlog.contextvars.bound_contextvars(url=f"https://{SECRET}"):
        assert "k3y" not in say()


def test_a_secret_with_quotes_and_backslashes_is_found_where_it_is_quoted() -> None:
    secret = """sl\\ash'quote"mark"""
    redactor = Redactor([secret])
    for text in (secret, repr(secret), repr(ValueError(secret)), json.dumps(secret)):
        assert "ash" not in redactor.text(text)


def test_a_secret_within_a_longer_one_leaves_nothing_of_it() -> None:
    redactor = Redactor(["pass", "pass-word-2"])
    assert redactor.text("pass-word-2 and pass") == "*** and ***"


def test_what_is_too_short_to_be_a_secret_leaves_words_alone() -> None:
    assert Redactor(["", "a", "all"]).text("all about a run") == "all about a run"


def test_a_line_is_one_json_object_with_its_time_level_and_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure("json", [])
    logger = structlog.get_logger()
    with structlog.contextvars.bound_contextvars(run_id="r", symbol="AAPL"):
        logger.info("chunk.stored", inserted=3, text="two\nlines", none=None, share=0.5)
        logger.error("series.failed")
    stored, failed = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    at = datetime.fromisoformat(stored.pop("timestamp"))
    assert at.utcoffset() == timedelta(0)
    assert stored == {
        "event": "chunk.stored",
        "level": "info",
        "run_id": "r",
        "symbol": "AAPL",
        "inserted": 3,
        "text": "two\nlines",
        "none": None,
        "share": 0.5,
    }
    assert (failed["event"], failed["level"], failed["symbol"]) == (
        "series.failed",
        "error",
        "AAPL",
    )


def test_what_only_a_developer_wants_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json", [])
    structlog.get_logger().debug("detail")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("terminal", "json_lines"), [(False, True), (True, False)])
def test_without_a_choice_json_is_for_what_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    terminal: bool,
    json_lines: bool,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    log.configure(None, [])
    structlog.get_logger().warning("quota.throttled", pause_s=7)
    shown = capsys.readouterr().err
    assert "quota.throttled" in shown
    assert shown.startswith("{") == json_lines


def test_on_a_terminal_a_failed_series_is_left_to_the_summary(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    log.configure(None, [])
    structlog.get_logger().error("series.failed", outcome="unknown_symbol")
    structlog.get_logger().error("lease.not_renewed")
    [line] = capsys.readouterr().err.splitlines()
    assert "lease.not_renewed" in line


def test_a_library_s_own_words_are_an_event_like_any_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure("json", [SECRET, PASSWORD])
    error = ValueError(f"never retrieved {SECRET}")
    logging.getLogger("asyncio").error("task of %s\n::error::x", PASSWORD, exc_info=error)
    [line] = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert (event["event"], event["library"]) == ("library.said", "asyncio")
    assert event["message"] == "task of ***\n::error::x"
    assert "ValueError: never retrieved ***" in event["exception"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_long_value_is_cut_after_the_secrets_have_gone(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(form, [SECRET])
    structlog.get_logger().warning("fetch.retry", message="." * 19_995 + SECRET * 2_000)
    shown = capsys.readouterr().err
    assert "k3y" not in shown
    assert len(shown) < 21_000


def test_the_console_shows_no_control_character_of_others(say: Say) -> None:
    shown = say(message="a\x1b[31m\x9b\u202eb", other=["\x1b[31m"])
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
