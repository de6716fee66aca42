"""Every fault as a client meets it."""

import asyncio
import errno
import gzip
import io
import json
import math
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final, Literal

import aiohttp
import msgspec
import pytest

from backfill.simulator import Action, Fault, Simulator

BARS: Final = "/v2/aggs/ticker/AAPL/range/1/day/2024-07-01/2024-07-19"
MINUTES: Final = "/v2/aggs/ticker/AAPL/range/1/minute/2024-07-01/2024-07-19"
KEY: Final = {"Authorization": "Bearer sim-key"}


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(now=datetime(2025, 3, 5, tzinfo=UTC)) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=KEY, auto_decompress=False) as session:
        yield session


async def fetch(http: aiohttp.ClientSession, url: str) -> tuple[int, dict[str, str], bytes]:
    async with http.get(url) as response:
        return response.status, dict(response.headers), await response.read()


async def body(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    _, headers, data = await fetch(http, url)
    found: dict[str, Any] = json.loads(
        gzip.decompress(data) if headers.get("Content-Encoding") == "gzip" else data
    )
    return found


async def test_a_fault_lasts_as_long_as_it_says_and_is_recorded(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    sim.inject(Fault(action=Action.STATUS, status=503, times=2, skip=1))
    statuses = [(await fetch(http, sim.url + BARS))[0] for _ in range(4)]
    assert statuses == [200, 503, 503, 200]
    assert [call.fault for call in sim.calls] == [None, "status", "status", None]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 504])
async def test_any_status(sim: Simulator, http: aiohttp.ClientSession, status: int) -> None:
    sim.inject(Fault(action=Action.STATUS, status=status, headers={"Retry-After": "7"}))
    found, headers, data = await fetch(http, sim.url + BARS)
    assert (found, headers["Retry-After"]) == (status, "7")
    assert json.loads(data)["request_id"]


async def test_a_status_with_a_body_of_its_own(sim: Simulator, http: aiohttp.ClientSession) -> None:
    page = {"Content-Type": "text/html"}
    sim.inject(Fault(action=Action.STATUS, status=504, body="<h1>Timeout</h1>", headers=page))
    status, headers, data = await fetch(http, sim.url + BARS)
    assert (status, headers["Content-Type"], data) == (504, "text/html", b"<h1>Timeout</h1>")


async def test_a_ticker_can_be_left_out_of_the_plan(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    sim.inject(Fault(action=Action.STATUS, status=403, ticker="AAPL", path="/range/1/minute/"))
    assert (await fetch(http, sim.url + MINUTES))[0] == 403
    assert (await fetch(http, sim.url + BARS))[0] == 200
    assert (await fetch(http, sim.url + MINUTES.replace("AAPL", "MSFT")))[0] == 200


async def test_a_reset_before_any_answer(sim: Simulator, http: aiohttp.ClientSession) -> None:
    sim.inject(Fault(action=Action.RESET))
    with pytest.raises(aiohttp.ClientOSError) as raised:
        await fetch(http, sim.url + BARS)
    assert raised.value.errno == errno.ECONNRESET
    assert {call.status for call in sim.calls} == {None}


async def raw(sim: Simulator, path: str) -> tuple[bytes, bytes, BaseException | None]:
    """Read an answer off the socket: its head, its body, and what ended it."""
    host, port = sim.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer sim-key\r\n\r\n"
    writer.write(head.encode())
    received, ended = b"", None
    try:
        while data := await reader.read(65536):
            received += data
    except ConnectionError as error:
        ended = error
    writer.close()
    answer, _, data = received.partition(b"\r\n\r\n")
    return answer, data, ended


def length_of(head: bytes) -> int:
    (line,) = [one for one in head.split(b"\r\n") if one.lower().startswith(b"content-length")]
    return int(line.split(b":")[1])


async def test_a_reset_half_way_through_the_body(sim: Simulator) -> None:
    sim.inject(Fault(action=Action.RESET_MID_BODY))
    head, data, ended = await raw(sim, BARS)
    assert isinstance(ended, ConnectionResetError)
    assert len(data) < length_of(head)


async def test_a_body_shorter_than_promised(sim: Simulator) -> None:
    sim.inject(Fault(action=Action.TRUNCATE))
    head, data, ended = await raw(sim, BARS)
    assert ended is None
    assert head.startswith(b"HTTP/1.1 200")
    assert len(data) == length_of(head) // 2


async def test_a_truncated_body_is_an_error_for_a_client(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    sim.inject(Fault(action=Action.TRUNCATE))
    with pytest.raises(aiohttp.ClientPayloadError):
        await fetch(http, sim.url + MINUTES)


async def test_an_answer_that_never_comes(sim: Simulator, http: aiohttp.ClientSession) -> None:
    sim.inject(Fault(action=Action.HANG, times=1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await fetch(http, sim.url + BARS)
    assert (await fetch(http, sim.url + BARS))[0] == 200
    assert [call.status for call in sim.calls] == [None, 200]


async def test_it_stops_while_a_client_hangs() -> None:
    async with aiohttp.ClientSession(headers=KEY) as http:
        async with Simulator() as sim:
            sim.inject(Fault(action=Action.HANG))
            waiting = asyncio.create_task(fetch(http, sim.url + BARS))
            while not sim.calls:  # noqa: ASYNC110  # a list of calls has no event
                await asyncio.sleep(0)
        with pytest.raises(aiohttp.ClientError):
            await waiting


async def test_a_slow_drip(sim: Simulator, http: aiohttp.ClientSession) -> None:
    sim.inject(Fault(action=Action.DRIP, bytes_per_s=100.0))
    async with http.get(sim.url + BARS) as response:
        first = await response.content.readany()
        second = await response.content.readany()
        length = response.content_length
    assert len(first) == len(second) == 10
    assert length is not None
    assert length > 500


async def test_a_drip_arrives_in_the_end(sim: Simulator, http: aiohttp.ClientSession) -> None:
    true = await body(http, sim.url + BARS)
    sim.inject(Fault(action=Action.DRIP, bytes_per_s=20_000.0))
    assert (await body(http, sim.url + BARS))["results"] == true["results"]


async def test_a_gzip_bomb_unpacks_to_the_size_set(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    sim.inject(Fault(action=Action.GZIP_BOMB, size=64 * 2**20))
    _, headers, data = await fetch(http, sim.url + BARS)
    assert headers["Content-Encoding"] == "gzip"
    assert len(data) < 2**20
    with gzip.open(io.BytesIO(data)) as unpacking:
        assert unpacking.read(64 * 2**20).count(b" ") == 64 * 2**20


async def test_an_enormous_body_is_streamed(sim: Simulator, http: aiohttp.ClientSession) -> None:
    sim.inject(Fault(action=Action.ENORMOUS_BODY, size=5 * 2**30))
    received = 0
    async with http.get(sim.url + BARS) as response:
        async for chunk in response.content.iter_any():
            received += len(chunk)
            if received > 50 * 2**20:
                break
    assert received > 50 * 2**20
    sim.clear_faults()
    assert (await fetch(http, sim.url + BARS))[0] == 200


@pytest.mark.parametrize(
    ("action", "content_type"),
    [
        (Action.HTML, "text/html; charset=utf-8"),
        (Action.RANDOM_BYTES, "application/json"),
        (Action.BAD_GZIP, "application/json"),
        (Action.NESTED, "application/json"),
        (Action.CHARSET, "application/json; charset=no-such-charset"),
    ],
)
async def test_garbage_comes_with_status_200(
    sim: Simulator, http: aiohttp.ClientSession, action: Action, content_type: str
) -> None:
    sim.inject(Fault(action=action))
    status, headers, data = await fetch(http, sim.url + BARS)
    assert (status, headers["Content-Type"]) == (200, content_type)
    with pytest.raises((msgspec.DecodeError, OSError, EOFError, RecursionError)):
        msgspec.json.decode(gzip.decompress(data) if "Content-Encoding" in headers else data)


async def test_a_bare_nan(sim: Simulator, http: aiohttp.ClientSession) -> None:
    sim.inject(Fault(action=Action.NAN))
    close = (await body(http, sim.url + BARS))["results"][0]["c"]
    assert math.isnan(close)


async def test_bars_of_another_length(sim: Simulator, http: aiohttp.ClientSession) -> None:
    months = await body(http, sim.url + BARS.replace("1/day", "1/month"))
    days = await body(http, sim.url + BARS)
    sim.inject(Fault(action=Action.WRONG_GRANULARITY))
    assert (await body(http, sim.url + BARS))["results"] == months["results"]
    assert (await body(http, sim.url + MINUTES))["results"] == days["results"]


async def test_wrong_bars_and_wrong_words(sim: Simulator, http: aiohttp.ClientSession) -> None:
    true = await body(http, sim.url + BARS)
    for fault, differs in (
        (Fault(action=Action.WRONG_TICKER), {"ticker"}),
        (Fault(action=Action.WRONG_ADJUSTED), {"adjusted"}),
        (Fault(action=Action.DELAYED), {"status"}),
        (Fault(action=Action.FOREIGN_NEXT), {"next_url"}),
        (Fault(action=Action.EDIT_BARS, bar={"c": "n/a"}), {"results"}),
        (Fault(action=Action.SHUFFLED), {"results"}),
        (Fault(action=Action.DROP_BARS), {"results", "queryCount", "resultsCount", "count"}),
        (Fault(action=Action.DUPLICATES), {"results", "resultsCount", "count"}),
    ):
        sim.inject(fault)
        false = await body(http, sim.url + BARS)
        changed = {key for key in true | false if true.get(key) != false.get(key)}
        assert changed == differs | {"request_id"}
        sim.clear_faults()


async def test_a_repeated_and_a_never_ending_next_page(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    for action, distinct in ((Action.REPEATED_NEXT, 1), (Action.ENDLESS_PAGES, 4)):
        sim.inject(Fault(action=action))
        urls, url = [], sim.url + BARS
        for _ in range(4):
            url = (await body(http, url))["next_url"]
            urls.append(url)
        assert len(set(urls)) == distinct
        sim.clear_faults()


async def test_a_fault_counts_in_the_quota_and_a_429_meets_no_fault(
    http: aiohttp.ClientSession,
) -> None:
    async with Simulator(quota="1/60s") as sim:
        sim.inject(Fault(action=Action.STATUS, status=500))
        assert [(await fetch(http, sim.url + BARS))[0] for _ in range(2)] == [500, 429]
        assert [call.fault for call in sim.calls] == ["status", None]


COUNTED: Final[tuple[Literal["before", "after", "never"], ...]] = ("before", "after", "never")


async def arrived(sim: Simulator) -> None:
    """Wait until a call is in the log."""
    while not sim.calls:  # noqa: ASYNC110  # its log has no event to wait on
        await asyncio.sleep(0.005)


async def test_a_late_call_is_counted_when_it_arrives_and_its_answer_leaves_late(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    sim.inject(Fault(action=Action.LATE, in_s=(0.05, 0.1), back_s=(0.03, 0.03), times=1))
    answers = await asyncio.gather(*(fetch(http, sim.url + BARS) for _ in range(2)))
    assert [status for status, _, _ in answers] == [200, 200]
    assert sim.calls == sorted(sim.calls, key=lambda call: call.at_s)
    late = min(sim.calls, key=lambda call: call.received_s)
    assert late.at_s - late.received_s >= 0.05
    assert late.head_s is not None
    assert late.head_s - late.at_s >= 0.03


async def test_a_gateway_s_error_counts_before_after_or_never(
    http: aiohttp.ClientSession,
) -> None:
    for counted in COUNTED:
        async with Simulator(quota="1/60s") as sim:
            sim.inject(Fault(action=Action.LATE, in_s=(0.02, 0.02), times=1))
            sim.inject(Fault(action=Action.STATUS, status=504, counted=counted, times=1))
            assert (await fetch(http, sim.url + BARS))[0] == 504
            assert len(sim.calls) == (0 if counted == "after" else 1)
            await arrived(sim)
            assert (await fetch(http, sim.url + BARS))[0] == (200 if counted == "never" else 429)
            gateway, origin = sim.calls
            assert (gateway.status, gateway.fault) == (504, "status")
            assert gateway.counted is (counted != "never")
            assert (origin.over_quota, gateway.over_quota) == (counted != "never", False)
            if counted == "after":
                assert gateway.head_s is not None
                assert gateway.head_s < gateway.at_s


async def test_a_connection_is_cut_before_or_after_the_call_was_counted(
    http: aiohttp.ClientSession,
) -> None:
    http._retry_connection = False  # else it asks again, once, by itself
    for counted in COUNTED:
        async with Simulator(quota="1/60s") as sim:
            sim.inject(Fault(action=Action.RESET, counted=counted, times=1))
            with pytest.raises(aiohttp.ClientConnectionError):
                await fetch(http, sim.url + BARS)
            await arrived(sim)
            assert (await fetch(http, sim.url + BARS))[0] == (200 if counted == "never" else 429)
            assert [call.counted for call in sim.calls] == [counted != "never", True]


async def test_what_is_on_its_way_arrives_though_its_sender_has_left(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    sim.inject(Fault(action=Action.LATE, in_s=(0.2, 0.2)))
    with pytest.raises(TimeoutError):
        async with http.get(sim.url + BARS, timeout=aiohttp.ClientTimeout(0.05)):
            pass
    assert sim.calls == []
    await arrived(sim)
    assert sim.calls[0].status is None


async def test_a_body_stalls_half_way_and_comes_whole(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    sim.inject(Fault(action=Action.STALL, stall_s=0.05))
    began = time.monotonic()
    assert (await body(http, sim.url + BARS))["resultsCount"] == 14
    assert time.monotonic() - began >= 0.05


async def test_the_market_heals_when_its_clock_says_so_and_is_told_over_the_wire(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    ninth_ms = round(datetime(2024, 7, 9, 4, tzinfo=UTC).timestamp() * 1000)
    fault = {
        "action": "lacking",
        "ticker": "AAPL",
        "span_ms": [ninth_ms, ninth_ms + 86_400_000],
        "until": "2025-03-06T00:00:00Z",
    }
    async with http.post(f"{sim.url}/_sim/faults", json=fault) as response:
        assert response.status == 200
    assert (await body(http, sim.url + BARS))["resultsCount"] == 13
    assert sim.calls[0].fault is None
    sim.set_now(datetime(2025, 3, 6, tzinfo=UTC))
    assert (await body(http, sim.url + BARS))["resultsCount"] == 14
    for senseless in ({"action": "lacking"}, {"action": "html", "counted": "never"}):
        async with http.post(f"{sim.url}/_sim/faults", json=senseless) as response:
            assert response.status == 400
