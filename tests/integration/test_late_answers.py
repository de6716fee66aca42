"""What a provider had not yet, or had lost, arrives in ordinary runs and costs no call (R29)."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest

from backfill import api
from backfill.audit.gaps import SeriesGaps
from backfill.audit.repair import Findings
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.present.gaps import findings
from backfill.run.job import Scope
from backfill.settings import AccountSettings, Settings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import KEY, blocking, first_of, query, stored_bars
from tests.integration.truth import NEW_YORK, asked, assert_same, true_bars

DAY: Final = date(2024, 11, 12)
"""A Tuesday of winter."""

Simulate = Callable[..., Simulator]


def new_york(text: str) -> datetime:
    """An instant by the clock of the exchange: a day of November 2024 and a time."""
    return datetime.fromisoformat(f"2024-11-{text}").replace(tzinfo=NEW_YORK).astimezone(UTC)


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


class Kept:
    """One symbol, kept by runs in this process at the times that a test says."""

    def __init__(
        self,
        simulator: Simulator,
        url: str,
        ticker: str,
        *timeframes: Timeframe,
        first: date = DAY,
        **environment: Any,
    ) -> None:
        self.simulator = simulator
        self._url = url
        self._ticker = ticker
        self._timeframes = timeframes
        self._first = first
        self._settings = Settings(
            database_url=Secret(url),
            provider_url=simulator.url,
            accounts={"massive": AccountSettings(keys=(Secret(KEY),))},
            quota_override="unlimited",
            **({"plan": "advanced"} | environment),
        )

    def run(self, at: datetime, mode: Mode = Mode.default) -> api.Summary:
        """Run as of an instant, by the market's clock too."""
        self.simulator.set_now(at)
        job = api.Job(
            symbols=(self._ticker,),
            timeframes=self._timeframes,
            mode=mode,
            first=Bound(self._first),
            as_of=at,
        )
        summary = blocking(api.run(self._settings, job))
        assert summary.exit_code == 0, summary.error
        return summary

    def gaps(self, at: datetime, last: date | None = None) -> api.Findings:
        scope = Scope(last=Bound(last) if last else None)
        return blocking(api.gaps(self._settings, at, scope))

    def repair(self, at: datetime) -> api.Repair:
        self.simulator.set_now(at)
        return blocking(api.repair(self._settings, at, Scope()))

    def holds_the_market_of(self, market: Market, at: datetime, lag_min: int = 0) -> None:
        """Compare every series with the market as it stood a settling delay before an instant.

        What ends later is left out where the provider was behind.
        """
        for timeframe in self._timeframes:
            true = true_bars(
                market,
                self._ticker,
                timeframe,
                DAY,
                date(2024, 12, 31),
                at - timedelta(minutes=1 + lag_min),
            )
            rows = stored_bars(self._url, self._ticker, timeframe)
            rows = rows[: len(true)] if lag_min else rows
            assert_same(rows, true, rolled_up=timeframe is not self._timeframes[0])

    def known(self, timeframe: Timeframe) -> list[tuple[str, datetime, datetime]]:
        """What is known to be empty, as (reason, from, to)."""
        rows = query(
            self._url,
            """
            SELECT reason, lower(r), upper(r) FROM known_empty, unnest(slots) AS r
            WHERE timeframe = $1::text::timeframe ORDER BY 2
            """,
            str(timeframe),
        )
        return [(row[0], row[1], row[2]) for row in rows]


def listed(found: list[SeriesGaps]) -> list[tuple[Any, ...]]:
    return [
        (str(one["timeframe"]), gap["from"], gap["slots"], gap.get("reason"), gap.get("again"))
        for one in json.loads("".join(findings(Findings(found, None))))["series"]
        for gap in one["gaps"]
    ]


@pytest.mark.parametrize("mode", first_of(Mode.incremental, Mode.default))
def test_minutes_that_a_provider_twelve_minutes_behind_had_not_yet_come_with_the_next_run(
    market: Market, simulate: Simulate, database_url: str, mode: Mode
) -> None:
    simulator = simulate()
    kept = Kept(simulator, database_url, "JPM", Timeframe.m1, Timeframe.m5)
    simulator.inject(Fault(action=Action.BEHIND, behind_s=720))
    kept.run(new_york("12 14:30"), mode)

    found = kept.gaps(new_york("12 14:30"))
    assert found.exit_code == 0
    late = {row[0]: row for row in listed(found.gaps)}
    at = new_york("12 14:18").isoformat()
    assert late["m1"] == ("m1", at, 11, "unconfirmed", new_york("12 14:31").isoformat())
    assert late["m5"][1:4] == (new_york("12 14:20").isoformat(), 1, "unconfirmed")

    kept.run(new_york("12 14:40"), mode)
    kept.holds_the_market_of(market, new_york("12 14:40"), 11)
    simulator.clear_faults()
    kept.run(new_york("12 14:50"), mode)
    kept.holds_the_market_of(market, new_york("12 14:50"))
    assert kept.gaps(new_york("12 14:50")).gaps == []
    assert len([call for call in asked(simulator) if call.unit == "1 minute"]) == 3


@pytest.mark.wide
def test_crypto_minutes_five_minutes_late_are_whole_in_a_table_that_cron_keeps_every_six_hours(
    market: Market, simulate: Simulate, database_url: str
) -> None:
    simulator = simulate()
    kept = Kept(simulator, database_url, "X:BTCUSD", Timeframe.m1)
    first = datetime(2024, 11, 12, 6, tzinfo=UTC)
    simulator.inject(Fault(action=Action.BEHIND, behind_s=300))
    for number in range(4):
        kept.run(first + number * timedelta(hours=6), Mode.incremental)
    simulator.clear_faults()
    last = first + timedelta(hours=24)
    kept.run(last, Mode.incremental)
    kept.holds_the_market_of(market, last)
    assert len(asked(simulator)) == 5


def test_a_session_that_the_provider_had_to_1433_is_whole_once_it_has_mended_it_next_week(
    market: Market, simulate: Simulate, database_url: str
) -> None:
    simulator = simulate()
    kept = Kept(simulator, database_url, "JPM", Timeframe.m1, Timeframe.h1, plan="unlimited")
    span = (ms(new_york("12 14:33")), ms(new_york("13 00:00")))
    simulator.inject(Fault(action=Action.LACKING, span_ms=span, until=new_york("18 12:00")))
    kept.run(new_york("13 01:30"))

    [m1, h1] = listed(kept.gaps(new_york("13 09:00")).gaps)
    assert m1[1:4] == (new_york("12 14:33").isoformat(), 87, "unconfirmed")
    assert h1[1:4] == (new_york("12 15:00").isoformat(), 1, "unconfirmed")
    assert kept.gaps(new_york("13 09:00")).exit_code == 0
    # Nobody has asked again: that is overdue four days after a second answer would be believed.
    assert kept.gaps(new_york("17 13:00"), DAY).exit_code == 0
    assert kept.gaps(new_york("17 13:31"), DAY).exit_code == 4

    last = new_york("19 20:30")
    assert kept.run(last, Mode.incremental).calls == 1
    kept.holds_the_market_of(market, last)
    assert kept.gaps(last).exit_code == 0


def test_minutes_of_the_evening_that_left_no_trace_arrive_once_the_day_is_final(
    market: Market, simulate: Simulate, database_url: str
) -> None:
    simulator = simulate()
    kept = Kept(simulator, database_url, "AAPL", Timeframe.m1)
    simulator.inject(Fault(action=Action.BEHIND, behind_s=900))
    kept.run(new_york("12 20:05"), Mode.incremental)
    assert kept.known(Timeframe.m1) == []
    simulator.clear_faults()
    assert kept.run(new_york("13 00:30"), Mode.incremental).calls == 0
    last = new_york("13 06:00")
    assert kept.run(last, Mode.incremental).calls == 1
    kept.holds_the_market_of(market, last)


def test_slots_that_nobody_traded_are_believed_after_a_second_answer_and_never_alarm(
    simulate: Simulate, database_url: str
) -> None:
    simulator = simulate()
    kept = Kept(simulator, database_url, "VTHIN", Timeframe.m1)
    # Its last trade of the regular session is at 14:42, and none in the evening follows.
    span = (ms(new_york("12 16:00")), ms(new_york("13 04:00")))
    simulator.inject(Fault(action=Action.LACKING, span_ms=span))
    kept.run(new_york("12 16:01"))
    for at in (new_york("12 16:01"), new_york("12 20:30")):
        kept.run(at, Mode.incremental)
        found = kept.gaps(at)
        [(_, first, slots, reason, _)] = listed(found.gaps)
        assert (first, slots, reason) == (new_york("12 14:43").isoformat(), 77, "unconfirmed")
        assert found.exit_code == 0
    assert kept.known(Timeframe.m1)[-1] == (
        "unconfirmed",
        new_york("12 14:43"),
        new_york("12 16:00"),
    )
    calls = len(asked(simulator))
    kept.run(new_york("13 08:00"), Mode.incremental)
    assert len(asked(simulator)) == calls + 1
    assert {row[0] for row in kept.known(Timeframe.m1)} == {"no_trades"}
    assert kept.gaps(new_york("13 08:00")).gaps == []


def test_a_suspect_session_alarms_until_a_second_answer_settles_it(
    market: Market, simulate: Simulate, database_url: str
) -> None:
    simulator = simulate()
    kept = Kept(simulator, database_url, "JPM", Timeframe.m5, plan="unlimited")
    # Of the 14th only the first and the last bars are there, and between them lies a hole.
    span = (ms(new_york("14 10:00")), ms(new_york("14 15:55")))
    simulator.inject(Fault(action=Action.LACKING, span_ms=span, until=new_york("16 12:00")))
    kept.run(new_york("16 02:00"))
    found = kept.gaps(new_york("16 03:00"))
    assert found.exit_code == 4
    [row] = listed(found.gaps)
    assert row[1:4] == (new_york("14 10:00").isoformat(), 71, "unconfirmed")
    # Asked again before it is believed, `--repair` leaves it alone; then it settles it.
    calls = len(simulator.calls)
    assert kept.repair(new_york("16 11:00")).exit_code == 4
    assert len(simulator.calls) == calls
    assert kept.repair(new_york("16 14:30")).exit_code == 0
    kept.holds_the_market_of(market, new_york("16 14:30"))


@pytest.mark.wide
def test_the_month_s_last_day_that_comes_on_saturday_is_in_its_week_and_its_month(
    market: Market, simulate: Simulate, database_url: str
) -> None:
    simulator = simulate()
    frames = (Timeframe.d1, Timeframe.w1, Timeframe.mn1)
    kept = Kept(simulator, database_url, "JPM", *frames, first=date(2024, 11, 1))
    friday = (ms(new_york("29 00:00")), ms(new_york("30 00:00")))
    simulator.inject(Fault(action=Action.LACKING, span_ms=friday, until=new_york("30 12:00")))
    for at in ("28 02:00", "30 02:00"):
        kept.run(new_york(at), Mode.incremental)
    assert len(stored_bars(database_url, "JPM", Timeframe.d1)) == 19
    last = new_york("30 02:00") + timedelta(days=2)
    kept.run(last, Mode.incremental)
    for timeframe in frames:
        true = true_bars(market, "JPM", timeframe, date(2024, 11, 1), date(2024, 12, 1), last)
        rows = stored_bars(database_url, "JPM", timeframe)
        assert_same(rows[-len(true) :], true, rolled_up=timeframe is not Timeframe.d1)
