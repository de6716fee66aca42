"""Objects of an S3 bucket, each read as a stream; obstore signs and sends, all else is ours.

What obstore would do by itself is taken from it: it retries ten times, adds what ``AWS_*``
variables say (another service's session token among it) and goes through the environment's proxy.
One thing can't be: it follows redirects, to another host without the signature.
"""

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from backfill.core.archive import FileRead
from backfill.core.redact import Redactor
from backfill.core.wire import Kind
from backfill.errors import (
    BadAnswer,
    FileMissing,
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
    UsageError,
)
from backfill.fetch.gunzip import Gunzip
from backfill.fetch.reader import Reader
from backfill.fetch.retrying import DEFAULT_PATIENCE, Patience, retrying
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally

if TYPE_CHECKING:
    from obstore.store import S3Store

_T_co = TypeVar("_T_co", covariant=True)
_T = TypeVar("_T")

_PIECE: Final = 2**20
_LONGEST_PACKED: Final = 512 * 2**20
_LONGEST: Final = 4 * 2**30
_TOTAL_S: Final = 900.0
"""How long one file may take, in seconds: half a minute a megabyte at the slowest."""
_STATUS: Final = re.compile(r"status code: (\d{3})")
_AGAIN: Final = {408, 425, 429}
_TOLD: Final = 300


class Sink(Protocol[_T_co]):
    """Takes the text of a file, piece by piece, and makes something of it."""

    def feed(self, text: bytes) -> None:
        """Take the next piece."""
        ...

    def close(self) -> _T_co:
        """Return what was made of all of it."""
        ...


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where objects are, and who asks for them."""

    url: str
    name: str
    access_key_id: str
    secret_access_key: str
    proxy: str | None = None


class Objects:
    """Reads gzip files of a bucket; a request counts as a call and takes nothing of a quota."""

    def __init__(
        self,
        bucket: Bucket,
        tally: Tally,
        stop: StopSignal,
        reader: Reader,
        *,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        self._store = _opened(bucket, patience)
        self._keys = Redactor((bucket.access_key_id, bucket.secret_access_key))
        self._tally = tally
        self._stop = stop
        self._reader = reader
        self._patience = patience

    async def read(self, path: str, sink: Callable[[], Sink[_T]]) -> tuple[FileRead, _T]:
        """Read a file to its end, and return which version it was, and what a sink made of it.

        Each attempt begins anew, with a sink of its own: what is made of a part is nothing.

        Raises
        ------
        FileMissing
            If there is none (404).
        NotEntitled
            If the keys or the plan don't allow it (401, 403): which, nobody says.
        BadAnswer
            If it is broken, cut, or too long, or the sink refuses it.
        ProviderUnavailable
            If it didn't come in any attempt.
        LimitReached, Stopped
            If the run is to end.
        """
        return await self._retried(partial(self._read, path, sink))

    async def version(self, path: str) -> str | None:
        """Return which version of a file is there now.

        Raises
        ------
        FileMissing, NotEntitled, ProviderUnavailable, LimitReached, Stopped
            As `read` does.
        """
        return await self._retried(partial(self._version, path))

    async def _retried(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        answer: _T = await retrying(self._patience, self._stop, self._tally)(attempt)
        return answer

    async def _read(self, path: str, sink: Callable[[], Sink[_T]]) -> tuple[FileRead, _T]:
        import obstore

        async with self._tally.budget.sending(self._stop):
            made, unpack = sink(), Gunzip(_LONGEST)
            with self._faults(path):
                answer = await self._sent(obstore.get_async(self._store, path))
                size = answer.meta["size"]
                if size > _LONGEST_PACKED:
                    raise BadAnswer(f"the file exceeds {_LONGEST_PACKED} bytes")
                length = 0
                pieces = aiter(answer.stream(min_chunk_size=_PIECE))
                while (piece := await self._stop.unless_set(_next(pieces))) is not None:
                    length += len(piece)
                    await self._reader.apart(partial(_feed, unpack, made, bytes(piece)))

            def end() -> _T:
                unpack.close()
                return made.close()

            made_of_it = await self._reader.apart(end)
            return FileRead(path, answer.meta["e_tag"], None, length), made_of_it

    async def _version(self, path: str) -> str | None:
        import obstore

        async with self._tally.budget.sending(self._stop):
            with self._faults(path):
                meta = await self._sent(obstore.head_async(self._store, path))
            etag: str | None = meta["e_tag"]
            return etag

    async def _sent(self, request: Any) -> Any:
        """Send a request, and note that it was answered, be it by a refusal."""
        self._tally.count(Kind.bars)
        try:
            answer = await self._stop.unless_set(_awaited(request))
        except Exception as error:
            self._tally.answers += _status_of(error) is not None
            raise
        self._tally.answers += 1
        return answer

    @contextmanager
    def _faults(self, path: str) -> Iterator[None]:
        """Raise what obstore raises as what it means; its messages quote whole answers."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError:
            raise FileMissing(f"the archive has no {path}") from None
        except BaseError as error:
            raise self._fault(path, error) from None

    def _fault(self, path: str, error: Exception) -> Exception:
        status = _status_of(error)
        if status in {401, 403}:
            return NotEntitled(
                f"the archive refuses {path} ({status}): the keys are wrong, or the plan is without"
            )
        if status is None:
            first, *_ = str(error).splitlines() or [type(error).__name__]
            reason = self._keys.told(first)[:_TOLD]
            return ProviderUnavailable(f"no answer from the archive: {reason}")
        if status in _AGAIN or status >= 500:
            return ProviderUnavailable(f"the archive answered {status} for {path}")
        return ProviderError(f"the archive answered {status} for {path}")


def _opened(bucket: Bucket, patience: Patience) -> "S3Store":
    try:
        from obstore.store import S3Store
    except ModuleNotFoundError:
        raise UsageError(
            "flat files need obstore: pip install 'ohlc-backfill[flatfiles]', or --archive never"
        ) from None

    def keys() -> Any:
        return {
            "access_key_id": bucket.access_key_id,
            "secret_access_key": bucket.secret_access_key,
            "token": None,
            "expires_at": None,
        }

    options: Any = {
        "allow_http": bucket.url.startswith("http://"),
        "connect_timeout": timedelta(seconds=patience.connect_s),
        "read_timeout": timedelta(seconds=patience.read_s),
        "timeout": timedelta(seconds=_TOTAL_S),
    } | ({"proxy_url": bucket.proxy} if bucket.proxy else {})
    with _environment_apart():
        return S3Store(
            bucket.name,
            endpoint=bucket.url,
            region="us-east-1",
            virtual_hosted_style_request=False,
            skip_signature=False,
            credential_provider=keys,
            client_options=options,
            retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
        )


@contextmanager
def _environment_apart() -> Iterator[None]:
    """Take the variables away that obstore reads as it opens a store, and put them back."""
    kept = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.upper().startswith("AWS_") or name.upper().endswith("_PROXY")
    }
    try:
        yield
    finally:
        os.environ.update(kept)


def _status_of(error: Exception) -> int | None:
    """Return the status of an answer that obstore tells of, which it does in words only."""
    if isinstance(error, FileNotFoundError):
        return 404
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def _feed(unpack: Gunzip, sink: Sink[Any], packed: bytes) -> None:
    for text in unpack.feed(packed):
        sink.feed(text)


async def _next(pieces: AsyncIterator[Any]) -> Any:
    return await anext(pieces, None)


async def _awaited(request: Any) -> Any:
    return await request
