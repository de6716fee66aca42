"""An import that is killed at any instant leaves whole pages, and the same one does the rest."""

import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Cli, query
from tests.faults import tables
from tests.faults.command import Going, Kept

BARS: Final = 300_000
FIRST: Final = datetime(2023, 1, 1, tzinfo=UTC)
MINUTES: Final = """
    SELECT coalesce(sum(extract(epoch FROM upper(c) - lower(c)) / 60), 0)::bigint
    FROM backfill_progress, unnest(coverage) AS c
"""
"""Minutes that are covered: the file has a bar for each."""
WITHIN: Final = """
    SELECT count(*)
    FROM backfill_progress AS p
    JOIN ohlc_bars AS b ON (b.symbol_id, b.timeframe) = (p.symbol_id, p.timeframe)
    WHERE b.ts <@ p.coverage
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Minutes of most of a year, more than six pages of them."""
    path = tmp_path / "bars.csv"
    with path.open("w") as lines:
        lines.write("ts,open,high,low,close,volume\n")
        for at in range(BARS):
            stamp = int((FIRST + timedelta(minutes=at)).timestamp())
            lines.write(f"{stamp},10,{11 + at % 7},9,{10 + at % 5 / 7},{at % 100}\n")
    return path


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_kills_of_an_import_leave_the_table_of_an_undisturbed_one(
    seed: int, file: Path, database_url: str
) -> None:
    backfill = Cli({"DATABASE_URL": database_url})
    until = FIRST + timedelta(minutes=BARS)
    arguments = (
        *("import", str(file), "--symbol", "BTC/USD", "-t", "m1", "--source", "test"),
        *("--covers", FIRST.isoformat(), until.isoformat(), "--json"),
    )
    whole = backfill(*arguments)
    assert (whole.code, whole.json["bars"]["inserted"]) == (0, BARS)
    expected = tables.bars(database_url), tables.claims(database_url)
    tables.empty_tables(database_url)
    random_ = random.Random(seed)
    seen = set()
    for kill in range(8):
        going = Going(backfill.start(*arguments), Kept())
        going.read_lines(1 + kill % 7)  # the line that it has started, and those of pages
        threading.Event().wait(random_.uniform(0, 0.2))
        killed = going.kill()
        tables.expire_leases(database_url)
        [[claimed]], [[stored]] = query(database_url, MINUTES), query(database_url, WITHIN)
        assert claimed == stored
        seen.add(stored)
        if killed.code == 0:
            break
    assert len(seen) > 2
    last = backfill(*arguments)
    assert last.code == 0, last.err
    assert (tables.bars(database_url), tables.claims(database_url)) == expected
    assert tables.leases(database_url) == 0


@pytest.mark.soak
def test_an_import_of_ten_times_the_bars_takes_no_more_memory(
    tmp_path: Path, database_url: str
) -> None:
    backfill = Cli({"DATABASE_URL": database_url})
    sizes = {}
    for count in (100_000, 1_000_000):
        path = tmp_path / f"{count}.csv"
        with path.open("w") as lines:
            lines.write("ts,open,high,low,close,volume\n")
            for at in range(count):
                lines.write(f"{1_577_836_800 + at * 60},10,11,9,10,{at % 100}\n")
        going = Going(
            backfill.start(
                *("import", str(path), "-s", "BTC/USD", "-t", "m1", "--source", "test", "--json")
            ),
            Kept(),
        )
        over = going.end(300)
        assert over.code == 0, over.err
        sizes[count] = over.max_rss_mb
    assert sizes[1_000_000] < sizes[100_000] + 30
