import hashlib
import random
import subprocess
import sys
from dataclasses import fields
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.timeframe import HOUR_MS, MINUTE_MS, Timeframe
from backfill.simulator import Market
from backfill.simulator.market.market import MONTH_BYTES
from tests.conftest import MARKET

NEW_YORK: Final = ZoneInfo("America/New_York")


def ms(day: str, at: str = "00:00", zone: ZoneInfo = NEW_YORK) -> int:
    moment = datetime.combine(date.fromisoformat(day), time.fromisoformat(at), zone)
    return round(moment.timestamp() * 1000)


def local(ts_ms: int) -> datetime:
    return datetime.fromtimestamp(ts_ms / 1000, NEW_YORK)


def bars(
    ticker: str, timeframe: Timeframe, first: str, last: str, *, adjusted: bool = False
) -> Bars:
    """Bars from midnight of one day to midnight of another, in the market's own zone."""
    zone = ZoneInfo("UTC") if ticker.startswith("X:") else NEW_YORK
    return MARKET.bars(
        ticker, timeframe, ms(first, zone=zone), ms(last, zone=zone), adjusted=adjusted
    )


def digest(found: Bars) -> str:
    return hashlib.sha256(
        b"".join(getattr(found, field.name).tobytes() for field in fields(found))
    ).hexdigest()


def regular(found: Bars) -> Bars:
    """Minutes that start in regular hours."""
    open_hours = [time(9, 30) <= local(int(ts)).time() < time(16) for ts in found.ts_ms]
    return found.take(np.array(open_hours))


def test_a_bar_is_the_same_in_whatever_order_and_process_it_is_asked_for() -> None:
    asked = [
        (ticker, timeframe, month)
        for ticker in ("AAPL", "THIN", "SPLT", "X:BTCUSD")
        for timeframe in (Timeframe.m1, Timeframe.h4, Timeframe.d1)
        for month in (5, 7)
    ]
    program = f"""
from hashlib import sha256
from backfill.simulator import Market
from backfill.simulator.market.market import MONTH_BYTES
from backfill.core.timeframe import Timeframe
from tests.unit.test_simulator_market import digest
for ticker, timeframe, month in {[(t, str(f), m) for t, f, m in asked]}:
    start = {ms("2024-01-01")} + month * 30 * 86_400_000
    print(digest(Market().bars(ticker, Timeframe(timeframe), start, start + 30 * 86_400_000)))
"""
    elsewhere = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    market = Market()
    here = {}
    for ticker, timeframe, month in random.Random(3).sample(asked, len(asked)):
        start = ms("2024-01-01") + month * 30 * 86_400_000
        found = market.bars(ticker, timeframe, start, start + 30 * 86_400_000)
        here[ticker, timeframe, month] = digest(found)
    assert [here[key] for key in asked] == elsewhere


def test_another_seed_is_another_market() -> None:
    span = ms("2024-07-01"), ms("2024-07-02")
    one = Market(1).bars("AAPL", Timeframe.d1, *span)
    other = Market(2).bars("AAPL", Timeframe.d1, *span)
    assert one.close != other.close


@pytest.mark.parametrize("ticker", ["AAPL", "THIN", "VTHIN", "RVRS", "X:BTCUSD", "SIM017"])
@pytest.mark.parametrize("timeframe", Timeframe)
@pytest.mark.parametrize("adjusted", [False, True])
def test_every_bar_is_sound(ticker: str, timeframe: Timeframe, adjusted: bool) -> None:
    found = bars(ticker, timeframe, "2024-06-01", "2024-11-01", adjusted=adjusted)
    assert len(found)
    assert (found.low > 0).all()
    assert (found.low <= np.minimum(found.open, found.close)).all()
    assert (found.high >= np.maximum(found.open, found.close)).all()
    assert (np.diff(found.ts_ms) > 0).all()
    for price in (found.open, found.high, found.low, found.close):
        assert (price == np.round(price, 4)).all()
    known = ~np.isnan(found.vwap)
    assert (known == (found.trade_count != NO_COUNT)).all()
    assert (found.low[known] <= found.vwap[known]).all()
    assert (found.vwap[known] <= found.high[known]).all()
    units = found.volume * 1024
    assert (units == np.floor(units)).all()
    assert (found.volume > 0).all()


def test_some_minutes_lack_vwap_and_count_and_some_volumes_are_fractional() -> None:
    found = bars("AAPL", Timeframe.m1, "2024-06-01", "2024-09-01")
    missing = np.isnan(found.vwap)
    assert 0 < missing.mean() < 0.002
    fractional = found.volume != np.floor(found.volume)
    assert 0.01 < fractional.mean() < 0.05


def test_volume_sums_to_the_same_double_in_any_order() -> None:
    for ticker in ("AAPL", "X:BTCUSD"):
        volume = bars(ticker, Timeframe.m1, "2024-06-01", "2024-07-01").volume.tolist()
        shuffled = random.Random(1).sample(volume, len(volume))
        assert sum(volume) == sum(shuffled) == sum(sorted(volume))


def test_a_full_day_trades_every_regular_minute_and_some_of_the_others() -> None:
    day = bars("AAPL", Timeframe.m1, "2024-07-02", "2024-07-03")
    starts = [local(int(ts)) for ts in day.ts_ms]
    assert len(regular(day)) == 390
    assert 0.2 < (len(day) - 390) / 570 < 0.4
    assert starts[0].time() >= time(4)
    assert starts[-1].time() < time(20)


def test_a_half_day_ends_at_one_and_its_post_market_at_five() -> None:
    day = bars("AAPL", Timeframe.m1, "2024-07-03", "2024-07-04")
    starts = [local(int(ts)).time() for ts in day.ts_ms]
    assert sum(time(9, 30) <= start < time(13) for start in starts) == 210
    assert time(16, 30) < starts[-1] < time(17)
    assert 0.2 < sum(start >= time(13) for start in starts) / 240 < 0.4


@pytest.mark.parametrize(
    ("friday", "monday", "opens_before", "opens_after"),
    [
        ("2024-03-08", "2024-03-11", "14:30", "13:30"),
        ("2024-11-01", "2024-11-04", "13:30", "14:30"),
    ],
)
def test_sessions_keep_exchange_time_through_both_changes_of_daylight_time(
    friday: str, monday: str, opens_before: str, opens_after: str
) -> None:
    utc = ZoneInfo("UTC")
    for day, opens in ((friday, opens_before), (monday, opens_after)):
        after = str(date.fromisoformat(day) + timedelta(days=1))
        minutes = regular(bars("AAPL", Timeframe.m1, day, after))
        assert minutes.ts_ms[0] == ms(day, opens, utc)
        assert len(minutes) == 390
        four_hours = bars("AAPL", Timeframe.h4, day, after)
        assert [local(int(ts)).hour for ts in four_hours.ts_ms] == [4, 8, 12, 16]
    days = bars("AAPL", Timeframe.d1, friday, str(date.fromisoformat(monday) + timedelta(days=1)))
    assert days.ts_ms.tolist() == [ms(friday), ms(monday)]


def test_thanksgiving_is_closed_and_the_day_after_is_a_half_day() -> None:
    days = bars("AAPL", Timeframe.d1, "2024-11-25", "2024-12-02")
    assert [local(int(ts)).day for ts in days.ts_ms] == [25, 26, 27, 29]
    assert len(bars("AAPL", Timeframe.m1, "2024-11-28", "2024-11-29")) == 0
    assert len(regular(bars("AAPL", Timeframe.m1, "2024-11-29", "2024-11-30"))) > 210


def test_crypto_trades_around_the_clock_and_its_day_is_the_sum_of_its_minutes() -> None:
    minutes = bars("X:BTCUSD", Timeframe.m1, "2024-03-10", "2024-03-11")
    assert len(minutes) == 1440
    day = bars("X:BTCUSD", Timeframe.d1, "2024-03-10", "2024-03-11")
    assert day.ts_ms.tolist() == [ms("2024-03-10", zone=ZoneInfo("UTC"))]
    assert day.volume[0] == minutes.volume.sum()
    assert (day.open[0], day.close[0]) == (minutes.open[0], minutes.close[-1])
    assert (day.high[0], day.low[0]) == (minutes.high.max(), minutes.low.min())


def test_an_equity_day_is_more_than_its_minutes_which_lie_within_it() -> None:
    for ticker in ("AAPL", "SIM400"):
        day = bars(ticker, Timeframe.d1, "2024-07-02", "2024-07-03")
        minutes = bars(ticker, Timeframe.m1, "2024-07-02", "2024-07-03")
        assert 0.8 * day.volume[0] < minutes.volume.sum() < day.volume[0]
        within = regular(minutes)
        assert day.low[0] <= within.low.min()
        assert within.high.max() <= day.high[0]


def bucket(timeframe: Timeframe, ts_ms: int, zone: ZoneInfo) -> int:
    """The canonical start of the bar that holds an instant, by plain calendar arithmetic."""
    at = datetime.fromtimestamp(ts_ms / 1000, zone)
    day = at.date()
    if timeframe is Timeframe.w1:
        day -= timedelta(days=day.weekday())
    if timeframe is Timeframe.mn1:
        day = day.replace(day=1)
    midnight = ms(str(day), zone=zone)
    if not timeframe.is_intraday:
        return midnight
    minutes = at.hour * 60 + at.minute
    length = timeframe.length_ms // MINUTE_MS
    return midnight + minutes // length * length * MINUTE_MS


@pytest.mark.parametrize("ticker", ["MSFT", "VTHIN", "X:ETHUSD"])
@pytest.mark.parametrize("timeframe", [t for t in Timeframe if t not in {"m1", "d1"}])
def test_coarser_bars_are_made_of_minutes_or_days(ticker: str, timeframe: Timeframe) -> None:
    zone = ZoneInfo("UTC") if ticker.startswith("X:") else NEW_YORK
    last = {Timeframe.w1: "2024-12-30", Timeframe.mn1: "2025-01-01"}.get(timeframe, "2024-07-11")
    base = bars(ticker, Timeframe.m1 if timeframe.is_intraday else Timeframe.d1, "2024-07-01", last)
    rows = zip(*(getattr(base, field.name).tolist() for field in fields(base)), strict=True)
    expected = []
    for start, group in groupby(rows, key=lambda row: bucket(timeframe, row[0], zone)):
        _, opens, highs, lows, closes, volumes, vwaps, counts = zip(*group, strict=True)
        whole = NO_COUNT not in counts
        vwap = sum(p * v for p, v in zip(vwaps, volumes, strict=True)) / sum(volumes)
        expected.append(
            (start, opens[0], max(highs), min(lows), closes[-1], sum(volumes), vwap)
            + ((sum(counts),) if whole else (NO_COUNT,))
        )
    found = bars(ticker, timeframe, "2024-07-01", last)
    assert found.ts_ms.tolist() == [row[0] for row in expected]
    truth = Bars.of(expected)
    for field in fields(Bars):
        ours, theirs = getattr(found, field.name), getattr(truth, field.name)
        if field.name == "vwap":
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.000051)
        else:
            np.testing.assert_array_equal(ours, theirs)


def test_a_thin_ticker_trades_every_session_but_not_every_minute() -> None:
    days = bars("THIN", Timeframe.d1, "2024-01-01", "2025-01-01")
    assert len(days) == 252
    per_day = {
        local(int(ts)).date() for ts in bars("THIN", Timeframe.m1, "2024-01-01", "2025-01-01").ts_ms
    }
    assert len(per_day) == 252
    assert 100 < len(regular(bars("THIN", Timeframe.m1, "2024-07-02", "2024-07-03"))) < 250


def test_a_very_thin_ticker_leaves_whole_quarters_of_an_hour_empty() -> None:
    quarters = regular(bars("VTHIN", Timeframe.m15, "2024-07-02", "2024-07-03"))
    assert 0 < len(quarters) < 26
    days = {
        local(int(ts)).date()
        for ts in bars("VTHIN", Timeframe.m1, "2024-01-01", "2025-01-01").ts_ms
    }
    assert len(days) == 252


def test_bars_begin_with_the_listing_and_end_with_the_delisting() -> None:
    always = "2003-01-01", "2026-01-01"
    assert local(int(bars("NEWCO", Timeframe.d1, *always).ts_ms[0])).date() == date(2024, 3, 14)
    assert local(
        int(bars("DEADCO", Timeframe.m1, "2024-08-01", "2025-01-01").ts_ms[-1])
    ).date() == date(2024, 8, 30)
    assert local(int(bars("DEADCO", Timeframe.d1, *always).ts_ms[-1])).date() == date(2024, 8, 30)
    assert local(
        int(bars("AAPL", Timeframe.d1, "1990-01-01", "2004-01-01").ts_ms[0])
    ).date() == date(2003, 9, 10)
    assert local(
        int(bars("NEWCO", Timeframe.m1, "2024-03-01", "2024-04-01").ts_ms[0])
    ).date() == date(2024, 3, 14)
    with pytest.raises(KeyError):
        bars("NOSUCH", Timeframe.d1, *always)


def test_a_halted_session_has_no_bars_at_all() -> None:
    days = bars("HALTED", Timeframe.d1, "2024-05-13", "2024-05-18")
    assert [local(int(ts)).day for ts in days.ts_ms] == [13, 16, 17]
    assert len(bars("HALTED", Timeframe.m1, "2024-05-14", "2024-05-16")) == 0


def jump(ticker: str, day: str, *, adjusted: bool = False) -> float:
    """The ratio of the close before a day to its open."""
    first = str(date.fromisoformat(day) - timedelta(days=10))
    last = str(date.fromisoformat(day) + timedelta(days=1))
    days = bars(ticker, Timeframe.d1, first, last, adjusted=adjusted)
    return float(days.close[-2] / days.open[-1])


@pytest.mark.parametrize(
    ("ticker", "day", "ratio"),
    [
        ("SPLT", "2024-06-10", 10.0),
        ("SPLT", "2025-03-17", 1.5),
        ("RVRS", "2024-09-23", 0.125),
        ("TWICE", "2024-10-09", 1.0),
        ("TWICE", "2024-10-16", 10.0),
    ],
)
def test_raw_prices_jump_on_a_split_that_happened_and_adjusted_ones_never(
    ticker: str, day: str, ratio: float
) -> None:
    assert jump(ticker, day) == pytest.approx(ratio, rel=0.02)
    assert jump(ticker, day, adjusted=True) == pytest.approx(1.0, abs=0.02)


def test_a_real_forty_per_cent_day_is_no_split() -> None:
    assert 1 / jump("JUMPY", "2025-05-15") == pytest.approx(0.6, rel=0.02)
    assert "JUMPY" not in {split.ticker for split in MARKET.splits()}


def test_adjusted_prices_are_raw_ones_times_the_factors_of_the_splits_known_by_then() -> None:
    day = ms("2024-06-03"), ms("2024-06-04")
    for timeframe in (Timeframe.d1, Timeframe.m1):
        raw = MARKET.bars("SPLT", timeframe, *day)
        for now, factor in (("2024-06-09", 1), ("2024-06-10", 10), ("2025-03-17", 15)):
            adjusted = MARKET.bars("SPLT", timeframe, *day, adjusted=True, now_ms=ms(now))
            np.testing.assert_allclose(adjusted.close, raw.close / factor, rtol=0, atol=0.0001)
            np.testing.assert_allclose(adjusted.volume, raw.volume * factor, rtol=0, atol=0.001)


def test_a_split_announced_late_adjusts_nothing_before_its_announcement() -> None:
    day = ms("2024-09-20"), ms("2024-09-21")
    raw = MARKET.bars("RVRS", Timeframe.d1, *day).close[0]
    before = MARKET.bars("RVRS", Timeframe.d1, *day, adjusted=True, now_ms=ms("2024-09-29"))
    after = MARKET.bars("RVRS", Timeframe.d1, *day, adjusted=True, now_ms=ms("2024-09-30"))
    assert before.close[0] == raw
    assert after.close[0] == pytest.approx(raw * 8)


def test_with_a_clock_only_bars_that_have_ended_are_there() -> None:
    now = ms("2024-07-02", "11:07") + 30_000
    for timeframe, last in (
        (Timeframe.m1, ms("2024-07-02", "11:06")),
        (Timeframe.m15, ms("2024-07-02", "10:45")),
        (Timeframe.h4, ms("2024-07-02", "04:00")),
        (Timeframe.d1, ms("2024-07-01")),
        (Timeframe.w1, ms("2024-06-24")),
        (Timeframe.mn1, ms("2024-06-01")),
    ):
        found = MARKET.bars("AAPL", timeframe, ms("2024-05-01"), ms("2025-01-01"), now_ms=now)
        assert found.ts_ms[-1] == last
        whole = MARKET.bars("AAPL", timeframe, ms("2024-05-01"), last + 1)
        assert digest(found) == digest(whole)


def test_a_range_is_half_open_by_the_starts_of_bars() -> None:
    found = MARKET.bars("AAPL", Timeframe.m1, ms("2024-07-02", "10:00"), ms("2024-07-02", "10:05"))
    assert found.ts_ms.tolist() == [ms("2024-07-02", "10:00") + n * MINUTE_MS for n in range(5)]
    assert len(MARKET.bars("AAPL", Timeframe.d1, ms("2024-07-02") + 1, ms("2024-07-03"))) == 0
    assert len(MARKET.bars("AAPL", Timeframe.d1, ms("2024-07-02"), ms("2024-07-02"))) == 0
    hour = MARKET.bars(
        "AAPL", Timeframe.h1, ms("2024-07-02", "10:00") - HOUR_MS + 1, ms("2024-07-02", "10:00") + 1
    )
    assert hour.ts_ms.tolist() == [ms("2024-07-02", "10:00")]


def test_crypto_weeks_run_from_monday_to_sunday() -> None:
    week = bars("X:BTCUSD", Timeframe.w1, "2024-07-01", "2024-07-08")
    days = bars("X:BTCUSD", Timeframe.d1, "2024-07-01", "2024-07-08")
    assert week.ts_ms.tolist() == [ms("2024-07-01", zone=ZoneInfo("UTC"))]
    assert week.volume[0] == days.volume.sum()
    assert week.close[0] == days.close[-1]


def test_memory_stays_bounded_however_much_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = MONTH_BYTES // 10
    monkeypatch.setattr("backfill.simulator.market.market.MONTH_BYTES", limit)
    market = Market()
    for ticker in ("X:BTCUSD", "AAPL"):
        market.bars(ticker, Timeframe.h1, ms("2023-01-01"), ms("2024-01-01"))
    assert limit / 2 < market._months.nbytes <= limit


def test_the_market_reaches_the_end_of_next_year() -> None:
    year = datetime.now(UTC).year + 1
    assert len(bars("AAPL", Timeframe.m1, f"{year}-12-01", f"{year}-12-31"))
