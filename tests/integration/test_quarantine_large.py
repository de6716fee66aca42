"""Bars in quarantine by the thousand: counted, listed and asked for again lot by lot."""

import json
from datetime import UTC, date, datetime

import pytest

from backfill.audit import quarantine as audit
from backfill.core.checks import Reason
from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.present.quarantine import JsonListing, TextListing
from backfill.store import quarantine
from backfill.store.pool import Database
from backfill.store.quarantine import Choice
from tests.integration.store_kit import chunk, claimed, known, minutes, rows, write

DAY_MS = round(datetime(2024, 3, 5, 15, tzinfo=UTC).timestamp() * 1000)
TODAY = date(2024, 11, 12)
FILL = """
    INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id)
    SELECT $1, $2::text::timeframe, to_timestamp($3::float8 / 1000) + n * interval '1 minute',
        CASE n % 3 WHEN 0 THEN 'volume' ELSE 'high_low' END, jsonb_build_object('open', n),
        gen_random_uuid()
    FROM generate_series(0, $4::integer - 1) AS n
"""
IN_ORDER = """
    SELECT s.ticker, q.timeframe::text, q.ts, q.reason
    FROM quarantined_bars AS q
    JOIN symbols AS s ON s.id = q.symbol_id
    ORDER BY s.ticker, q.timeframe, q.ts, q.id
"""


@pytest.mark.attack(12)
async def test_what_is_listed_lot_by_lot_is_what_there_is_in_order_and_limits_are_told(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quarantine, "_PAGE_BARS", 7)
    for ticker, timeframe, bars in (
        ("MSFT", "m1", 20),
        ("AAPL", "m5", 7),
        ("AAPL", "m1", 2),
        ("JPM", "m1", 3),
    ):
        _, [series] = await claimed(database, ticker, Timeframe(timeframe))
        await rows(database, FILL, series.symbol.id, timeframe, DAY_MS, bars)
    expected = [tuple(row) for row in await rows(database, IN_ORDER)]

    for limit in (None, 0, 1, 7, 13, 31, 32, 99):
        held = await database.run(lambda it: quarantine.held_bars(it, Choice()))
        as_json, as_text = JsonListing(), TextListing()
        for listing in (as_json, as_text):
            listing.begin(held)
            if listing is as_json:
                async for text in quarantine.quarantined_json(
                    database, Choice(), held, limit=limit
                ):
                    assert text.count('"ts"') <= 7
                    as_json.add(text)
            else:
                async for lot in quarantine.quarantined_bars(database, Choice(), held, limit=limit):
                    assert len(lot) <= 7
                    as_text.add(lot)
            listing.end()
            told = capsys.readouterr().out
            if listing is as_json:
                values = json.loads(told)
                assert len(told.splitlines()) == 1
                assert [
                    (
                        bar["symbol"],
                        bar["timeframe"],
                        datetime.fromisoformat(bar["ts"]),
                        bar["reason"],
                    )
                    for bar in values["bars"]
                ] == expected[:limit]
                assert sum(one["bars"] for one in values["counts"]) == len(expected) == 32
            elif limit is not None and limit < 32:
                assert f"… and {32 - limit} more" in told
            else:
                assert "more" not in told

    only = Choice(tickers=["MSFT"], reasons=[Reason.volume])
    held = await database.run(lambda it: quarantine.held_bars(it, only))
    found = [bar async for lot in quarantine.quarantined_bars(database, only, held) for bar in lot]
    assert [(bar.symbol, bar.raw["open"] % 3) for bar in found] == [("MSFT", 0)] * 7


@pytest.mark.attack(12)
async def test_retry_and_accept_in_lots_do_what_they_do_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_AT_ONCE", 8)
    monkeypatch.setattr(quarantine, "_ACCEPTED_AT_ONCE", 8)
    run_id, [m1, m5] = await claimed(database, "AAPL", Timeframe.m1, Timeframe.m5)
    bars = minutes(60, DAY_MS)
    kept = bars.take(bars.ts_ms % (4 * MINUTE_MS) == 0)
    covered = chunk(m1, bars).claims
    source = chunk(m1, bars).source
    derived = type(source)(source.provider, source.feed, source.adjustment, Timeframe.m1)
    await write(database, run_id, chunk(m1, kept, claims=covered))
    await write(database, run_id, chunk(m5, claims=covered, source=derived))
    await rows(database, FILL, m1.symbol.id, "m1", DAY_MS, 80)  # 20 of them beyond what is covered

    reopened = await audit.reopen_all(database, Choice(), "sip", TODAY)

    # Of 60 covered minutes 15 are stored; every five minutes hold one that isn't.
    assert [(one.timeframe, one.slots) for one in reopened] == [
        (Timeframe.m1, 45),
        (Timeframe.m5, 12),
    ]
    asked = (await known(database, m1)).invalidated
    assert not any(asked.holds(kept.ts_ms))
    assert sum(end - start for start, end in asked) == 45 * MINUTE_MS
    assert (await known(database, m5)).invalidated == covered
    assert not (await known(database, m5)).coverage
    assert await audit.reopen_all(database, Choice(), "sip", TODAY) == []

    assert await quarantine.accept(database, Choice(reasons=[Reason.volume])) == 27
    assert await quarantine.accept(database, Choice()) == 53
    assert await quarantine.accept(database, Choice()) == 0


async def test_slots_are_asked_again_by_the_hours_of_the_feed_that_the_series_is_of(
    database: Database,
) -> None:
    run_id, [series] = await claimed(database, "AAPL", Timeframe.m1)
    before_the_open = minutes(60, DAY_MS - 3 * 60 * MINUTE_MS)
    covered = chunk(series, before_the_open).claims
    await write(database, run_id, chunk(series, claims=covered))
    await rows(database, FILL, series.symbol.id, "m1", int(before_the_open.ts_ms[0]), 60)

    # The default provider's feed may have the regular session only.
    [reopened] = await audit.reopen_all(database, Choice(), "iex", TODAY)

    assert reopened.slots == 60
    assert (await known(database, series)).invalidated == covered


@pytest.mark.parametrize("dense", [0, quarantine._DENSE], ids=["by key", "by range"])
async def test_of_each_bar_it_is_told_whether_the_table_holds_one_by_now(
    database: Database, monkeypatch: pytest.MonkeyPatch, dense: int
) -> None:
    monkeypatch.setattr(quarantine, "_PAGE_BARS", 7)
    monkeypatch.setattr(quarantine, "_DENSE", dense)
    run_id, [series] = await claimed(database, "AAPL", Timeframe.m1)
    bars = minutes(30, DAY_MS)
    kept = bars.take(bars.ts_ms % (4 * MINUTE_MS) == 0)
    await write(database, run_id, chunk(series, kept))
    await rows(database, FILL, series.symbol.id, "m1", DAY_MS, 20)
    held = await database.run(lambda it: quarantine.held_bars(it, Choice()))
    texts = [one async for one in quarantine.quarantined_json(database, Choice(), held)]
    listed = json.loads(f"[{', '.join(texts)}]")
    assert len(listed) == 20
    times = {round(datetime.fromisoformat(one["ts"]).timestamp() * 1000): one for one in listed}
    assert {ms for ms, one in times.items() if one["stored"]} == set(times) & set(
        kept.ts_ms.tolist()
    )
