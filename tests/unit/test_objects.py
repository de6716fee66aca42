"""Objects of a bucket: what obstore sends for us, how often, with which keys, and what is told."""

import asyncio
import gzip
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest
from aiohttp import web

from backfill.errors import (
    BackfillError,
    BadAnswer,
    FileMissing,
    Interrupted,
    LimitReached,
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
)
from backfill.fetch import objects
from backfill.fetch.objects import Bucket, Objects
from backfill.fetch.reader import Reader
from backfill.fetch.retrying import Patience
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Budget, Tally

PATH: Final = "us_stocks_sip/day_aggs_v1/2025/01/2025-01-02.csv.gz"
KEY_ID, SECRET = "THE-ACCESS-KEY-ID", "the-secret-access-key"
TEXT: Final = b"".join(b"%d,line\n" % number for number in range(200_000))
PACKED: Final = gzip.compress(TEXT, 1)
QUICK: Final = Patience(attempts=3, backoff_s=0.001, backoff_max_s=0.001, read_s=20)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Whole:
    """A sink that keeps the text."""

    def __init__(self) -> None:
        self.text = b""

    def feed(self, text: bytes) -> None:
        self.text += text

    def close(self) -> bytes:
        return self.text


@dataclass
class Asking:
    """A bucket that answers as written, the last answer again and again, and who asks it."""

    objects: Objects
    tally: Tally
    stop: StopSignal
    seen: list[web.Request] = field(default_factory=list)

    async def read(self) -> bytes:
        _, text = await self.objects.read(PATH, Whole)
        return text


@asynccontextmanager
async def asking(*answers: Answer, limit: int | None = None) -> AsyncIterator[Asking]:
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        return await answers[min(len(seen), len(answers)) - 1](request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bucket = Bucket(f"http://127.0.0.1:{runner.addresses[0][1]}", "flatfiles", KEY_ID, SECRET)
    tally, stop = Tally(Budget(limit)), StopSignal()
    with Reader() as reader:
        yield Asking(Objects(bucket, tally, stop, reader, patience=QUICK), tally, stop, seen)
    await runner.cleanup()


async def whole(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=PACKED, headers={"ETag": '"v1"'})


def status(code: int) -> Answer:
    """Refuse, and repeat all that was sent and the secret."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=f"{dict(request.headers)} {SECRET}")

    return answer


async def half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(PACKED))})
    await response.prepare(request)
    await response.write(PACKED[: len(PACKED) // 2])
    assert request.transport
    request.transport.close()
    return response


def of(body: bytes) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    return answer


async def test_a_file_is_one_signed_request_below_its_bucket() -> None:
    async with asking(whole) as bucket:
        read, text = await bucket.objects.read(PATH, Whole)
        assert text == TEXT
        assert (read.path, read.etag, read.bytes) == (PATH, '"v1"', len(PACKED))
        assert await bucket.objects.version(PATH) == '"v1"'
        assert [one.method for one in bucket.seen] == ["GET", "HEAD"]
        assert {one.raw_path for one in bucket.seen} == {f"/flatfiles/{PATH}"}
        assert all(KEY_ID in one.headers["Authorization"] for one in bucket.seen)
        assert (bucket.tally.calls, bucket.tally.answers, bucket.tally.retries) == (2, 2, 0)


@pytest.mark.parametrize("first", [status(500), status(503), status(429), status(408), half])
async def test_what_may_pass_is_asked_again_by_us_and_counted_and_read_from_the_start(
    first: Answer,
) -> None:
    async with asking(first, first, whole) as bucket:
        assert await bucket.read() == TEXT
        assert len(bucket.seen) == bucket.tally.calls == 3
        assert bucket.tally.retries == 2


@pytest.mark.parametrize(
    ("answer", "error", "requests"),
    [
        (status(404), FileMissing, 1),
        (status(401), NotEntitled, 1),
        (status(403), NotEntitled, 1),
        (status(400), ProviderError, 1),
        (status(500), ProviderUnavailable, 3),
        (half, ProviderUnavailable, 3),
        (of(PACKED[: len(PACKED) // 2]), BadAnswer, 1),
        (of(b"<html>Sorry</html>"), BadAnswer, 1),
        (of(b""), BadAnswer, 1),
    ],
)
async def test_an_error_is_told_by_its_kind_and_tells_no_key(
    answer: Answer, error: type[BackfillError], requests: int
) -> None:
    async with asking(answer) as bucket:
        with pytest.raises(error) as raised:
            await bucket.read()
        assert type(raised.value) is error
        assert len(bucket.seen) == bucket.tally.calls == requests
        assert KEY_ID not in str(raised.value)
        assert SECRET not in str(raised.value)
        assert len(str(raised.value).splitlines()) == 1
        assert raised.value.__cause__ is None


async def test_nobody_at_the_address_is_no_answer() -> None:
    with Reader() as reader:
        bucket = Bucket("http://127.0.0.1:1", "flatfiles", KEY_ID, SECRET)
        tally = Tally()
        nobody = Objects(bucket, tally, StopSignal(), reader, patience=QUICK)
        with pytest.raises(ProviderUnavailable, match="no answer from the archive"):
            await nobody.read(PATH, Whole)
        assert (tally.calls, tally.answers) == (3, 0)


async def test_the_calls_that_a_run_may_send_are_not_exceeded_by_retries() -> None:
    async with asking(status(500), limit=2) as bucket:
        with pytest.raises(LimitReached):
            await bucket.read()
        assert len(bucket.seen) == 2


@pytest.mark.parametrize("sent", [0, len(PACKED) // 2])
async def test_a_stop_ends_a_file_that_does_not_come(sent: int) -> None:
    reached = asyncio.Event()

    async def stalled(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(PACKED))})
        if sent:
            await response.prepare(request)
            await response.write(PACKED[:sent])
        reached.set()
        await asyncio.Event().wait()
        return response

    async with asking(stalled) as bucket:
        reading = asyncio.create_task(bucket.read())
        await reached.wait()
        bucket.stop.set(Interrupted("Ctrl-C"))
        with pytest.raises(Interrupted):
            await asyncio.wait_for(reading, 5)


async def test_a_file_that_is_too_long_is_refused_by_its_head_and_while_it_is_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with asking(whole) as bucket:
        monkeypatch.setattr(objects, "_LONGEST_PACKED", len(PACKED) - 1)
        with pytest.raises(BadAnswer, match="exceeds"):
            await bucket.read()
        monkeypatch.setattr(objects, "_LONGEST_PACKED", len(PACKED))
        monkeypatch.setattr(objects, "_LONGEST", len(TEXT) - 1)
        with pytest.raises(BadAnswer, match="exceeds"):
            await bucket.read()


async def test_what_the_environment_says_to_others_is_not_sent_nor_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {
        "AWS_SESSION_TOKEN": "somebody-elses",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_ENDPOINT": "http://127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    async with asking(whole) as bucket:
        assert await bucket.read() == TEXT
        assert "x-amz-security-token" not in bucket.seen[0].headers
        assert KEY_ID in bucket.seen[0].headers["Authorization"]
    assert {name: os.environ.get(name) for name in said} == said
