"""What somebody wrote into the tables by hand is only text, whichever command shows it."""

import sys
from collections.abc import Callable, Iterator

import msgspec
import pytest
import structlog

from backfill.cli import main
from tests.conftest import KEY, NOW, query
from tests.property.test_plain import obeyed

HOSTILE = "::error::A\x1b[31m\u202e[/]\n::add-mask::x ##[error] |<img src=y>`$(id)` me@mail.example"
BY_HAND = """
    WITH named AS (
        INSERT INTO symbols (ticker, asset_type, calendar, confirmed_at)
        VALUES ($1, 'stock', 'XNYS', now()), ($1 || '2', 'stock', $1, now())
        RETURNING id, calendar
    ), watched AS (
        INSERT INTO watchlist (symbol_id, timeframes, since)
        SELECT id, ARRAY['d1']::timeframe[], CASE WHEN calendar = $1 THEN $1 END FROM named
    ), kept AS (
        INSERT INTO backfill_progress (symbol_id, timeframe, provider, feed, adjustment)
        SELECT id, 'd1', $1, $1, 'raw' FROM named
    )
    INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id)
    SELECT id, 'd1', '2024-11-05 05:00Z', $1, jsonb_build_object('open', $1::text),
        '00000000-0000-0000-0000-000000000007'
    FROM named
"""
AS_OF = ("--as-of", NOW.isoformat())


@pytest.fixture
def command(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run commands in this process; they return their exit code and what they printed."""
    for name, value in {
        "DATABASE_URL": database_url,
        "MASSIVE_API_KEY": KEY,
        "BACKFILL_PROVIDER_URL": "http://127.0.0.1:1",
        "GITHUB_ACTIONS": "true",
    }.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["backfill", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    yield run
    structlog.reset_defaults()


@pytest.mark.parametrize("as_json", [False, True], ids=["as-text", "as-json"])
def test_no_command_obeys_what_was_written_by_hand(
    command: Callable[..., tuple[int, str, str]], database_url: str, *, as_json: bool
) -> None:
    query(database_url, BY_HAND, HOSTILE)
    form = ("--json",) if as_json else ()
    for arguments, codes in (
        (("symbols", "list"), {0}),
        (("watch", "list"), {0}),
        (("status", *AS_OF), {0, 4}),
        (("gaps", *AS_OF), {0, 4}),
        (("quarantine", "list"), {0}),
        (("run", "--all", "--dry-run", *AS_OF), {0, 1}),
        (("run", "--all", "--max-calls", "0", *AS_OF), {1, 5}),
    ):
        code, out, err = command(*arguments, *form)
        assert code in codes, (arguments, err)
        assert "mail.example" in out, (arguments, err)
        assert not obeyed(out), arguments
        assert "Traceback" not in err, arguments
        # The annotations are orders, each of our own.
        ours = [line for line in err.splitlines() if not line.startswith("::error title=")]
        assert not obeyed("\n".join(ours)), arguments
        if as_json:
            msgspec.json.decode(out)
    for shape in () if as_json else ("markdown", "prometheus"):
        _, out, _ = command("status", "--format", shape, *AS_OF)
        assert "mail.example" in out
        assert not obeyed(out)
