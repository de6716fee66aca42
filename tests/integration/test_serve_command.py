"""The command ``backfill serve``: how it starts, where it doesn't, and how it ends."""

import asyncio
import json
import signal
import socket
import urllib.error
import urllib.request
from typing import Any, Final

import pytest
from aiohttp import ClientPayloadError, web

from backfill.serve import front, passing
from backfill.serve.app import application
from backfill.serve.guard import Guard
from backfill.serve.reader import Reader
from backfill.serve.shared import Shared
from tests.conftest import Cli, first_of
from tests.integration.serve_kit import server, serving

TOKEN: Final = "correct-horse-battery-staple"
GO_ON: Final = web.AppKey("go_on", asyncio.Event)
NOWHERE: Final = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def command(database_url: str) -> Cli:
    return Cli({"DATABASE_URL": database_url, "BACKFILL_LOG": "json"})


@pytest.mark.parametrize("number", first_of(signal.SIGTERM, signal.SIGINT))
def test_it_serves_until_a_signal_ends_it_and_no_secret_is_logged(
    command: Cli, number: signal.Signals
) -> None:
    process = command.start("serve", "--port", "0", BACKFILL_SERVE_TOKEN=TOKEN)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    asked = urllib.request.Request(f"{url}status?token={TOKEN}", headers=bearer)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(asked, timeout=30)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    answered = [json.loads(line) for line in err.splitlines() if "serve.answered" in line]
    assert [(one["path"], one["status"]) for one in answered] == [("/status", 400)]
    assert TOKEN not in err


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "line"),
    [
        (["--host", "0.0.0.0"], {}, 2, "BACKFILL_SERVE_TOKEN"),
        (["--host", "192.0.2.7"], {}, 2, "BACKFILL_SERVE_TOKEN"),
        (["--host", "example.invalid"], {"BACKFILL_SERVE_TOKEN": " "}, 2, "BACKFILL_SERVE_TOKEN"),
        ([], {"BACKFILL_SERVE_ORIGINS": "*"}, 2, "BACKFILL_SERVE_ORIGINS"),
        ([], {"BACKFILL_SERVE_ORIGINS": "https://a.example/"}, 2, "BACKFILL_SERVE_ORIGINS"),
        ([], {"BACKFILL_SERVE_HOSTS": "a.example:80"}, 2, "BACKFILL_SERVE_HOSTS"),
        ([], {"DATABASE_URL": ""}, 2, "DATABASE_URL"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_2(
    command: Cli, arguments: list[str], environment: dict[str, Any], code: int, line: str
) -> None:
    ended = command("serve", "--port", "0", *arguments, **environment)
    assert (ended.code, ended.out) == (code, "")
    assert line in ended.err


def test_a_port_that_is_taken_is_exit_2_and_a_database_without_tables_is_exit_3(
    command: Cli, empty_url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = command("serve", "--port", str(taken.getsockname()[1]))
    assert (ended.code, "can't listen" in ended.err) == (2, True)
    ended = command("serve", "--port", "0", DATABASE_URL=empty_url)
    assert (ended.code, "backfill migrate" in ended.err) == (3, True)


async def test_more_requests_than_it_takes_at_once_are_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passing, "MOST_AT_ONCE", 0)
    async with serving(NOWHERE) as client, client.get("/status") as got:
        assert (got.status, got.headers["Retry-After"]) == (503, "1")


async def test_a_request_that_takes_too_long_is_given_up_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def forever(_front: Shared[front.Page]) -> front.Page:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(passing, "DEADLINE_S", 0.05)
    monkeypatch.setattr(Shared, "get", forever)
    async with serving(NOWHERE) as client, client.get("/") as got:
        assert got.status == 503
        assert "not done in" in (await got.json())["error"]


async def test_an_answer_that_breaks_off_is_no_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half of it")
        raise RuntimeError("and no more")

    monkeypatch.setattr("backfill.serve.app.ROUTES", ((web.get("/half", half),),))
    async with serving(NOWHERE) as client, client.get("/half") as got:
        assert got.status == 200
        with pytest.raises(ClientPayloadError):
            await got.read()


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_nor_is_it_one_where_an_answer_ends_with_its_connection(
    monkeypatch: pytest.MonkeyPatch, is_stopped: bool
) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half of it")
        await request.app[GO_ON].wait()
        raise RuntimeError("and no more")

    def with_half(reader: Reader, guard: Guard) -> web.Application:
        app = application(reader, guard)
        app[GO_ON] = asyncio.Event()
        told.append(app[GO_ON])
        return app

    told: list[asyncio.Event] = []
    monkeypatch.setattr("backfill.serve.app.ROUTES", ((web.get("/half", half),),))
    monkeypatch.setattr("tests.integration.serve_kit.application", with_half)
    async with server(NOWHERE) as url:
        host = url.removeprefix("http://")
        read, write = await asyncio.open_connection(*host.split(":"))
        write.write(f"GET /half HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        assert (await read.readuntil(b"half of it")).startswith(b"HTTP/1.0 200")
        if not is_stopped:
            told[0].set()
            with pytest.raises(ConnectionResetError):
                await read.read()
    with pytest.raises(ConnectionResetError):
        await read.read()
    write.close()


async def test_what_nobody_foresaw_is_told_in_a_line_without_what_it_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fails(_front: Shared[front.Page]) -> front.Page:
        raise KeyError("a thing within")

    monkeypatch.setattr(Shared, "get", fails)
    async with serving(NOWHERE) as client, client.get("/") as got:
        assert got.status == 500
        assert "\n" not in (await got.json())["error"]
