"""What gap finding asks of the database, lot by lot."""

import numpy as np
import pytest

from backfill.core.coverage import Span, Spans
from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.store import gaps
from backfill.store.gaps import Question, incomplete
from backfill.store.pool import Connection, Database
from tests.integration.store_kit import START, chunk, claimed, minutes, write

TEN: int = 10 * MINUTE_MS


@pytest.mark.parametrize("at_once", [500_000, 5, 10, 25])
async def test_spans_that_lack_a_bar_are_told_with_the_bars_they_hold_in_lots_of_any_size(
    database: Database, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(gaps, "_SLOTS_AT_ONCE", at_once)
    bars = minutes(60, START)
    kept = bars.take(~np.isin((bars.ts_ms - START) // MINUTE_MS, [0, 31, 39, 52]))
    every = []
    for ticker in ("AAPL", "MSFT"):
        run_id, [series] = await claimed(database, ticker, Timeframe.m1)
        await write(database, run_id, chunk(series, kept))
        every.append(series)
    spans = [(Span(at, at + TEN), 10) for at in range(START, START + 6 * TEN, TEN)]

    async def ask(connection: Connection) -> list[gaps.Incomplete]:
        return [lot async for lot in incomplete(connection, [Question(spans, every)])]

    lots = await database.run(ask)

    lacking = [spans[number][0] for number in (0, 3, 5)]
    held = kept.ts_ms[Spans.union(lacking).holds(kept.ts_ms)]
    for series in every:
        mine = [lot[series] for lot in lots if series in lot]
        assert Spans.union(span for found, _ in mine for span in found) == Spans.union(lacking)
        assert sorted(np.concatenate([stamps for _, stamps in mine]).tolist()) == held.tolist()
    assert len(lots) == {500_000: 1, 5: 7, 10: 6, 25: 3}[at_once]
