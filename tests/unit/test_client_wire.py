"""The client against a server of its own that says whatever a test writes, byte for byte."""

import asyncio
import gc
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.terms import Quota, Taken
from backfill.core.wire import Request, Response
from backfill.errors import (
    BackfillError,
    ClockAhead,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    SeriesError,
    Unauthorised,
    UnreadableAnswer,
)
from backfill.fetch.body import unpacked
from backfill.fetch.retrying import Patience
from backfill.fetch.tally import Tally
from backfill.providers.massive import Massive
from tests.kit import KEY, WrittenLedger, client

Speak = Callable[[asyncio.StreamWriter], Awaitable[None]]

MASSIVE: Final = Massive()
ONCE: Final = Patience(attempts=1, connect_s=5, read_s=5, total_s=5, body_limit=1_000_000)
_NOON_MS: Final = 1_731_412_800_000


def read(response: Response) -> bytes:
    MASSIVE.read_splits(response)
    return response.body


def say(*parts: bytes, status: str = "200 OK", **headers: object) -> Speak:
    """Send an answer and close the connection."""

    async def speak(writer: asyncio.StreamWriter) -> None:
        body = b"".join(parts)
        named = {"Content-Length": len(body), "Connection": "close"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in named.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    return speak


def blurt(raw: bytes) -> Speak:
    """Send bytes as they are and close the connection."""

    async def speak(writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return speak


@asynccontextmanager
async def listening(speak: Speak) -> AsyncIterator[tuple[str, list[str]]]:
    """The address of a server that speaks so, and the requests that it has heard."""
    heard: list[str] = []
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
            await speak(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone, which is what some of these tests are about
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.add(asyncio.ensure_future(converse(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}", heard
    finally:
        server.close()
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)


async def fetch(base_url: str, target: str = "/bars", **options: Any) -> bytes:
    options = {"patience": ONCE} | options
    async with client(WrittenLedger(), base_url=base_url, **options) as sender:
        return await sender.fetch(Request(target), read, "A d1")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/v2/aggs/ticker/X:BTCUSD/range", "/v2/aggs/ticker/X:BTCUSD/range", []),
        ("/v3/reference/tickers/A%3FapiKey%3D1", "/v3/reference/tickers/A?apiKey=1", []),
        ("/v3/reference/tickers/A%2FB%25", "/v3/reference/tickers/A/B%", []),
        ("/v3/reference/tickers/BRK.B", "/v3/reference/tickers/BRK.B", []),
        ("/next?cursor=YWJj%2Bd%2F%3D%3D&a=b", "/next", [("cursor", "YWJj+d/=="), ("a", "b")]),
        ("/next?cursor=YWJjZA==", "/next", [("cursor", "YWJjZA==")]),
        ("/next?cursor=a%20b+c%26d%25%23", "/next", [("cursor", "a b c&d%#")]),
    ],
)
async def test_an_address_means_the_same_where_it_arrives(
    target: str, path: str, query: list[tuple[str, str]]
) -> None:
    async with listening(say(b'{"status": "OK"}')) as (url, heard):
        await fetch(url, target)
        await fetch(url, url + target)
    assert len(heard) == 2
    for request in heard:
        raw_path, _, raw_query = request.split(" ")[1].partition("?")
        assert unquote(raw_path) == path
        assert raw_path.count("/") == target.partition("?")[0].count("/")
        assert parse_qsl(raw_query) == query


@pytest.mark.parametrize(
    "date",
    [
        "Tue, 12 Nov 2024 11:58:59 GMT",
        "Tue, 12 Nov 2024 12:58:59 +0100",
        "Mon, 1 Jan 1990 00:00:00 GMT",
    ],
)
@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "503 Service Unavailable"])
async def test_an_answer_dated_a_minute_before_the_runs_clock_is_not_read(
    status: str, date: str
) -> None:
    said = say(b"neither read nor tried again", status=status, Date=date)
    async with listening(said) as (url, heard):
        with pytest.raises(ClockAhead, match="ahead of the provider's"):
            await fetch(url, now_ms=_NOON_MS, patience=Patience())
    assert len(heard) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Date": "Tue, 12 Nov 2024 11:59:00 GMT"},
        {"Date": "Wed, 13 Nov 2024 12:00:00 GMT"},
        {"Date": "Mon, 11 Nov 2024 12:00:00 -0000"},
        {"Date": "yesterday"},
        {"Date": "Tue, 12 Nov 99999999999999 11:00:00 GMT"},
        {"Date": ""},
        {},
    ],
    ids=str,
)
async def test_an_answer_dated_later_or_not_at_all_is_read(headers: dict[str, str]) -> None:
    async with listening(say(b'{"status": "OK"}', **headers)) as (url, _):
        assert await fetch(url, now_ms=_NOON_MS) == b'{"status": "OK"}'


async def test_the_key_arrives_in_one_header_and_is_in_no_address() -> None:
    request = Request("/bars", {"limit": "1"})
    async with (
        listening(say(b'{"status": "OK"}', Set_Cookie="track=1")) as (url, heard),
        client(WrittenLedger(), base_url=url, patience=ONCE) as sender,
    ):
        await sender.fetch(request, read, "A d1")
        await sender.fetch(request, read, "A d1")
    assert len(heard) == 2
    for said in heard:
        lines = said.split("\r\n")
        assert lines[0] == "GET /bars?limit=1 HTTP/1.1"
        assert [line for line in lines if KEY in line] == [f"Authorization: Bearer {KEY}"]
        assert "track" not in said


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_the_key_does_not_follow_a_redirect(status: str) -> None:
    async with (
        listening(say(b'{"status": "OK"}')) as (elsewhere, lured),
        listening(say(status=status, Location=elsewhere)) as (url, heard),
    ):
        with pytest.raises(ProviderError):
            await fetch(url)
        assert (len(heard), lured) == (1, [])


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", " GZip "])
@pytest.mark.parametrize("cuts", [(), (7,), (0, 0, 7, 16)])
async def test_a_compressed_body_is_read_in_however_many_members_it_comes(
    encoding: str, cuts: tuple[int, ...]
) -> None:
    body = b'{"status": "OK"}'
    bounds = zip((0, *cuts), (*cuts, len(body)), strict=True)
    packed = b"".join(gzip.compress(body[start:end]) for start, end in bounds)
    async with listening(say(packed, Content_Encoding=encoding)) as (url, _):
        assert await fetch(url) == body


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.data())
def test_a_body_that_is_cut_inside_its_stream_is_never_whole(
    parts: list[bytes], data: st.DataObject
) -> None:
    """Whatever the format: one without a closing bracket tells nothing of its end by itself."""
    packed = [gzip.compress(part) for part in parts]
    whole = b"".join(packed)
    ends = {sum(map(len, packed[:count])) for count in range(len(packed) + 1)}
    headers = {"content-encoding": "gzip"}
    assert unpacked(Response(200, headers, whole), 1_000).body == b"".join(parts)
    cut = data.draw(st.sampled_from(sorted(set(range(len(whole))) - ends)))
    with pytest.raises(UnreadableAnswer):
        unpacked(Response(200, headers, whole[:cut]), 1_000)


async def test_the_members_of_a_bomb_count_together() -> None:
    bomb = gzip.compress(bytes(600_000)) * 2
    async with listening(say(bomb, Content_Encoding="gzip")) as (url, _):
        with pytest.raises(UnreadableAnswer, match="exceeds 1000000 bytes"):
            await fetch(url)


def _unfinished(status: str, packed: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nRetry-After: 30\r\nContent-Length: 999\r\n\r\n".encode() + packed


BUSY: Final = "429 Too Many Requests"


@pytest.mark.parametrize(
    "speak",
    [
        say(status=BUSY, Retry_After=30, Content_Encoding="gzip"),
        say(b"not gzip", status=BUSY, Retry_After=30, Content_Encoding="gzip"),
        say(gzip.compress(b"{}" * 99)[:-20], status=BUSY, Retry_After=30, Content_Encoding="gzip"),
        say(gzip.compress(b"{}"), status=BUSY, Retry_After=30, Content_Encoding="x-gzip"),
        say(b"?", status=BUSY, Retry_After=30, Content_Encoding="br"),
        say(b"?" * 1_000_001, status=BUSY, Retry_After=30),
        blurt(_unfinished(BUSY, b"{")),
    ],
    ids=["empty", "no-gzip", "cut", "x-gzip", "unknown", "too-long", "breaks-off"],
)
async def test_a_refusal_is_a_refusal_whatever_its_body_is_packed_in(speak: Speak) -> None:
    patience = replace(ONCE, rate_limited_s=10)
    tally = Tally()
    async with listening(speak) as (url, heard):
        with pytest.raises(RateLimited) as refused:
            await fetch(url, patience=patience, tally=tally)
        assert refused.value.retry_after_s == 30
        assert (len(heard), tally.rate_limited, tally.retries) == (1, 1, 0)


async def test_an_unreadable_body_of_a_key_that_is_refused_is_no_bad_answer() -> None:
    spoken = say(b"?", status="401 Unauthorized", Content_Encoding="gzip")
    async with listening(spoken) as (url, heard):
        with pytest.raises(Unauthorised):
            await fetch(url)
        assert len(heard) == 1


async def test_a_body_as_large_as_the_limit_is_read_and_one_byte_more_is_not() -> None:
    body = b'{"status": "OK"}'
    patience = Patience(attempts=1, body_limit=len(body))
    async with listening(say(body)) as (url, _):
        assert await fetch(url, patience=patience) == body
    async with listening(say(body + b" ")) as (url, _):
        with pytest.raises(UnreadableAnswer, match="exceeds 16 bytes"):
            await fetch(url, patience=patience)


async def test_a_bomb_costs_one_unreadable_answer_and_little_memory() -> None:
    bomb = gzip.compress(bytes(100_000_000), compresslevel=1)
    async with listening(say(bomb, Content_Encoding="gzip")) as (url, _):
        tracemalloc.start()
        try:
            with pytest.raises(UnreadableAnswer, match="exceeds"):
                await fetch(url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(bytes(50_000_000), compresslevel=1), "gzip"),
        (bytes(12_000_000), "identity"),
        (b'{"status": "OK", "count": "' + bytes(9_000_000), "identity"),
    ],
    ids=["too-long-once-unpacked", "too-long", "unreadable"],
)
async def test_an_answer_that_is_refused_is_held_by_nobody(body: bytes, encoding: str) -> None:
    patience = Patience(attempts=4, backoff_s=0.01, backoff_max_s=0.01, body_limit=10_000_000)
    speak = say(body, Content_Encoding=encoding)
    async with listening(speak) as (url, heard):
        tracemalloc.start()
        gc.disable()  # what is held in a circle stays for as long as that isn't looked for
        try:
            with pytest.raises(UnreadableAnswer):
                await fetch(url, patience=patience)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            gc.enable()
            tracemalloc.stop()
    assert len(heard) == 4
    assert held < 15_000_000  # what was sent last may be on its way yet


async def test_a_body_without_end_is_cut_off() -> None:
    async def for_ever(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n")
        while True:
            writer.write(bytes(100_000))
            await writer.drain()

    async with listening(for_ever) as (url, _):
        with pytest.raises(UnreadableAnswer, match="exceeds"):
            await fetch(url)


async def _silence(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def _drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("speak", "patience"),
    [
        (_silence, Patience(attempts=1, read_s=0.2, total_s=20)),
        (_drip, Patience(attempts=1, read_s=20, total_s=0.3)),
    ],
)
async def test_an_answer_that_does_not_come_to_an_end_is_given_up(
    speak: Speak, patience: Patience
) -> None:
    async with asyncio.timeout(10), listening(speak) as (url, heard):
        with pytest.raises(ProviderUnavailable):
            await fetch(url, patience=patience)
        assert len(heard) == 1


@pytest.mark.parametrize(
    "speak",
    [
        blurt(b""),
        blurt(b"\x16\x03\x01 not http at all\r\n\r\n"),
        blurt(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"),
        blurt(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{"),
        blurt(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        blurt(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n{}"),
        say(b"this is no gzip", Content_Encoding="gzip"),
        say(gzip.compress(b'{"status": "OK"}' * 99)[:-40], Content_Encoding="gzip"),
        say(b"{}", Content_Encoding="brotli-of-another-age"),
    ],
    ids=range(9),
)
async def test_an_answer_that_breaks_off_is_asked_for_again_as_often_as_it_is_counted(
    speak: Speak,
) -> None:
    tally = Tally()
    patience = Patience(attempts=2, backoff_s=0.001, read_s=5, total_s=5)
    async with listening(speak) as (url, heard):
        with pytest.raises(SeriesError) as failed:
            await fetch(url, patience=patience, tally=tally)
        assert isinstance(failed.value, ProviderUnavailable | UnreadableAnswer)
        assert (tally.calls, tally.retries, len(heard)) == (2, 1, 2)


async def test_a_port_where_nobody_listens_is_no_answer() -> None:
    async with listening(blurt(b"")) as (url, _):
        pass
    tally = Tally()
    with pytest.raises(ProviderUnavailable) as failed:
        await fetch(url, tally=tally)
    assert tally == Tally(calls=1)
    assert KEY not in str(failed.value)


QUOTA: Final = Quota.parse("5/60s")


class Noted(WrittenLedger):
    """A ledger that remembers what it is told of calls."""

    def __init__(self) -> None:
        super().__init__(QUOTA)
        self.answered: list[int] = []
        self.unwritten: list[int] = []
        self.told = asyncio.Event()

    async def note(
        self,
        answered: Sequence[tuple[int, float]],
        unwritten: Sequence[int],
        *,
        leaving: bool = False,
    ) -> None:
        self.answered += [call for call, _ in answered]
        self.unwritten += unwritten
        self.told.set()
        await super().note(answered, unwritten, leaving=leaving)


async def test_an_answer_is_noted_when_its_head_has_come_and_not_awaited_by_its_body() -> None:
    ledger, rest = Noted(), asyncio.Event()

    async def head_then_body(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n")
        await rest.wait()
        writer.write(b'{"status": "OK"}')

    async with (
        listening(head_then_body) as (url, _),
        client(ledger, base_url=url, patience=ONCE, quota=QUOTA) as sender,
    ):
        fetching = asyncio.ensure_future(sender.fetch(Request("/bars"), read, "A d1"))
        async with asyncio.timeout(5):
            await ledger.told.wait()
        assert not fetching.done()
        rest.set()
        await fetching
    assert ledger.unwritten == []


@pytest.mark.parametrize("status", ["408 X", "502 X", "503 X", "504 X", "522 X"])
async def test_an_answer_that_may_be_a_gateways_leaves_its_call_open(status: str) -> None:
    ledger = Noted()
    async with listening(say(b"", status=status)) as (url, _):
        with pytest.raises(SeriesError):
            await _fetch_noted(ledger, url)
    assert (ledger.answered, ledger.unwritten) == ([], [])
    assert [call.open for call in ledger.shared.calls] == [True]


@pytest.mark.parametrize("speak", [blurt(b""), blurt(b"HTTP/1.1 200 OK\r\nContent-Le")], ids=[0, 1])
async def test_a_call_without_an_answer_stays_open_and_is_not_sent_again_in_its_slot(
    speak: Speak,
) -> None:
    ledger = Noted()
    async with listening(speak) as (url, heard):
        with pytest.raises(ProviderUnavailable):
            await _fetch_noted(ledger, url)
    assert len(heard) == 1
    assert (ledger.answered, ledger.unwritten) == ([], [])
    assert [call.open for call in ledger.shared.calls] == [True]


async def test_a_connection_that_drops_when_it_is_used_again_has_nothing_sent_a_second_time() -> (
    None
):
    """The library would send the request again on a new connection, in no slot."""
    ledger, heard = Noted(), 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + b'{"status": "OK"}', b""):
            await reader.readuntil(b"\r\n\r\n")
            heard += 1
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(once, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    url = f"http://{host}:{port}"
    async with server, client(ledger, base_url=url, patience=ONCE, quota=QUOTA) as sender:
        await sender.fetch(Request("/bars"), read, "A d1")
        with pytest.raises(ProviderUnavailable):
            await sender.fetch(Request("/bars"), read, "A d1")
    assert heard == 2
    assert len(ledger.taken) == 2


async def test_a_call_of_which_nothing_was_written_gives_its_slot_back() -> None:
    async with listening(blurt(b"")) as (url, _):
        pass
    ledger = Noted()
    with pytest.raises(ProviderUnavailable):
        await _fetch_noted(ledger, url)
    assert len(ledger.unwritten) == 1
    assert ledger.shared.calls == []


async def test_a_call_that_would_be_written_late_asks_for_another_slot() -> None:
    """Between its asking and its writing the machine sleeps for six seconds, once."""
    ledger, tally, slept_s = Noted(), Tally(), [0.0]

    class Asleep(Noted):
        async def take(self, costs: Sequence[int]) -> Taken:
            taken = await super().take(costs)
            slept_s[0] += 6.0 * (len(self.taken) == 1)
            return taken

    ledger = Asleep()
    async with (
        listening(say(b'{"status": "OK"}')) as (url, heard),
        client(
            ledger, base_url=url, patience=ONCE, quota=QUOTA, tally=tally,
            clock=lambda: asyncio.get_running_loop().time() + slept_s[0],
        ) as sender,
    ):  # fmt: skip
        await sender.fetch(Request("/bars"), read, "A d1")
        await ledger.told.wait()
    assert len(heard) == 1
    assert len(ledger.taken) == 2
    assert len(ledger.unwritten) == 1
    assert (tally.calls, tally.retries) == (1, 0)


async def test_a_connection_that_is_given_up_is_reset_and_not_closed() -> None:
    ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await reader.read()
            ended.set_result(None)
        except ConnectionResetError as error:
            ended.set_result(error)

    server = await asyncio.start_server(listen, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    patience = Patience(attempts=1, read_s=0.1)
    async with server:
        with pytest.raises(ProviderUnavailable):
            await _fetch_noted(Noted(), f"http://{host}:{port}", patience)
        async with asyncio.timeout(5):
            assert isinstance(await ended, ConnectionResetError)


async def _fetch_noted(ledger: Noted, url: str, patience: Patience = ONCE) -> bytes:
    async with client(ledger, base_url=url, patience=patience, quota=QUOTA) as sender:
        return await sender.fetch(Request("/bars"), read, "A d1")


@pytest.mark.parametrize(
    "spoken",
    [
        say(json.dumps({"status": "ERROR", "error": f"no such key {KEY}"}).encode()),
        say(f'{{"status": "ERROR", "error": "{KEY[:3]}\\u{ord(KEY[3]):04x}{KEY[4:]}"}}'.encode()),
        say(json.dumps({"error": "." * 290 + KEY}).encode(), status="400 Bad Request"),
        say(json.dumps({"status": f"E{KEY}"}).encode()),
        say(json.dumps({"status": "OK", "results": [{"ticker": KEY}]}).encode()),
    ],
    ids=["in-a-200", "escaped", "at-the-cut", "as-a-status", "in-the-data"],
)
async def test_a_key_that_an_answer_repeats_is_told_to_nobody_whole_or_in_half(
    spoken: Speak,
) -> None:
    async with listening(spoken) as (url, _):
        with pytest.raises(BackfillError) as failed:
            await fetch(url)
    assert KEY[:4] not in str(failed.value)


async def test_what_an_answer_says_is_told_on_one_short_line_without_control_characters() -> None:
    words = "a\0b\x1b[31m\n::error::c" + "d" * 5_000
    spoken = say(json.dumps({"error": words}).encode(), status="400 Bad Request")
    async with listening(spoken) as (url, _):
        with pytest.raises(ProviderError, match="a b") as failed:
            await fetch(url)
    assert str(failed.value).isprintable()
    assert len(str(failed.value)) <= 300
