"""A run behind a proxy: calls and pings pass it, the key and the proxy's login go nowhere else."""

import base64
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from backfill.simulator import Action, Fault, Simulator
from tests.conftest import KEY, NOW, Cli, query

LOGIN = "proxy-user:proxy-pass/word"
WRITTEN = "proxy-user:proxy-pass%2Fword"
ONE_DAY = (
    *("run", "--symbol", "AAPL", "--from", "2024-11-04", "--to", "2024-11-04"),
    *("--as-of", NOW.isoformat(), "--json"),
)


@dataclass
class Passed:
    """A proxy on loopback, what was asked of it, and where it is."""

    address: str
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def proxy() -> Iterator[Passed]:
    """Serve a proxy that wants a login, passes http on and lets no tunnel through."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            here.asked.append((self.command, self.path, dict(self.headers)))
            login = base64.b64encode(LOGIN.encode()).decode()
            if self.headers["Proxy-Authorization"] != f"Basic {login}":
                return self.send_error(407)
            if self.command == "CONNECT":
                return self.send_error(403)
            parts = urlsplit(self.path)
            onward = HTTPConnection(parts.netloc, timeout=10)
            own = {"Proxy-Authorization", "Connection"}
            headers = {name: text for name, text in self.headers.items() if name not in own}
            onward.request(self.command, f"{parts.path}?{parts.query}", body, headers)
            answer = onward.getresponse()
            read = answer.read()
            onward.close()
            self.send_response(answer.status)
            for name, text in answer.headers.items():
                if name.lower() not in {"content-length", "transfer-encoding", "date", "server"}:
                    self.send_header(name, text)
            self.send_header("Content-Length", str(len(read)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(read)
            return None

        do_GET = do_POST = do_CONNECT = handle_any  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = Passed(f"127.0.0.1:{server.server_address[1]}")
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def passed() -> Iterator[Passed]:
    """A proxy on loopback."""
    with proxy() as running:
        yield running


def said_nowhere(url: str, *texts: str) -> None:
    """See that no text and no row of the ledger holds the key or the proxy's login."""
    rows = query(url, "SELECT row_to_json(r)::text FROM backfill_runs AS r")
    whole = "".join([*texts, *(row[0] for row in rows)])
    for secret in (KEY, "proxy-pass", base64.b64encode(LOGIN.encode()).decode()):
        assert secret not in whole


@pytest.mark.attack(8)
def test_calls_and_pings_pass_the_proxy_that_is_asked_for(
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    passed: Passed,
    database_url: str,
) -> None:
    simulator = simulate()
    command = cli(simulator, BACKFILL_PING_URL=f"{simulator.url}/a-ping-of-a-run")

    ended = command(*ONE_DAY, BACKFILL_PROXY=f"http://{WRITTEN}@{passed.address}")

    assert ended.code == 0, ended.err
    asked = [(method, urlsplit(url)) for method, url, _ in passed.asked]
    assert {f"{url.scheme}://{url.netloc}" for _, url in asked} == {simulator.url}
    pings = {url.path for method, url in asked if method == "POST"}
    assert pings == {"/a-ping-of-a-run/start", "/a-ping-of-a-run"}
    told = ended.json
    calls = sum(method == "GET" for method, _ in asked)
    assert calls == told["calls"] + told["lookups"] > 0
    said_nowhere(database_url, ended.out, ended.err)


@pytest.mark.attack(8)
def test_the_proxies_of_the_environment_count_on_request_only(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], passed: Passed
) -> None:
    simulator = simulate()
    of_all = {"HTTP_PROXY": f"http://{WRITTEN}@{passed.address}", "NO_PROXY": ""}
    assert cli(simulator, **of_all)(*ONE_DAY).code == 0
    assert passed.asked == []
    ended = cli(simulator, **of_all, BACKFILL_PROXY="environment")(*ONE_DAY, "--reload")
    assert ended.code == 0, ended.err
    assert len(passed.asked) == ended.json["calls"] + ended.json["lookups"] > 0


@pytest.mark.attack(8)
def test_a_next_page_at_another_host_is_refused_behind_a_proxy_too(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], passed: Passed
) -> None:
    simulator = simulate()
    simulator.inject(Fault(action=Action.FOREIGN_NEXT))
    ended = cli(simulator)(*ONE_DAY, BACKFILL_PROXY=f"http://{WRITTEN}@{passed.address}")
    assert ended.code == 1
    assert {urlsplit(url).netloc for _, url, _ in passed.asked} == {urlsplit(simulator.url).netloc}


@pytest.mark.attack(8)
@pytest.mark.parametrize(
    "login",
    [WRITTEN, pytest.param("proxy-user:proxy-pass-that-is-wrong", marks=pytest.mark.soak)],
    ids=["no-tunnel", "no-login"],
)
def test_a_proxy_that_refuses_hears_neither_key_nor_question(
    cli: Callable[..., Cli],
    simulate: Callable[..., Simulator],
    passed: Passed,
    database_url: str,
    login: str,
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    ended = cli(simulate())(
        *ONE_DAY,
        BACKFILL_PROVIDER_URL=f"https://127.0.0.1:{port}",
        BACKFILL_PROXY=f"http://{login}@{passed.address}",
    )
    assert ended.code == 3
    assert {(method, url) for method, url, _ in passed.asked} == {("CONNECT", f"127.0.0.1:{port}")}
    assert all("Authorization" not in headers for _, _, headers in passed.asked)
    said_nowhere(database_url, ended.out, ended.err, *(url for _, url, _ in passed.asked))
