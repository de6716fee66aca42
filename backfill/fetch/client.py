"""The one client that sends requests: quota, deadlines, retries by class, breaker, size limit."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
import stamina
import structlog

from backfill.core.wire import Kind, Request, Response
from backfill.errors import (
    BackfillError,
    BadAnswer,
    LimitReached,
    ProviderDown,
    ProviderUnavailable,
    RateLimited,
    UnreadableAnswer,
)
from backfill.fetch.breaker import Breaker
from backfill.fetch.quota import Pacer

_T = TypeVar("_T")

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an answer is waited for, and how often it is asked for again.

    All times in seconds. ``patience_s`` is how long one request may be kept waiting by 429s
    before its series fails as ``rate_limited``; such a wait costs no attempt.
    """

    connect_s: float = 10.0
    read_s: float = 20.0
    total_s: float = 60.0
    attempts: int = 4
    backoff_s: float = 0.5
    backoff_max_s: float = 15.0
    patience_s: float = 900.0
    body_limit: int = 64 * 1024 * 1024


DEFAULT_PATIENCE: Final = Patience()
_CHUNK: Final = 256 * 1024


@dataclass(slots=True)
class Tally:
    """What was sent so far: every request counts once, as ``calls`` or as ``lookups``.

    ``limit`` bounds their sum; None for no bound.
    """

    limit: int | None = None
    calls: int = 0
    lookups: int = 0
    retries: int = 0
    rate_limited: int = 0
    answers: int = 0

    def spend(self, kind: Kind) -> None:
        """Count a request that is about to be sent.

        Raises
        ------
        LimitReached
            If the limit doesn't allow another.
        """
        if self.limit is not None and self.calls + self.lookups >= self.limit:
            raise LimitReached(f"--max-calls {self.limit} is used up")
        if kind is Kind.bars:
            self.calls += 1
        else:
            self.lookups += 1


class Client:
    """Sends a provider's requests, each in a slot of the quota, and reads the answers.

    The headers with the key go to the provider's own origin only: a next-page link to another is
    an error, and redirects are not followed.
    """

    def __init__(
        self,
        base_url: str,
        headers: dict[str, str],
        pacer: Pacer,
        tally: Tally,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._origin = urlsplit(self._base_url)[:2]
        self._pacer = pacer
        self._tally = tally
        self._patience = patience
        self._breaker = Breaker()
        self._session = aiohttp.ClientSession(
            headers={**headers, "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(
                total=patience.total_s, sock_connect=patience.connect_s, sock_read=patience.read_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
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

    async def fetch(self, request: Request, read: Callable[[Response], _T], asker: str) -> _T:
        """Send a request until it is answered or not worth another try, and return what was read.

        ``read`` turns an answer into a value or raises its outcome; ``asker`` names the series to
        the breaker.

        Raises
        ------
        SeriesError
            The last outcome, once it isn't retryable or the attempts are used up.
        ProviderDown
            If the breaker is open.
        Unauthorised
            If the key was refused.
        LimitReached
            If ``--max-calls`` allows no further request.
        """
        url = self._url_of(request)
        async for attempt in stamina.retry_context(
            on=_worth_a_retry,
            attempts=self._patience.attempts,
            timeout=None,
            wait_initial=self._patience.backoff_s,
            wait_max=self._patience.backoff_max_s,
            wait_jitter=self._patience.backoff_s,
        ):
            with attempt:
                if attempt.num > 1:
                    self._tally.retries += 1
                return await self._attempt(request, url, read, asker)
        raise AssertionError("stamina ends by returning or raising")

    async def _attempt(
        self, request: Request, url: str, read: Callable[[Response], _T], asker: str
    ) -> _T:
        """Send once, sitting out 429s; feed the breaker with how it went."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            try:
                async with self._breaker.passage():
                    answer = read(await self._send(request, url))
            except RateLimited as error:
                self._breaker.succeeded()
                self._tally.rate_limited += 1
                pause_s = error.retry_after_s if error.retry_after_s is not None else 5.0
                if loop.time() - began + pause_s > self._patience.patience_s:
                    raise
                log.warning("quota.throttled", pause_s=pause_s, message=str(error))
                await self._pacer.pause(pause_s)
            except (ProviderUnavailable, UnreadableAnswer) as error:
                self._breaker.failed(asker)
                log.warning("fetch.retry", outcome=error.outcome, message=str(error))
                raise
            else:
                self._breaker.succeeded()
                return answer

    async def _send(self, request: Request, url: str) -> Response:
        waited_s = await self._pacer.slot(request.cost)
        if waited_s > 1.0:
            log.debug("quota.waited", waited_s=round(waited_s, 3))
        self._tally.spend(request.kind)
        try:
            async with self._session.get(
                url, params=dict(request.params) or None, allow_redirects=False
            ) as answer:
                self._tally.answers += 1
                body = await self._body(answer)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return Response(answer.status, headers, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise ProviderUnavailable(f"no answer from the provider: {reason}") from None

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        """Read a body that decompresses to no more than the limit."""
        parts: list[bytes] = []
        size = 0
        async for part in answer.content.iter_chunked(_CHUNK):
            size += len(part)
            if size > self._patience.body_limit:
                answer.close()
                raise UnreadableAnswer(f"the answer exceeds {self._patience.body_limit} bytes")
            parts.append(part)
        return b"".join(parts)

    def _url_of(self, request: Request) -> str:
        url = urljoin(f"{self._base_url}/", request.target)
        if "://" not in request.target:
            url = self._base_url + request.target
        if urlsplit(url)[:2] != self._origin:
            raise BadAnswer("the next page is said to be at another host")
        return url


def _worth_a_retry(error: Exception) -> bool:
    return (
        isinstance(error, BackfillError)
        and error.retryable
        and not isinstance(error, RateLimited | ProviderDown)
    )
