"""The client asks again by class of error, counts what it sends, and ends when the run does."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import pytest
from structlog.testing import capture_logs

from backfill.core.wire import Kind, Request, Response
from backfill.errors import (
    BadAnswer,
    Interrupted,
    LimitReached,
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    Unauthorised,
    UnknownSymbol,
    UnreadableAnswer,
)
from backfill.fetch.retrying import Patience
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Budget, Tally
from backfill.providers.massive import Massive
from tests.kit import Answer, WrittenLedger, WrittenProvider, client, leaping, now

MASSIVE: Final = Massive()
BARS: Final = Request("/bars")
LOOKUP: Final = Request("/reference", kind=Kind.lookup)
GOOD: Final = Answer(json.dumps({"status": "OK", "results": []}).encode())
UNREADABLE: Final = Answer(b"<html>")
NOBODY: Final = aiohttp.ClientConnectionError("nobody there")
ROUNDING: Final = 2e-6
"""Of the seconds between two stamps, each to the microsecond."""


def read(response: Response) -> int:
    """Read an answer as the provider reads splits, which have the simplest body."""
    return len(MASSIVE.read_splits(response)[0])


def refused(status: int, **headers: str) -> Answer:
    return Answer(b"{}", status, {name.replace("_", "-"): text for name, text in headers.items()})


async def fetch(
    provider: WrittenProvider,
    tally: Tally,
    *,
    request: Request = BARS,
    reader: Callable[[Response], Any] = read,
    ledger: WrittenLedger | None = None,
    **options: Any,
) -> Any:
    with provider.answering():
        async with client(ledger or WrittenLedger(), tally=tally, **options) as sender:
            return await sender.fetch(request, reader, asker="A d1")


@leaping
async def test_a_good_answer_takes_one_call() -> None:
    provider, tally = WrittenProvider(GOOD), Tally()
    assert await fetch(provider, tally) == 0
    assert tally == Tally(calls=1, answers=1)


@pytest.mark.parametrize(
    ("failure", "answered"),
    [
        (NOBODY, 0),
        (aiohttp.ServerDisconnectedError(), 0),
        (aiohttp.ClientPayloadError("cut off"), 0),
        (ConnectionResetError("reset"), 0),
        (TimeoutError(), 0),
        (refused(408), 1),
        (refused(425), 1),
        (refused(500), 1),
        (refused(502), 1),
        (refused(503), 1),
        (refused(504), 1),
        (UNREADABLE, 1),
    ],
    ids=repr,
)
@leaping
async def test_what_may_pass_is_asked_again_and_counted(
    failure: Answer | Exception, answered: int
) -> None:
    provider, tally = WrittenProvider(failure, failure, GOOD), Tally()
    assert await fetch(provider, tally) == 0
    assert tally == Tally(calls=3, retries=2, answers=1 + 2 * answered)
    assert {asked.url for asked in provider.asked} == {"https://provider.test/bars"}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (refused(400), ProviderError),
        (refused(401), Unauthorised),
        (refused(403), NotEntitled),
        (refused(404), ProviderError),
        (refused(302, Location="https://provider.test/else"), ProviderError),
    ],
)
@leaping
async def test_what_will_not_pass_is_not_asked_again(
    answer: Answer, outcome: type[Exception]
) -> None:
    provider, tally = WrittenProvider(answer), Tally()
    with pytest.raises(outcome):
        await fetch(provider, tally)
    assert tally == Tally(calls=1, answers=1)


@pytest.mark.parametrize("error", [BadAnswer("not asked for"), UnknownSymbol("who?")])
@leaping
async def test_an_answer_that_was_read_and_refused_is_not_asked_again(error: Exception) -> None:
    def refuse(_: Response) -> None:
        raise error

    tally = Tally()
    with pytest.raises(type(error)):
        await fetch(WrittenProvider(GOOD), tally, reader=refuse)
    assert tally.calls == 1


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (refused(500), ProviderUnavailable),
        (NOBODY, ProviderUnavailable),
        (UNREADABLE, UnreadableAnswer),
    ],
)
@leaping
async def test_attempts_are_capped_and_the_last_outcome_is_told(
    failure: Answer | Exception, outcome: type[Exception]
) -> None:
    provider, tally = WrittenProvider(failure, repeat_last=True), Tally()
    with pytest.raises(outcome):
        await fetch(provider, tally, patience=Patience(attempts=4))
    assert (tally.calls, tally.retries, len(provider.asked)) == (4, 3, 4)


@leaping
async def test_waits_between_attempts_grow_and_are_capped_and_jittered() -> None:
    provider = WrittenProvider(refused(500), repeat_last=True)
    patience = Patience(attempts=12, backoff_s=1.0, backoff_max_s=20.0)
    with pytest.raises(ProviderUnavailable):
        await fetch(provider, Tally(), patience=patience)
    waits = [
        after.at - before.at
        for before, after in zip(provider.asked, provider.asked[1:], strict=False)
    ]
    for attempt, wait in enumerate(waits):
        least, most = min(2.0**attempt, 20.0), min(2.0**attempt + 1.0, 20.0)
        assert least - ROUNDING <= wait <= most + ROUNDING
    assert any(wait % 1 > 1e-3 for wait in waits)


@leaping
async def test_retry_after_on_a_503_is_waited_for() -> None:
    provider, tally = WrittenProvider(refused(503, Retry_After="40"), GOOD), Tally()
    await fetch(provider, tally)
    assert provider.asked[1].at - provider.asked[0].at == pytest.approx(40.0)
    assert tally.retries == 1


@leaping
async def test_retry_after_on_a_503_never_shortens_the_backoff() -> None:
    provider = WrittenProvider(refused(503, Retry_After="0"), GOOD)
    await fetch(provider, Tally(), patience=Patience(backoff_s=3.0))
    assert provider.asked[1].at - provider.asked[0].at >= 3.0


@leaping
async def test_a_503_that_asks_for_a_year_does_not_stall_the_series_that_long() -> None:
    provider = WrittenProvider(refused(503, Retry_After=str(86_400 * 365)), GOOD)
    await fetch(provider, Tally(), patience=Patience(rate_limited_s=100.0))
    assert provider.asked[1].at - provider.asked[0].at == pytest.approx(100.0)


@leaping
async def test_a_429_pauses_the_ledger_for_as_long_as_it_asks_and_costs_no_attempt() -> None:
    slow = [refused(429, Retry_After="30")] * 7
    provider, tally, ledger = WrittenProvider(*slow, GOOD), Tally(), WrittenLedger()
    assert await fetch(provider, tally, ledger=ledger, patience=Patience(attempts=1)) == 0
    assert tally == Tally(calls=8, retries=7, rate_limited=7, answers=8)
    assert ledger.pauses == [30.0] * 7
    assert provider.asked[-1].at - provider.asked[0].at == pytest.approx(210.0)


@leaping
async def test_a_429_between_failures_leaves_every_attempt() -> None:
    answers = [refused(500), refused(429, Retry_After="1"), refused(500), GOOD]
    tally = Tally()
    assert await fetch(WrittenProvider(*answers), tally, patience=Patience(attempts=3)) == 0
    assert (tally.calls, tally.retries, tally.rate_limited) == (4, 3, 1)


@leaping
async def test_a_429_that_names_a_date_pauses_until_then() -> None:
    dated = refused(
        429, Date="Tue, 24 Nov 2026 11:00:00 GMT", Retry_After="Tue, 24 Nov 2026 11:01:30 GMT"
    )
    ledger = WrittenLedger()
    await fetch(WrittenProvider(dated, GOOD), Tally(), ledger=ledger)
    assert ledger.pauses == [90.0]


@leaping
async def test_a_date_in_an_answer_that_has_none_itself_is_measured_by_this_clock() -> None:
    past = refused(429, Retry_After="Tue, 24 Nov 2020 11:01:30 GMT")
    ledger = WrittenLedger()
    await fetch(WrittenProvider(past, GOOD), Tally(), ledger=ledger)
    assert ledger.pauses == [0.0]


@leaping
async def test_a_429_that_says_nothing_pauses_for_a_moment() -> None:
    ledger = WrittenLedger()
    await fetch(WrittenProvider(refused(429), GOOD), Tally(), ledger=ledger)
    assert len(ledger.pauses) == 1
    assert 0 < ledger.pauses[0] <= 60


@pytest.mark.parametrize(("asked_for", "paused_s"), [("101", 101.0), ("9" * 400, 86_400.0)])
@leaping
async def test_a_429_that_asks_for_more_than_the_patience_fails_the_series_and_holds_all_others_off(
    asked_for: str, paused_s: float
) -> None:
    provider, ledger = WrittenProvider(refused(429, Retry_After=asked_for)), WrittenLedger()
    began = now()
    with pytest.raises(RateLimited):
        await fetch(provider, Tally(), ledger=ledger, patience=Patience(rate_limited_s=100.0))
    assert now() == began
    assert ledger.pauses == [paused_s]


@leaping
async def test_a_pause_holds_every_call_that_shares_the_ledger() -> None:
    ledger, tally = WrittenLedger(), Tally()
    provider = WrittenProvider(refused(429, Retry_After="30"), GOOD, GOOD)
    with provider.answering():
        async with client(ledger, tally=tally) as one, client(ledger, tally=tally) as other:
            slowed = asyncio.ensure_future(one.fetch(BARS, read, "A d1"))
            await asyncio.sleep(1)
            await asyncio.gather(slowed, other.fetch(BARS, read, "B d1"))
    first, *rest = (asked.at for asked in provider.asked)
    assert [at - first for at in rest] == [pytest.approx(30.0)] * 2


@leaping
async def test_look_ups_are_tallied_apart_and_together_they_are_what_was_sent() -> None:
    provider, tally = WrittenProvider(GOOD, refused(500), GOOD), Tally()
    with provider.answering():
        async with client(WrittenLedger(), tally=tally) as sender:
            await sender.fetch(BARS, read, "A d1")
            await sender.fetch(LOOKUP, read, "A reference")
    assert (tally.calls, tally.lookups, tally.retries) == (1, 2, 1)
    assert len(provider.asked) == 3


@pytest.mark.parametrize(
    "answers",
    [
        [GOOD],
        [refused(500)],
        [refused(429, Retry_After="1")],
        [NOBODY],
    ],
    ids=repr,
)
@leaping
async def test_max_calls_bounds_every_request_retries_and_look_ups_included(
    answers: list[Answer | Exception],
) -> None:
    provider, tally = WrittenProvider(*answers, repeat_last=True), Tally(Budget(5))

    async def fetch_for_ever() -> None:
        async with client(WrittenLedger(), tally=tally, patience=Patience(attempts=99)) as sender:
            while True:
                await sender.fetch(LOOKUP, read, "A reference")
                await sender.fetch(BARS, read, "A d1")

    with provider.answering(), pytest.raises(LimitReached, match="--max-calls 5"):
        await fetch_for_ever()
    assert len(provider.asked) == tally.calls + tally.lookups == 5


@leaping
async def test_no_call_at_all_is_sent_when_none_is_allowed() -> None:
    provider = WrittenProvider()
    with pytest.raises(LimitReached):
        await fetch(provider, Tally(Budget(0)))
    assert provider.asked == []


@pytest.mark.parametrize(
    ("answers", "paused_s"),
    [
        ([refused(503, Retry_After="600")], 0.0),
        ([refused(429, Retry_After="600")], 0.0),
        ([], 600.0),
    ],
    ids=["backing off", "asked to slow down", "waiting for its slot"],
)
@leaping
async def test_a_stop_ends_a_wait_at_once(answers: list[Answer], paused_s: float) -> None:
    provider, stop, ledger = WrittenProvider(*answers), StopSignal(), WrittenLedger()
    if paused_s:
        await ledger.pause(paused_s)
    began = now()
    asyncio.get_running_loop().call_later(3, stop.set, Interrupted("SIGTERM"))
    with pytest.raises(Interrupted, match="SIGTERM"):
        await fetch(provider, Tally(), stop=stop, ledger=ledger)
    assert now() - began == pytest.approx(3.0)
    assert len(provider.asked) == len(answers)


@leaping
async def test_after_a_stop_nothing_is_sent() -> None:
    stop, provider, tally = StopSignal(), WrittenProvider(), Tally()
    ledger = WrittenLedger()
    await ledger.pause(1.0)
    stop.set(LimitReached("--deadline 5 s is over"))
    stop.set(Interrupted("SIGTERM"))
    with pytest.raises(LimitReached, match="--deadline"):
        await fetch(provider, tally, stop=stop, ledger=ledger)
    assert (provider.asked, tally.calls) == ([], 0)


@leaping
async def test_every_retry_and_every_pause_is_told() -> None:
    answers = [refused(500), refused(429, Retry_After="7"), GOOD]
    with capture_logs() as events:
        await fetch(WrittenProvider(*answers), Tally())
    assert [(event["event"], event.get("outcome")) for event in events] == [
        ("fetch.retry", "provider_error"),
        ("quota.throttled", None),
    ]
    assert events[1]["pause_s"] == 7.0
