"""``status --format``: the same facts as JSON, as Markdown and as metrics."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from backfill.simulator import Simulator
from tests.conftest import Cli, query

SATURDAY = datetime(2024, 11, 16, 12, tzinfo=UTC)
AS_OF = ("--as-of", SATURDAY.isoformat())
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\S+)')

MEANT = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}

Sample = tuple[str, frozenset[tuple[str, str]]]


def parsed(text: str) -> dict[Sample, float]:
    """The samples of an exposition, read strictly: every family is headed, whole and finite."""
    assert text.endswith("\n")
    found: dict[Sample, float] = {}
    headed: list[str] = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            headed.append(line.split()[2])
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {headed[-1]} gauge"
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == headed[-1]
            labels = re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match[2] or "")
            named = frozenset(
                (name, re.sub(r"\\.", lambda one: MEANT[one[0]], value)) for name, value in labels
            )
            assert math.isfinite(float(match[3]))
            assert (match[1], named) not in found
            found[match[1], named] = float(match[3])
    assert len(headed) == len(set(headed))
    return found


def of(symbol: str, timeframe: str) -> frozenset[tuple[str, str]]:
    return frozenset({("symbol", symbol), ("timeframe", timeframe)})


def test_metrics_tell_every_series_and_the_last_run(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    run = cli(simulate(now=SATURDAY))
    empty = run("status", "--format", "prometheus")
    assert (empty.code, empty.out) == (0, "")
    run("watch", "add", "--offline", "AAPL", "--since", "2024-10-01")
    ended = run("run", "--all", "--json", *AS_OF)
    query(
        database_url,
        """
        WITH odd AS (
            INSERT INTO symbols (ticker, asset_type) VALUES (E'O"D\\\\D\\n', 'stock') RETURNING id
        ), watched AS (INSERT INTO watchlist (symbol_id) SELECT id FROM odd)
        DELETE FROM ohlc_bars WHERE ts IN ('2024-10-08T04:00Z', '2024-10-09T04:00Z')
        """,
    )

    told = run("status", "--format", "prometheus", *AS_OF)
    samples = parsed(told.out)

    assert told.code == 4  # the odd one has no bars
    [bars] = query(database_url, "SELECT count(*) FROM ohlc_bars")
    aapl, odd = of("AAPL", "d1"), of('O"D\\D\n', "d1")
    assert samples["backfill_bars", aapl] == bars["count"] == ended.json["bars"]["inserted"] - 2
    assert samples["backfill_freshness_seconds", aapl] == 0
    assert samples["backfill_fresh", aapl] == 1
    assert samples["backfill_gap_bars", aapl] == 2
    friday = datetime(2024, 11, 15, 5, tzinfo=UTC).timestamp()
    assert samples["backfill_newest_bar_timestamp_seconds", aapl] == friday
    assert samples["backfill_fresh", odd] == 0
    for unknown in ("freshness_seconds", "newest_bar_timestamp_seconds"):
        assert (f"backfill_{unknown}", odd) not in samples
    assert samples["backfill_last_run_status", frozenset({("status", "ok")})] == 1
    assert samples["backfill_last_run_status", frozenset({("status", "failed")})] == 0
    one = frozenset[tuple[str, str]]()
    assert samples["backfill_last_run_exit_code", one] == 0
    assert samples["backfill_last_run_calls", one] == ended.json["calls"]
    [row] = query(database_url, "SELECT extract(epoch FROM finished_at) AS at FROM backfill_runs")
    assert abs(samples["backfill_last_success_timestamp_seconds", one] - float(row["at"])) < 0.001

    # Monday's bar is due on Tuesday at 06:00Z, and a day late from the end of Friday's coverage.
    late = run("status", "--format", "prometheus", "--as-of", "2024-11-19T06:00Z")
    assert late.code == 4
    assert parsed(late.out)["backfill_freshness_seconds", aapl] == 3 * 86400
    assert parsed(late.out)["backfill_behind_bars", aapl] == 1


@pytest.mark.soak
def test_markdown_is_a_table_in_which_a_name_is_only_a_name(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    run = cli(simulate(now=SATURDAY))
    run("run", "--symbols", "AAPL,X:BTCUSD", "--from", "2024-10-01", *AS_OF)
    query(
        database_url,
        "UPDATE symbols SET ticker = 'A|[b](c)' WHERE ticker = 'AAPL'",
    )
    shown = run("status", "--format", "markdown", *AS_OF)
    rows = [line for line in shown.out.splitlines() if line.startswith("|")]
    assert shown.code == 0
    assert [line.split(" | ")[0] for line in rows[2:]] == [
        "| A&#124;&#91;b&#93;(c)",
        "| X&#58;BTCUSD",
    ]
    assert {line.count("|") for line in rows} == {10}
    assert shown.out.endswith("\n2 series, all fresh\n")

    same = [run("status", *form, *AS_OF) for form in (("--json",), ("--format", "json"))]
    assert same[0].out == same[1].out
    assert same[0].json["series"][0]["symbol"] == "A|[b](c)"
