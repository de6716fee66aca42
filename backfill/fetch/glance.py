"""One look at an address: whether anybody answers there, and what the clock shows. No quota."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import aiohttp

from backfill.core.http_date import http_date
from backfill.core.wire import Response
from backfill.errors import ProviderUnavailable
from backfill.fetch.body import ACCEPTED, refusal_unpacked

_PATIENCE_S: Final = 8.0
_MOST_BYTES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Glance:
    """An answer: what it took, what its ``Date`` says (None where it has none), and its text."""

    took_s: float
    date: datetime | None
    response: Response


async def glance(
    url: str, headers: Mapping[str, str] | None = None, *, proxy: str | None = None
) -> Glance:
    """Ask once, for the head alone unless there are ``headers`` with a key to be judged.

    Raises
    ------
    ProviderUnavailable
        If there is no answer within eight seconds.
    """
    clock = asyncio.get_running_loop().time
    began_s = clock()
    try:
        async with (
            asyncio.timeout(_PATIENCE_S),
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, proxy=proxy
            ) as session,
            session.request(
                "GET" if headers else "HEAD",
                url,
                headers={"Accept-Encoding": ACCEPTED, **(headers or {})},
                allow_redirects=False,
            ) as answer,
        ):
            took_s = clock() - began_s
            body = await answer.content.read(_MOST_BYTES)
            told = {name.lower(): value for name, value in answer.headers.items()}
    except TimeoutError:
        raise ProviderUnavailable(f"no answer within {_PATIENCE_S:.0f} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ProviderUnavailable(f"no answer: {error or type(error).__name__}") from None
    packed = Response(answer.status, told, body)
    return Glance(took_s, http_date(told.get("date", "")), refusal_unpacked(packed, _MOST_BYTES))
