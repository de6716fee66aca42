"""Whom the server answers: a table of requests, to a real server on loopback."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientResponse

from tests.integration.serve_kit import server, serving

TOKEN = "correct-horse-battery-staple"
NOBODY = "postgresql://nobody@127.0.0.1:1/none"
"""A database that no request here gets as far as."""
BEARER = {"Authorization": f"Bearer {TOKEN}"}
APP = "https://app.example.com"
FORM = "application/x-www-form-urlencoded"
ANSWERED = 404
"""What a path that leads nowhere says to whom it is told."""


async def asked(headers: dict[str, str], **options: Any) -> ClientResponse:
    """Ask a server for what isn't there, and return how it answers."""
    async with serving(NOBODY, **options) as client, client.get("/nowhere", headers=headers) as got:
        await got.read()
        return got


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", ANSWERED),
        ("127.0.0.1:8321", ANSWERED),
        ("127.8.9.10", ANSWERED),
        ("localhost:9", ANSWERED),
        ("LocalHost", ANSWERED),
        ("[::1]", ANSWERED),
        ("[::1]:8321", ANSWERED),
        ("evil.example", 421),
        ("evil.example:8321", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("localhost@evil.example", 421),
        ("192.168.1.7", 421),
        ("[2001:db8::1]", 421),
        ("0.0.0.0", 421),
        ("127.0.0.1:", 421),
        ("127.0.0.1:http", 421),
        ("", 421),
    ],
)
async def test_on_loopback_only_loopback_is_a_name_to_ask_under(host: str, status: int) -> None:
    assert (await asked({"Host": host})).status == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("192.168.1.7:8321", ANSWERED),
        ("[2001:db8::1]:8321", ANSWERED),
        ("127.0.0.1", ANSWERED),
        ("Bars.Example.com", ANSWERED),
        ("bars.example.com:443", ANSWERED),
        ("other.example.com", 421),
        ("bars.example.com.evil.example", 421),
    ],
)
async def test_beyond_it_digits_are_and_names_that_were_named(host: str, status: int) -> None:
    named = frozenset({"bars.example.com"})
    got = await asked({"Host": host, **BEARER}, host="0.0.0.0", token=TOKEN, names=named)
    assert got.status == status


@pytest.mark.parametrize(
    "head",
    [
        "GET /nowhere HTTP/1.0\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET http://evil.example/nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
    ],
    ids=["none", "foreign", "in the request line", "two"],
)
async def test_a_request_that_names_no_host_or_several_is_refused(head: str) -> None:
    async with serving(NOBODY) as client:
        url = client._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
        status = (await reader.readline()).split()[1]
        writer.close()
        await writer.wait_closed()
    assert status in {b"400", b"421"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (BEARER, ANSWERED),
        ({"Authorization": f"bearer {TOKEN}"}, ANSWERED),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": "Bearer pässwörd"}, 401),
        ({"Cookie": f"backfill_serve={TOKEN}"}, 401),
        ({"Cookie": "backfill_serve=99999999999.00"}, 401),
        ({"Cookie": "backfill_serve="}, 401),
    ],
)
async def test_a_token_is_shown_as_a_bearer_and_no_other_way(
    headers: dict[str, str], status: int
) -> None:
    assert (await asked(headers, token=TOKEN)).status == status


async def test_a_token_in_a_url_opens_nothing() -> None:
    async with serving(NOBODY, token=TOKEN) as client:
        for query in ("token", "access_token", "BACKFILL_SERVE_TOKEN"):
            async with client.get(f"/nowhere?{query}={TOKEN}") as got:
                assert got.status == 401


@pytest.mark.parametrize(
    ("origin", "named", "status", "allowed"),
    [
        (APP, {APP}, ANSWERED, APP),
        (APP, {"https://other.example.com", APP}, ANSWERED, APP),
        (APP, set(), 403, None),
        ("https://app.example.com.evil.example", {APP}, 403, None),
        ("http://app.example.com", {APP}, 403, None),
        ("https://app.example.com:8443", {APP}, 403, None),
        ("null", {APP}, 403, None),
        ("http://127.0.0.1:8321", set(), ANSWERED, None),
        ("https://127.0.0.1:8321", set(), ANSWERED, None),
        ("http://127.0.0.1:3000", set(), 403, None),
    ],
)
async def test_a_page_reads_from_the_server_if_its_origin_is_named_or_the_servers_own(
    origin: str, named: set[str], status: int, allowed: str | None
) -> None:
    got = await asked({"Host": "127.0.0.1:8321", "Origin": origin}, origins=frozenset(named))
    assert got.status == status
    assert got.headers.get("Access-Control-Allow-Origin") == allowed
    assert ("Origin" in got.headers.get("Vary", "")) == bool(named)
    assert "Access-Control-Allow-Credentials" not in got.headers


async def test_a_page_that_may_read_is_told_too_why_it_may_not() -> None:
    got = await asked({"Origin": APP}, token=TOKEN, origins=frozenset({APP}))
    assert (got.status, got.headers["Access-Control-Allow-Origin"]) == (401, APP)


@pytest.mark.parametrize(("origin", "status"), [(APP, 204), ("https://evil.example", 403)])
async def test_a_browser_that_asks_first_hears_what_a_named_origin_may(
    origin: str, status: int
) -> None:
    asks = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    async with (
        serving(NOBODY, token=TOKEN, origins=frozenset({APP})) as client,
        client.options("/nowhere", headers=asks) as got,
    ):
        assert got.status == status
        may = got.headers.get("Access-Control-Allow-Methods")
        assert may == ("GET, HEAD" if status == 204 else None)


@pytest.mark.parametrize(
    "headers", [{}, {"Host": "evil.example"}, {"Origin": "https://evil.example"}], ids=str
)
async def test_every_answer_tells_a_browser_how_little_it_may_do(headers: dict[str, str]) -> None:
    got = await asked(headers)
    assert got.headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Referrer-Policy"] == "no-referrer"
    assert "aiohttp" not in got.headers["Server"]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("/static/../passing.py", 404),
        ("/static/%2e%2e/passing.py", 404),
        ("/static//etc/hostname", 404),
        (f"/static/{'a' * 4000}", 404),
        ("/static/lightweight-charts", 404),
        ("/static/%00", 400),
        ("/symbols/%00", 400),
        ("/udf/search?query=%00", 400),
        (f"/symbols/A?bars={'9' * 5000}", 400),
        ("/symbols/A?bars=0", 400),
    ],
)
async def test_what_nobody_means_is_refused_and_no_fault(line: str, status: int) -> None:
    async with server(NOBODY) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        asks = f"GET {line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        writer.write(asks.encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"backfill/" not in body


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "multipart/form-data"}, b"token=a", 415),
        ({"Content-Type": "application/json"}, b"{}", 415),
        ({"Content-Type": f"{FORM}; charset=nonsense"}, b"token=a", 403),
        ({"Content-Type": FORM}, b"token=\xff%ff&token", 403),
        ({"Content-Type": FORM, "Content-Encoding": "deflate"}, b"token=a", 400),
        ({"Content-Type": FORM}, b"token=" + b"a" * 20_000, 413),
    ],
)
async def test_a_form_that_is_none_of_ours_is_refused_and_no_fault(
    headers: dict[str, str], body: bytes, status: int
) -> None:
    async with (
        serving(NOBODY, token=TOKEN) as client,
        client.post("/login", data=body, headers=headers) as got,
    ):
        assert got.status == status
