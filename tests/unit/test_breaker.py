"""The breaker tells a provider that is down from a symbol that fails (R17)."""

import asyncio
import itertools
import json
from typing import Final

import pytest

from backfill.core.wire import Request, Response
from backfill.errors import (
    Interrupted,
    NotEntitled,
    ProviderDown,
    ProviderError,
    SeriesError,
)
from backfill.fetch.breaker import Breaker
from backfill.fetch.retrying import Patience
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally
from backfill.providers.massive import Massive
from tests.kit import Answer, WrittenLedger, WrittenProvider, client, leaping, now

MASSIVE: Final = Massive()
GOOD: Final = Answer(json.dumps({"status": "OK"}).encode())
DOWN: Final = Answer(b"", 500)
NOT_FOUND: Final = Answer(b"", 404)
DENIED: Final = Answer(b"", 403)
GARBAGE: Final = Answer(b"<html>")
GONE: Final = ConnectionResetError("gone")
AT_ONCE: Final = Patience(attempts=1)


def read(response: Response) -> int:
    return len(MASSIVE.read_splits(response)[0])


async def ask(provider: WrittenProvider, askers: str, tally: Tally | None = None) -> list[str]:
    """Ask for each letter's series in turn, one attempt each; how each one ended."""
    ended = []
    with provider.answering():
        async with client(WrittenLedger(), patience=AT_ONCE, tally=tally) as sender:
            for asker in askers:
                try:
                    await sender.fetch(Request("/bars"), read, f"{asker} d1")
                except (SeriesError, ProviderDown) as error:
                    ended.append(type(error).__name__)
                else:
                    ended.append("good")
    return ended


@pytest.mark.parametrize("failure", [DOWN, GARBAGE, GONE], ids=repr)
@leaping
async def test_a_provider_that_fails_three_series_and_three_probes_is_asked_no_more(
    failure: Answer | Exception,
) -> None:
    provider = WrittenProvider(failure, repeat_last=True)
    ended = await ask(provider, "ABCDEFGHIJKL")
    assert len(provider.asked) == 6
    assert ended[6:] == ["ProviderDown"] * 6
    assert "ProviderDown" not in ended[:6]


@leaping
async def test_probes_go_out_one_at_a_time_and_ever_later() -> None:
    provider = WrittenProvider(DOWN, repeat_last=True)
    await ask(provider, "ABCDEFG")
    waits = [
        after.at - before.at
        for before, after in zip(provider.asked[2:], provider.asked[3:], strict=False)
    ]
    assert waits == [pytest.approx(1.0), pytest.approx(2.0), pytest.approx(4.0)]


@leaping
async def test_probes_of_series_that_run_at_once_do_not_overlap() -> None:
    slow = Answer(b"", 500, delay_s=0.7)
    provider, tally = WrittenProvider(slow, repeat_last=True), Tally()

    async def one(sender_asker: str) -> str:
        try:
            await sender.fetch(Request("/bars"), read, sender_asker)
        except (SeriesError, ProviderDown) as error:
            return type(error).__name__
        return "good"

    with provider.answering():
        async with client(WrittenLedger(), patience=Patience(attempts=9), tally=tally) as sender:
            ended = await asyncio.gather(*(one(f"{asker} d1") for asker in "ABC"))
            ended += await asyncio.gather(*(one(f"{asker} d1") for asker in "DEFGHIJK"))
    assert ended == ["ProviderDown"] * 11
    probes = [asked.at for asked in provider.asked[3:]]
    assert len(probes) == 3
    assert all(after - before > 0.7 for before, after in itertools.pairwise(probes))


@leaping
async def test_one_series_that_always_fails_never_stops_the_others() -> None:
    answers = [answer for _ in range(40) for answer in (DOWN, GOOD)]
    ended = await ask(WrittenProvider(*answers), "XA" * 40)
    assert ended == ["ProviderUnavailable", "good"] * 40


@leaping
async def test_one_series_that_always_fails_alone_is_no_provider_that_is_down() -> None:
    ended = await ask(WrittenProvider(DOWN, repeat_last=True), "X" * 60)
    assert set(ended) == {"ProviderUnavailable"}


@leaping
async def test_two_series_that_always_fail_are_no_provider_that_is_down() -> None:
    ended = await ask(WrittenProvider(DOWN, repeat_last=True), "XY" * 30)
    assert set(ended) == {"ProviderUnavailable"}


@leaping
async def test_a_good_answer_in_between_starts_the_count_anew() -> None:
    answers = [DOWN, DOWN, GOOD] * 10
    ended = await ask(WrittenProvider(*answers), "ABCDEFGHIJ" * 3)
    assert "ProviderDown" not in ended


@pytest.mark.parametrize(
    ("refusal", "outcome"), [(NOT_FOUND, ProviderError), (DENIED, NotEntitled)]
)
@leaping
async def test_refusals_do_not_count_as_failures(refusal: Answer, outcome: type[Exception]) -> None:
    began = now()
    ended = await ask(WrittenProvider(refusal, repeat_last=True), "ABCDEFGHIJ")
    assert ended == [outcome.__name__] * 10
    assert now() == began


@leaping
async def test_a_refusal_in_between_takes_only_its_own_series_out_of_the_count() -> None:
    answers = [DOWN, DOWN, NOT_FOUND, DOWN, DOWN, GOOD]
    began = now()
    ended = await ask(WrittenProvider(*answers), "ABACDE")
    assert ended[-1] == "good"
    assert now() - began == pytest.approx(1.0)


@leaping
async def test_a_good_probe_lets_everything_through_at_once_again() -> None:
    answers = [DOWN, DOWN, DOWN, DOWN, GOOD, GOOD, DOWN, DOWN, GOOD]
    provider = WrittenProvider(*answers)
    ended = await ask(provider, "ABCDEFGHI")
    assert ended == ["ProviderUnavailable"] * 4 + ["good"] * 2 + ["ProviderUnavailable"] * 2 + [
        "good"
    ]
    assert provider.asked[-1].at == provider.asked[4].at


@leaping
async def test_a_page_that_is_refused_after_reading_says_that_the_provider_is_up() -> None:
    breaker, began = Breaker(StopSignal()), now()
    for asker in "ABC":
        breaker.failed(asker)
    breaker.succeeded()
    for asker in "DE":
        breaker.failed(asker)
    async with breaker.passage():
        assert now() == began


@leaping
async def test_a_stop_ends_the_wait_for_a_probe() -> None:
    stop = StopSignal()
    breaker = Breaker(stop)
    for asker in "ABC":
        breaker.failed(asker)
    asyncio.get_running_loop().call_later(0.25, stop.set, Interrupted("SIGTERM"))
    began = now()
    with pytest.raises(Interrupted):
        async with breaker.passage():
            pytest.fail("a stopped run sends no probe")
    assert now() - began == pytest.approx(0.25)


@leaping
async def test_the_series_that_meets_an_open_breaker_is_told_what_was_tried() -> None:
    breaker = Breaker(StopSignal())
    for asker in "ABC":
        breaker.failed(asker)
    for _ in range(3):
        async with breaker.passage():
            breaker.failed("D")
    with pytest.raises(ProviderDown, match="4 series and 3 probes failed"):
        async with breaker.passage():
            pytest.fail("nothing passes an open breaker")
