import asyncio
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
import pytest
from yarl import URL

from backfill.simulator import Action, Fault, Simulator, run_in_thread, serve

NOW: Final = datetime(2025, 3, 5, 15, 7, 30, tzinfo=UTC)
BARS: Final = "/v2/aggs/ticker/AAPL/range/1/day/2024-07-01/2024-07-05"
KEY: Final = {"Authorization": "Bearer sim-key"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=KEY) as session:
        yield session


async def get(http: aiohttp.ClientSession, url: str, **options: Any) -> tuple[int, Any, Any]:
    async with http.get(url, **options) as response:
        return response.status, await response.json(), response.headers


async def test_the_key_is_asked_for_and_may_stand_in_the_query() -> None:
    async with Simulator(now=NOW) as sim, aiohttp.ClientSession() as http:
        status, body, _ = await get(http, sim.url + BARS)
        assert status == 401
        assert (body["status"], body["error"]) == ("ERROR", "Unknown API Key")
        assert body["request_id"]
        wrong = {"Authorization": "Bearer wrong"}
        assert (await get(http, sim.url + BARS, headers=wrong))[0] == 401
        assert (await get(http, f"{sim.url}{BARS}?apiKey=wrong"))[0] == 401
        assert (await get(http, sim.url + BARS, headers=KEY))[0] == 200
        status, body, _ = await get(http, f"{sim.url}{BARS}?apiKey=sim-key&limit=1")
        assert status == 200
        assert "sim-key" not in body["next_url"]
        assert (await get(http, body["next_url"]))[0] == 401
        assert (await get(http, body["next_url"], headers=KEY))[0] == 200
        assert not any("apiKey" in call.query for call in sim.calls)


async def test_calls_are_recorded(http: aiohttp.ClientSession) -> None:
    async with Simulator(now=NOW) as sim:
        before = time.monotonic()
        await get(http, sim.url + BARS, params={"limit": "3"})
        await get(http, f"{sim.url}/v3/reference/tickers/NOSUCH")
        bars, lookup = sim.calls
        assert (bars.method, bars.path, bars.query) == ("GET", BARS, {"limit": "3"})
        assert (bars.kind, bars.status, bars.fault) == ("bars", 200, None)
        assert (lookup.kind, lookup.status) == ("lookup", 404)
        assert before < bars.at_s < lookup.at_s < time.monotonic()
        assert abs((datetime.now(UTC) - bars.at).total_seconds()) < 60


async def test_a_url_encoded_ticker_is_understood(http: aiohttp.ClientSession) -> None:
    async with Simulator(now=NOW) as sim:
        for ticker in ("X%3ABTCUSD", "X:BTCUSD"):
            path = f"/v2/aggs/ticker/{ticker}/range/1/day/2024-07-01/2024-07-05"
            async with http.get(URL(sim.url + path, encoded=True)) as response:
                body = await response.json()
            assert (body["ticker"], body["resultsCount"]) == ("X:BTCUSD", 5)


async def test_large_answers_are_compressed_for_who_takes_it(http: aiohttp.ClientSession) -> None:
    async with Simulator(now=NOW) as sim:
        for days, size in (("2024-07-01/2024-07-01", 10_000), ("2024-07-01/2024-07-12", 200_000)):
            url = f"{sim.url}/v2/aggs/ticker/AAPL/range/1/minute/{days}?limit=50000"
            _, packed, headers = await get(http, url)
            assert headers["Content-Encoding"] == "gzip"
            _, plain, headers = await get(http, url, headers={"Accept-Encoding": "identity"})
            assert "Content-Encoding" not in headers
            assert int(headers["Content-Length"]) > size
            assert packed["results"] == plain["results"]


async def test_connections_are_kept_alive() -> None:
    async with Simulator(now=NOW) as sim:
        host, port = sim.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(3):
            head = f"GET {BARS}?apiKey=sim-key HTTP/1.1\r\nHost: {host}\r\n\r\n"
            writer.write(head.encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert head.startswith("HTTP/1.1 200")
            length = next(
                int(line.split(":")[1])
                for line in head.splitlines()
                if line.lower().startswith("content-length")
            )
            await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()


async def test_a_strict_quota_never_admits_one_too_many(http: aiohttp.ClientSession) -> None:
    """Calls that come as fast as they can, from several askers, honouring no wait at all."""
    limit, window_s = 5, 0.5
    async with Simulator(now=NOW, quota=f"{limit}/{window_s}s") as sim:
        until = time.monotonic() + 4 * window_s

        async def hammer() -> None:
            while time.monotonic() < until:
                await get(http, f"{sim.url}/v3/reference/splits")

        async with asyncio.TaskGroup() as askers:
            for _ in range(4):
                askers.create_task(hammer())
        admitted = [call.at_s for call in sim.calls if call.status == 200]
        assert {call.status for call in sim.calls} == {200, 429}
    assert all(
        later - earlier >= window_s
        for earlier, later in zip(admitted, admitted[limit:], strict=False)
    )
    assert len(admitted) >= 4 * limit


async def test_a_429_names_a_wait_after_which_the_call_is_admitted(
    http: aiohttp.ClientSession,
) -> None:
    async with Simulator(now=NOW, quota="2/1s,100/1d") as sim:
        assert [(await get(http, sim.url + BARS))[0] for _ in range(2)] == [200, 200]
        status, body, headers = await get(http, sim.url + BARS)
        assert status == 429
        assert body["status"] == "ERROR"
        assert "maximum requests per minute" in body["error"]
        assert headers["Retry-After"] == "1"
        await asyncio.sleep(float(headers["Retry-After"]))
        assert (await get(http, sim.url + BARS))[0] == 200
        assert [call.status for call in sim.calls] == [200, 200, 429, 200]


async def test_a_429_can_name_a_date(http: aiohttp.ClientSession) -> None:
    async with Simulator(now=NOW, quota="1/90s", retry_after="date") as sim:
        await get(http, sim.url + BARS)
        sent = datetime.now(UTC)
        status, _, headers = await get(http, sim.url + BARS)
        wait = (parsedate_to_datetime(headers["Retry-After"]) - sent).total_seconds()
        assert status == 429
        assert 89 <= wait <= 93


async def test_an_answer_is_dated_by_the_markets_clock_where_that_is_told(
    http: aiohttp.ClientSession,
) -> None:
    async with Simulator(now=NOW, quota="1/90s", retry_after="date", tells_time=True) as sim:
        dates = [(await get(http, sim.url + BARS))[2] for _ in range(2)]
        assert [parsedate_to_datetime(one["Date"]) for one in dates] == [NOW, NOW]
        wait = parsedate_to_datetime(dates[1]["Retry-After"]) - NOW
        assert 89 <= wait.total_seconds() <= 92
        sim.set_now(NOW.replace(day=1))
        dated = (await get(http, sim.url + BARS))[2]["Date"]
        assert parsedate_to_datetime(dated) == NOW.replace(day=1)
    async with Simulator(now=NOW) as sim:
        real = parsedate_to_datetime((await get(http, sim.url + BARS))[2]["Date"])
        assert abs(real - datetime.now(UTC)).total_seconds() < 60


async def test_calls_without_the_key_are_not_counted(http: aiohttp.ClientSession) -> None:
    async with Simulator(now=NOW, quota="1/90s") as sim:
        wrong = {"Authorization": "Bearer wrong"}
        for _ in range(3):
            assert (await get(http, sim.url + BARS, headers=wrong))[0] == 401
        await get(http, f"{sim.url}/_sim/state")
        assert (await get(http, sim.url + BARS))[0] == 200
        assert (await get(http, sim.url + BARS))[0] == 429


async def test_the_clock_can_be_set(http: aiohttp.ClientSession) -> None:
    async with Simulator(now=NOW) as sim:
        url = f"{sim.url}/v2/aggs/ticker/AAPL/range/1/day/2025-03-03/2025-03-07"
        assert (await get(http, url))[1]["resultsCount"] == 3
        sim.set_now(datetime(2025, 3, 8, 6, tzinfo=UTC))
        assert (await get(http, url))[1]["resultsCount"] == 5
        sim.set_now(None)
        assert abs((sim.now - datetime.now(UTC)).total_seconds()) < 60


async def test_the_free_plan_is_refused_over_http(http: aiohttp.ClientSession) -> None:
    async with Simulator(now=NOW, plan="free") as sim:
        url = f"{sim.url}/v2/aggs/ticker/AAPL/range/1/day/2020-01-01/2024-07-05"
        status, body, _ = await get(http, url)
        assert (status, body["status"]) == (403, "NOT_AUTHORIZED")
        assert (await get(http, sim.url + BARS))[0] == 200


async def test_it_is_controlled_over_the_wire_without_a_key() -> None:
    async with Simulator(now=NOW) as sim, aiohttp.ClientSession() as http:
        await get(http, sim.url + BARS, headers=KEY)
        _, calls, _ = await get(http, f"{sim.url}/_sim/calls")
        assert [(call["path"], call["status"], call["kind"]) for call in calls] == [
            (BARS, 200, "bars")
        ]
        clock = {"now": "2025-03-08T06:00:00Z"}
        async with http.post(f"{sim.url}/_sim/clock", json=clock) as response:
            assert (await response.json())["now"] == "2025-03-08T06:00:00Z"
        assert sim.now == datetime(2025, 3, 8, 6, tzinfo=UTC)
        fault = {"action": "status", "status": 503, "times": 1, "kind": "bars"}
        async with http.post(f"{sim.url}/_sim/faults", json=fault) as response:
            assert response.status == 200
        assert sim.faults == [Fault(action=Action.STATUS, status=503, times=1, kind="bars")]
        assert (await get(http, sim.url + BARS, headers=KEY))[0] == 503
        async with http.delete(f"{sim.url}/_sim/faults") as response:
            assert (await response.json())["faults"] == []
        _, state, _ = await get(http, f"{sim.url}/_sim/state")
        assert (state["calls"], state["plan"]) == (2, "unlimited")
        for path, body in (("faults", {"action": "explode"}), ("clock", {"now": "noon"})):
            async with http.post(f"{sim.url}/_sim/{path}", json=body) as response:
                assert response.status == 400


async def test_it_serves_until_cancelled() -> None:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(Simulator(now=NOW), ready.set_result))
    url = await ready
    async with aiohttp.ClientSession(headers=KEY) as http:
        assert (await get(http, url + BARS))[0] == 200
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(aiohttp.ClientConnectionError):
            await get(http, url + BARS)


def test_a_thread_of_its_own_serves_code_that_blocks() -> None:
    with run_in_thread(Simulator(now=NOW)) as sim:
        assert asyncio.run(one_status(sim.url + BARS)) == 200
        sim.inject(Fault(action=Action.STATUS, status=500))
        assert asyncio.run(one_status(sim.url + BARS)) == 500
        sim.clear_faults()
        assert asyncio.run(one_status(sim.url + BARS)) == 200
        assert [call.status for call in sim.calls] == [200, 500, 200]


async def one_status(url: str) -> int:
    async with aiohttp.ClientSession(headers=KEY) as http:
        return (await get(http, url))[0]


def test_a_taken_port_is_an_error_of_who_asked_for_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(OSError, match="in use"),
            run_in_thread(Simulator(port=taken.getsockname()[1])),
        ):
            pass
