"""What every provider shows: recorded answers read, a life through its simulator, its refusals."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, Final

import pytest

from backfill import api
from backfill.core.asked import Asked
from backfill.core.bars import NO_COUNT, Bars
from backfill.core.capabilities import ALL
from backfill.core.coverage import Span
from backfill.core.series import unregistered
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.wire import Response
from backfill.core.work import Mode
from backfill.errors import BackfillError, GeoBlocked, NotEntitled, RateLimited, Unauthorised
from backfill.run.outcomes import Summary
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Market, Simulator
from backfill.store.pool import Database
from backfill.store.universe import WatchChange, watch
from tests.calendars import calendar
from tests.conftest import KEY, NOW, query, stored_bars
from tests.integration.truth import midnight_ms
from tests.providers import (
    alpaca,
    binance,
    bybit,
    coinbase,
    finnhub,
    kraken,
    massive,
    tiingo,
    twelvedata,
    yahoo,
)
from tests.providers.table import Bar, Entry, Page, Refusal

ENTRIES: Final = (
    massive.ENTRY,
    alpaca.ENTRY,
    alpaca.IEX,
    alpaca.BOATS,
    binance.ENTRY,
    coinbase.ENTRY,
    kraken.ENTRY,
    finnhub.ENTRY,
    bybit.ENTRY,
    tiingo.ENTRY,
    twelvedata.ENTRY,
    yahoo.ENTRY,
)

ONE_OF_A_KIND: Final = (massive.ENTRY, coinbase.ENTRY)
"""With a key, pages and reference data; without any of them, where silence proves nothing."""


def _live(*entries: Entry) -> list[Any]:
    """Entries whose runs take seconds; the others of a kind are run by `make wide`."""
    return [
        pytest.param(one, marks=() if one in ONE_OF_A_KIND else pytest.mark.wide, id=str(one))
        for one in entries
    ]


EVERY: Final = pytest.mark.parametrize("entry", ENTRIES, ids=str)
LIVE: Final = pytest.mark.parametrize("entry", _live(*ENTRIES))
AND_CURRENCIES: Final = pytest.mark.parametrize(
    "entry",
    [
        *_live(*ENTRIES),
        pytest.param(massive.CURRENCIES, marks=pytest.mark.wide, id="massive's currencies"),
    ],
)
PAGES: Final = pytest.mark.parametrize(
    ("entry", "page"),
    [(one, page) for one in ENTRIES for page in one.pages],
    ids=lambda one: one.name if isinstance(one, Entry) else one.file,
)
REFUSALS: Final = pytest.mark.parametrize(
    ("entry", "refusal"),
    [(one, refusal) for one in ENTRIES for refusal in one.refusals],
    ids=lambda one: one.name if isinstance(one, Entry) else f"{one.status}-{one.outcome.outcome}",
)
SINCE: Final = date(2024, 7, 1)
"""A Monday, and the first of a month: weeks and months begin there, too."""

DAYS: Final = (Timeframe.d1, Timeframe.w1, Timeframe.mn1)


def asked_for(page: Page) -> Asked:
    """The request that a recorded page answered."""
    symbol = unregistered(page.ticker)
    span = Span(*(midnight_ms(day, page.ticker) for day in (page.first, page.until)))
    if symbol.asset_type == "crypto":
        span = Span(*(midnight_ms(day, "X:") for day in (page.first, page.until)))
    return Asked(symbol, calendar(symbol.calendar), page.timeframe, span, page.adjustment)


def listed(bars: Bars) -> list[Bar]:
    """Bars as tuples, None for what isn't given."""
    return [
        (*values, None if math.isnan(vwap) else vwap, None if count == NO_COUNT else count)
        for *values, vwap, count in zip(
            *(
                getattr(bars, name).tolist()
                for name in ("ts_ms", "open", "high", "low", "close", "volume", "vwap")
            ),
            bars.trade_count.tolist(),
            strict=True,
        )
    ]


@EVERY
def test_every_recorded_file_is_read_by_a_test(entry: Entry) -> None:
    refusals = {one.body.name for one in entry.refusals if not isinstance(one.body, str)}
    in_table = {page.file for page in entry.pages} | refusals | entry.read_elsewhere
    assert {path.name for path in entry.folder.glob("*.[jt][sx]*")} == in_table


@PAGES
def test_a_recorded_page_is_read_to_its_bars(entry: Entry, page: Page) -> None:
    body = (entry.folder / page.file).read_bytes()
    read = entry.provider.read_bars(Response(200, {}, body), asked_for(page))
    bars = sorted(listed(read.bars), key=lambda bar: bar[0])
    assert (len(bars), read.next, dict(read.oddities)) == (page.bars, None, {})
    assert (bars[0], bars[-1]) == (page.oldest, page.newest)


@REFUSALS
def test_a_refusal_is_its_outcome_and_no_other(entry: Entry, refusal: Refusal) -> None:
    asked = asked_for(entry.pages[0])
    response = Response(refusal.status, refusal.headers, refusal.data)
    with pytest.raises(BackfillError) as raised:
        entry.provider.read_bars(response, asked)
    assert type(raised.value) is refusal.outcome


@EVERY
def test_every_timeframe_is_native_or_made_of_one_that_is(entry: Entry) -> None:
    can, asset_type = entry.provider.can, unregistered(entry.ticker).asset_type
    for lacking in entry.lacks:
        with pytest.raises(NotEntitled):
            can.base_of(asset_type, lacking)
    bases = {timeframe: can.base_of(asset_type, timeframe) for timeframe in ALL - entry.lacks}
    assert {one: base for one, base in bases.items() if one is not base} == entry.derived
    for base in set(bases.values()):
        page = entry.pages[0]
        asked = Asked(
            unregistered(entry.ticker),
            calendar(unregistered(entry.ticker).calendar),
            base,
            asked_for(page).span,
            can.adjustments[0],
        )
        request = entry.provider.bars(asked)
        assert request.cost == can.cost
        assert KEY not in f"{request.target}{request.params}"


@EVERY
def test_it_spells_what_users_write_and_reads_it_back(entry: Entry) -> None:
    for written, spelled in entry.spellings.items():
        meant = unregistered(written).instrument
        assert entry.provider.spelling(meant) == spelled
        assert entry.provider.instrument(spelled) == meant


@dataclass(frozen=True)
class Place:
    """A provider's simulator under a strict quota, and the settings to ask it."""

    entry: Entry
    simulator: Simulator
    market: Market
    url: str
    settings: api.Settings

    def job(self, *timeframes: Timeframe, since: date, **options: Any) -> api.Job:
        """Return a job of the symbol as of the simulator's clock."""
        return api.Job(
            **{
                "symbols": (self.entry.ticker,),
                "timeframes": timeframes,
                "first": Bound(since),
                "as_of": self.simulator.now,
                **options,
            }
        )

    async def run(self, job: api.Job) -> Summary:
        """Run a job, and see that the summary counts what the provider saw."""
        before = len(self.simulator.calls)
        summary = await api.run(self.settings, job)
        assert summary.calls + summary.lookups == len(self.simulator.calls) - before
        return summary

    async def stored(self, timeframe: Timeframe) -> list[Bar]:
        """Return what is stored of a timeframe."""
        return await asyncio.to_thread(stored_bars, self.url, self.entry.ticker, timeframe)

    def true(self, timeframe: Timeframe, since: date) -> list[Bar]:
        """Return what should be: the bars that are final by the simulator's clock."""
        settling = self.entry.provider.terms["unlimited"].settling
        delay_ms = settling.intraday_ms if timeframe.is_intraday else settling.daily_ms
        final = self.simulator.now - timedelta(milliseconds=delay_ms)
        ticker = self.entry.market_ticker
        can, asset_type = self.entry.provider.can, unregistered(self.entry.ticker).asset_type
        reach = can.begins_ms(
            calendar(unregistered(self.entry.ticker).calendar),
            can.base_of(asset_type, timeframe),
            _ms(self.simulator.now),
        )
        window = self.entry.provider.terms["unlimited"].window_start(self.simulator.now.date())
        begins = midnight_ms(since, ticker) - self.entry.evening_ms
        first = max(begins, midnight_ms(window, ticker), reach)
        bars = self.market.bars(
            ticker,
            timeframe,
            first,
            _ms(final),
            regular=self.entry.is_regular,
            hours=self.entry.hours,
            now_ms=_ms(final),
        )
        return listed(self.entry.told(bars))

    def assert_within_quota(self) -> None:
        """See that no window of the quota held too much, by what arrived."""
        assert [call for call in self.simulator.calls if call.over_quota] == []
        limit, period_s = self.entry.quota.removesuffix("s").split("/")
        arrived = [(call.at_s, call.cost) for call in self.simulator.calls if call.counted]
        for end, _ in arrived:
            assert sum(cost for at, cost in arrived if end - float(period_s) < at <= end) <= int(
                limit
            )


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def same(mine: list[Bar], theirs: list[Bar]) -> None:
    """Compare rows to the last bit, but for sums and means of what a wire tells to eight places."""
    assert theirs, "a comparison with nothing proves nothing"
    assert [(*row[:5], row[7]) for row in mine] == [(*row[:5], row[7]) for row in theirs]
    for one, other in zip(mine, theirs, strict=True):
        assert math.isclose(one[5], other[5], rel_tol=1e-7)
        assert (one[6] is None) == (other[6] is None)
        assert one[6] is None or other[6] is None or math.isclose(one[6], other[6], rel_tol=1e-4)


def _place(entry: Entry, simulator: Simulator, market: Market, database_url: str) -> Place:
    keys = tuple(Secret(KEY) for _ in entry.provider.key_variables)
    account = AccountSettings(
        url=simulator.url,
        other_url=simulator.url,
        archive_url=simulator.url,
        plan="unlimited",
        quota=entry.quota,
        keys=keys,
        secrets=keys,
    )
    settings = api.Settings(
        database_url=Secret(database_url),
        provider_name=entry.name,
        accounts={entry.account: account},
    )
    return Place(entry, simulator, market, database_url, settings)


@pytest.fixture(scope="module")
def by_night() -> Market:
    """The market of feeds of the night."""
    return Market(nights_from=SINCE)


@pytest.fixture
def place(
    entry: Entry,
    simulate: Callable[..., Simulator],
    market: Market,
    by_night: Market,
    database_url: str,
) -> Place:
    """A provider to ask, and an empty database."""
    served = by_night if entry.evening_ms else market
    simulator = simulate(provider=entry.name, quota=entry.quota, market=served)
    return _place(entry, simulator, served, database_url)


@AND_CURRENCIES
async def test_a_first_load_an_increment_a_reload_and_a_run_without_a_call(place: Place) -> None:
    recent, older = date(2024, 11, 7), SINCE
    frame, kept = place.entry.frame, [one for one in Timeframe if one not in place.entry.lacks]
    begins = {one: older if one in DAYS else recent for one in kept}
    loads = [
        place.job(*(one for one in kept if begins[one] is since), since=since)
        for since in dict.fromkeys(begins.values())
    ]
    for load in loads:
        planned = await api.plan(place.settings, load)
        first = await place.run(load)
        assert (first.exit_code, first.failures) == (0, [])
        assert planned.calls <= first.calls <= planned.calls_max
    for timeframe, since in begins.items():
        same(await place.stored(timeframe), place.true(timeframe, since))

    for load in loads:
        again = await place.run(load)
        assert (again.exit_code, again.calls, again.bars.inserted) == (0, 0, 0)

    place.simulator.set_now(NOW + timedelta(hours=25))
    increment = await place.run(place.job(Timeframe.h1, since=recent, mode=Mode.incremental))
    assert (increment.exit_code, increment.bars.updated) == (0, 0)
    assert increment.bars.inserted > 0
    same(await place.stored(Timeframe.h1), place.true(Timeframe.h1, recent))

    held = len(await place.stored(frame))
    reload = await place.run(place.job(frame, since=begins[frame], mode=Mode.reload))
    assert (reload.exit_code, reload.bars.updated, reload.bars.withdrawn) == (0, 0, 0)
    assert reload.bars.unchanged >= held > 0
    same(await place.stored(frame), place.true(frame, begins[frame]))

    place.assert_within_quota()
    seen = [(call.path, call.query) for call in place.simulator.calls]
    ledger = await asyncio.to_thread(query, place.url, "SELECT r::text FROM backfill_runs AS r")
    assert KEY not in f"{seen}{ledger}{reload}"


HEALED: Final = {
    *(Action.DUPLICATES, Action.SHUFFLED, Action.TRUNCATE, Action.NAN, Action.RANDOM_BYTES),
}
CONTRADICTED: Final = {Action.WRONG_TICKER, Action.WRONG_ADJUSTED}
REFUSED: Final = {Action.WRONG_GRANULARITY, Action.SECONDS, Action.MICROSECONDS}


@AND_CURRENCIES
async def test_a_wrong_answer_is_refused_and_what_can_be_healed_is(place: Place) -> None:
    since, frame = SINCE, place.entry.frame
    assert place.entry.says == place.simulator.wire.lies.keys() & CONTRADICTED
    for action in sorted(REFUSED | place.entry.says):
        place.simulator.inject(Fault(action=action, kind="bars"))
        refused = await place.run(place.job(frame, since=since))
        place.simulator.clear_faults()
        outcomes = [one.outcome for one in refused.failures]
        assert (action, outcomes, refused.exit_code) == (action, ["bad_answer"], 1)
    assert await place.stored(frame) == []

    late = Fault(action=Action.LATE, in_s=(0.3, 0.3), back_s=(0.3, 0.3))
    place.simulator.inject(late)
    for action in HEALED:
        place.simulator.inject(Fault(action=action, kind="bars", times=1))
    while HEALED - {call.fault for call in place.simulator.calls}:
        healed = await place.run(place.job(frame, since=since, mode=Mode.reload))
        assert (healed.exit_code, healed.bars.rejected) == (0, 0)
        same(await place.stored(frame), place.true(frame, since))
    place.assert_within_quota()


@LIVE
async def test_an_unknown_symbol_is_no_silence(place: Place) -> None:
    since, frame = SINCE, place.entry.frame
    unknown = await place.run(place.job(frame, since=since, symbols=(place.entry.unknown,)))
    assert [one.outcome for one in unknown.failures] == ["unknown_symbol"]
    assert unknown.exit_code == 1

    fortnight = _ms(NOW - timedelta(days=14)), _ms(NOW)
    place.simulator.inject(
        Fault(action=Action.LACKING, ticker=place.entry.market_ticker, span_ms=fortnight)
    )
    silent = await place.run(place.job(frame, since=since))
    assert (silent.exit_code, silent.failures) == (0, [])
    whole = place.true(frame, since)
    same(await place.stored(frame), [bar for bar in whole if bar[0] < fortnight[0]])


@pytest.mark.parametrize(
    ("entry", "refusal"),
    [
        pytest.param(one, refusal, marks=() if one in ONE_OF_A_KIND else pytest.mark.wide)
        for one in ENTRIES
        for refusal in one.refusals
        if refusal.outcome in {Unauthorised, NotEntitled, GeoBlocked}
    ],
    ids=lambda one: one.name if isinstance(one, Entry) else one.outcome.outcome,
)
async def test_a_refusal_ends_what_it_is_about_after_two_calls_at_most_and_stores_nothing(
    place: Place, refusal: Refusal
) -> None:
    body = refusal.data.decode()
    place.simulator.inject(Fault(action=Action.STATUS, status=refusal.status, body=body))
    ended = await place.run(place.job(Timeframe.h1, place.entry.frame, since=date(2024, 11, 1)))
    assert {one.outcome for one in ended.failures} == {refusal.outcome.outcome}
    assert ended.exit_code == refusal.outcome.exit_code
    assert ended.calls + ended.lookups <= 2
    assert await place.stored(place.entry.frame) == []


@LIVE
async def test_who_is_asked_to_slow_down_does_and_loses_nothing(place: Place) -> None:
    for one in place.entry.refusals:
        if one.outcome is RateLimited:
            said = {"body": one.data.decode(), "headers": {"Retry-After": "1"}}
            place.simulator.inject(
                Fault(action=Action.STATUS, status=one.status, times=1, **said)  # type: ignore[arg-type]
            )
    slowed = await place.run(place.job(place.entry.frame, since=SINCE))
    refused = [call for call in place.simulator.calls if call.fault]
    assert (slowed.exit_code, slowed.rate_limited) == (0, len(refused))
    for call, following in pairwise(place.simulator.calls):
        assert call.fault is None or following.at_s >= (call.head_s or 0.0) + 1.0
    same(await place.stored(place.entry.frame), place.true(place.entry.frame, SINCE))


async def test_all_of_them_run_at_once_and_one_that_is_down_fails_alone(
    simulate: Callable[..., Simulator], by_night: Market, database_url: str
) -> None:
    # A symbol is one provider's; those of the others are listings of it.
    first = {one.ticker: one for one in reversed(ENTRIES)}
    several = [
        one if first[one.ticker] is one else replace(one, ticker=f"{one.ticker}@{one.name}")
        for one in ENTRIES
    ]
    down = massive.ENTRY.name
    # Feeds of one service are asked at one address.
    served = {
        one.account: simulate(provider=one.account, quota=one.quota, market=by_night)
        for one in several
    }
    places = [_place(entry, served[entry.account], by_night, database_url) for entry in several]
    accounts = {one.entry.account: one.settings.accounts[one.entry.account] for one in places}
    settings = replace(places[0].settings, accounts=accounts)
    async with Database.connect(database_url) as database:
        for entry in several:
            change = WatchChange((entry.frame,), since=SINCE.isoformat(), provider=entry.name)
            await database.run(partial(watch, tickers=[entry.ticker], change=change))
    [dead] = [one for one in places if one.entry.name == down]
    dead.simulator.inject(Fault(action=Action.STATUS, status=503))

    summary = await api.run(settings, api.Job(as_of=NOW))

    assert (summary.exit_code, summary.provider) == (1, "mixed")
    assert [(one.provider, one.outcome) for one in summary.failures] == [(down, "provider_error")]
    for name, simulator in served.items():
        counts = [summary.providers[one.name] for one in several if one.account == name]
        assert sum(one.calls + one.lookups for one in counts) == len(simulator.calls)
    for one in places:
        one.assert_within_quota()
        if one is not dead:
            same(await one.stored(one.entry.frame), one.true(one.entry.frame, SINCE))
