"""The one client that sends requests: quota, deadlines, retries by class, breaker, size limit."""

# Over 300 lines: a request from its slot to what was read of the answer, with all that may come
# between.

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

import aiohttp
import structlog
from yarl import URL

from backfill.core.plain import one_line
from backfill.core.redact import BLOT, Redactor
from backfill.core.wire import Kind, Request, Response
from backfill.errors import (
    BackfillError,
    BadAnswer,
    GeoBlocked,
    ProviderUnavailable,
    RateLimited,
    SeriesError,
    UnreadableAnswer,
)
from backfill.fetch.body import ACCEPTED, refusal_unpacked, too_long, unpacked
from backfill.fetch.breaker import Breaker
from backfill.fetch.clock import check_clock
from backfill.fetch.quota import GATEWAYS, Pacer, Slot
from backfill.fetch.reader import Reader
from backfill.fetch.retrying import DEFAULT_PATIENCE, Patience, retrying
from backfill.fetch.sending import Late, OneRequest, Sending, aborting_socket, once
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally

_T = TypeVar("_T")

log = structlog.stdlib.get_logger()

_CHUNK: Final = 256 * 1024
_SHORT: Final = 16 * 1024
"""A packed body of fewer bytes is read at once: it grows to some hundred bars."""
_UNSAID_PAUSE_S: Final = 5.0
_READ: Final = 10_000
_TOLD: Final = 300
"""How many characters of what is said of an answer are read, and told."""


class Client:
    """Sends a provider's requests, each in a slot of the quota, and reads the answers.

    The headers with the key go to the provider's own origin only, and with requests that say so to
    that of its ``other_url``: a next-page link to another is an error, and redirects are not
    followed. ``symbols`` is how many the run asks for, ``proxy``
    the URL of what all calls go through. Long answers are read by the ``reader``. The first call to
    a provider that ``refuses_places`` goes alone.

    ``now_ms`` is what the run takes for now. An answer dated well before it ends the run unread: a
    bar that still formed when the provider answered would be judged final by that clock.
    """

    def __init__(
        self,
        base_url: str,
        headers: dict[str, str],
        pacer: Pacer,
        tally: Tally,
        stop: StopSignal,
        reader: Reader,
        *,
        now_ms: int,
        symbols: int = 1,
        other_url: str | None = None,
        proxy: str | None = None,
        refuses_places: bool = False,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._origin = _origin(URL(self._base_url))
        self._other_url = (other_url or base_url).rstrip("/")
        self._keys = Redactor(
            value.rpartition(" ")[2] for name, value in headers.items() if name != "User-Agent"
        )
        self._pacer = pacer
        self._tally = tally
        self._now_ms = now_ms
        self._patience = patience
        self._stop = stop
        self._breaker = Breaker(stop, symbols, refuses_places=refuses_places)
        self._reader = reader
        self._session = aiohttp.ClientSession(
            headers={**headers, "Accept": "application/json", "Accept-Encoding": ACCEPTED},
            auto_decompress=False,  # a page is unpacked where it is read
            timeout=aiohttp.ClientTimeout(
                total=patience.total_s, sock_connect=patience.connect_s, sock_read=patience.read_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
            # A call that waited for a connection would hold its slot meanwhile.
            connector=aiohttp.TCPConnector(limit=0, socket_factory=aborting_socket),
            request_class=OneRequest,
            middlewares=[once],
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def fetch(
        self,
        request: Request,
        read: Callable[[Response], _T],
        asker: str,
        queued: Callable[[], None] = lambda: None,
        once_more: Callable[[_T], bool] = lambda _: False,
    ) -> _T:
        """Send a request until it is answered or not worth another try, and return what was read.

        ``read`` turns an answer into a value or raises its outcome; ``asker`` names the series to
        the breaker, ``queued`` is called each time the request queues for a slot. What
        ``once_more`` holds for is asked for a second time at once, which counts as a retry.

        Raises
        ------
        SeriesError
            The last outcome, once it isn't retryable or the attempts are used up.
        ProviderDown
            If the breaker is open.
        Stopped
            If the run is to end.
        Unauthorised, GeoBlocked
            If the key was refused, or whoever calls from here.
        ClockAhead
            If the answer is dated more than a minute before the run's clock.
        """
        url = self._url_of(request)
        attempts = retrying(self._patience, self._stop, self._tally)
        answer: _T = await attempts(self._attempt, request, url, read, asker, queued)
        if once_more(answer):
            self._tally.retries += 1
            answer = await attempts(self._attempt, request, url, read, asker, queued)
        return answer

    async def _attempt(
        self,
        request: Request,
        url: URL,
        read: Callable[[Response], _T],
        asker: str,
        queued: Callable[[], None],
    ) -> _T:
        """Send once, sitting out 429s; feed the breaker with how it went."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            try:
                async with self._breaker.passage():
                    answer = await self._read(read, await self._send(request, url, queued))
            except RateLimited as error:
                error.let_go()  # a pause may be long
                self._breaker.refused(asker)
                self._tally.rate_limited += 1
                self._tally.rate_limited_by_others += self._pacer.proven
                pause_s = _UNSAID_PAUSE_S if error.retry_after_s is None else error.retry_after_s
                if loop.time() - began + pause_s > self._patience.rate_limited_s:
                    # Who asks all the same is banned for longer: nobody does, in any run.
                    await self._pacer.pause(min(pause_s, self._patience.longest_pause_s))
                    raise
                log.warning(
                    "quota.throttled",
                    pause_s=pause_s,
                    message=str(error),
                    by_others=self._pacer.proven,  # every run of this database keeps the quota
                )
                self._tally.gauge.pause(pause_s)
                await self._pacer.pause(pause_s)
                self._tally.retries += 1
            except (ProviderUnavailable, UnreadableAnswer):
                self._breaker.failed(asker)
                raise
            except BadAnswer:
                self._breaker.succeeded()
                raise
            except SeriesError:
                self._breaker.refused(asker)
                raise
            except GeoBlocked as error:
                self._breaker.barred(error)
                raise
            else:
                self._breaker.succeeded()
                return answer

    async def _send(self, request: Request, url: URL, queued: Callable[[], None]) -> Response:
        """Send a request, unless the run's calls are used up: then the last of them end first."""
        async with self._tally.budget.sending(self._stop):
            queued()
            return await self._exchange(request, url)

    async def _exchange(self, request: Request, url: URL) -> Response:
        """Send a request in a slot, the last thing to be waited for; in another if that is late."""
        while True:
            slot, measured = await self._slot(request)
            sending = Sending(partial(self._pacer.late, slot))
            self._tally.count(request.kind)
            try:
                with measured:
                    answer = await self._head(request, url, slot, sending)
            except Late:
                self._tally.uncount(request.kind)
                continue
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise self._no_answer(error) from None
            finally:
                if not sending.written:
                    self._pacer.unwritten(slot)
            try:
                async with answer:
                    return await self._body_of(answer)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise self._no_answer(error) from None

    async def _slot(self, request: Request) -> tuple[Slot, AbstractContextManager[None]]:
        """Wait for a slot; return it with what measures its call."""
        gauge, loop = self._tally.gauge, asyncio.get_running_loop()
        asked_s = loop.time()
        with gauge.idle():
            slot = await self._stop.unless_set(self._pacer.slot(request.cost, request.kind))
        waited_s = loop.time() - asked_s
        is_lookup = request.kind is not Kind.bars
        return slot, gauge.call(self._pacer.quota, request.cost, waited_s, lookup=is_lookup)

    async def _head(
        self, request: Request, url: URL, slot: Slot, sending: Sending
    ) -> aiohttp.ClientResponse:
        """Return an answer of which the head has come, and tell the ledger of it."""
        with sending.under_way():
            async with asyncio.timeout(self._pacer.head_s(slot)):
                answer = await self._session.request(
                    "HEAD" if request.head else "GET",
                    url,
                    params=dict(request.params) or None,
                    allow_redirects=False,
                )
        sending.written = True
        if answer.status not in GATEWAYS:
            self._pacer.answered(slot)
        return answer

    async def _body_of(self, answer: aiohttp.ClientResponse) -> Response:
        self._tally.answers += 1
        check_clock(self._now_ms, answer.headers.get("Date"))
        body = await (self._body(answer) if answer.status == 200 else self._refusal_body(answer))
        headers = {name.lower(): self._keys.text(value) for name, value in answer.headers.items()}
        headers.setdefault("date", formatdate(usegmt=True))
        return Response(answer.status, headers, body)

    async def _read(self, read: Callable[[Response], _T], packed: Response) -> _T:
        """Unpack and read an answer; a long one apart, so that other calls leave in their slots.

        A key that it repeats is blotted out before anybody reads it: what is read is stored, logged
        and told.
        """

        def unpack_and_read() -> _T:
            unpack = unpacked if packed.status == 200 else refusal_unpacked
            try:
                answer = unpack(packed, self._patience.body_limit)
                return read(replace(answer, body=self._keys.body(answer.body)))
            except BackfillError as error:
                error.args = (one_line(str(error)[:_READ])[:_TOLD], *error.args[1:])
                raise

        if len(packed.body) < _SHORT:
            return unpack_and_read()
        return await self._reader.apart(unpack_and_read)

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        """Read a body as it was sent, of no more bytes than the limit."""
        body = bytearray()
        async for part in answer.content.iter_chunked(_CHUNK):
            body += part
            if len(body) > self._patience.body_limit:
                answer.close()
                raise too_long(self._patience.body_limit)
        return bytes(body)

    async def _refusal_body(self, answer: aiohttp.ClientResponse) -> bytes:
        """Read the body of a refusal, or none if it is too long or breaks off."""
        try:
            return await self._body(answer)
        except (aiohttp.ClientError, TimeoutError, OSError, UnreadableAnswer):
            return b""

    def _no_answer(self, error: Exception) -> ProviderUnavailable:
        """Return the fault of a call whose answer didn't come; the library quotes what did."""
        reason = self._keys.told(str(error)) or type(error).__name__
        return ProviderUnavailable(f"no answer from the provider: {reason}")

    def _url_of(self, request: Request) -> URL:
        target = request.target
        base_url = self._other_url if request.at_other else self._base_url
        try:
            url = URL(base_url + target if target.startswith("/") else target)
            origin = _origin(URL(base_url)) if request.at_other else self._origin
            elsewhere = target.startswith("//") or _origin(url) != origin
        except ValueError:
            elsewhere = True
        if elsewhere:
            raise BadAnswer("the next page is said to be at another host")
        if BLOT in target:
            raise BadAnswer("the address of the next page repeats the key, which goes into no URL")
        return url


def _origin(url: URL) -> tuple[str, str | None, int | None, str | None, str | None]:
    """Return where a request would go; an address that names a user is nobody's origin."""
    return url.scheme, url.host, url.port, url.user, url.password
