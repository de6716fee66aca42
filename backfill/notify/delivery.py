"""Messages sent to the addresses of `BACKFILL_NOTIFY`, by apprise, which knows how each wants them.

Its address is secret, and so is all that apprise says of it. It waits for its sockets in threads
that can't be ended, so each has one that the end of the command doesn't wait for.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.util import find_spec
from threading import Thread
from typing import TYPE_CHECKING, Final

import structlog

from backfill.errors import UsageError
from backfill.present.message import Message
from backfill.settings import Settings
from backfill.settings.secrecy import addresses

if TYPE_CHECKING:
    import apprise

VARIABLE: Final = "BACKFILL_NOTIFY"

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Destination:
    """An address that messages go to; ``digest`` stands for it where it may be seen.

    ``place`` is which of the variable's it is, counted from 1, for a person to find it.
    """

    place: int
    digest: str
    server: "apprise.Apprise" = field(repr=False)


def destinations_of(settings: Settings) -> list[Destination]:
    """Return the addresses that the settings name, none if they name none; nothing is sent.

    Raises
    ------
    UsageError
        If apprise isn't installed, or can't read one; the message doesn't hold it.
    """
    if settings.notify_urls is None:
        return []
    if find_spec("apprise") is None:
        raise UsageError(f"{VARIABLE} needs apprise: pip install 'ohlc-backfill[notify]'")
    import apprise
    from apprise.logger import logger as library

    library.setLevel(logging.CRITICAL)  # it names hosts, and whom it writes to
    found: dict[str, Destination] = {}
    for place, url in enumerate(addresses(settings.notify_urls.reveal()), start=1):
        server = apprise.Apprise()
        if not server.add(url) or len(server) != 1:
            raise UsageError(
                f"{VARIABLE}: apprise can't read its address number {place}; "
                "its documentation has those that there are"
            )
        digest = blake2b(url.encode(errors="surrogateescape"), digest_size=16).hexdigest()
        found.setdefault(digest, Destination(place, digest, server))
    return list(found.values())


async def deliver(messages: Sequence[tuple[Destination, Message]], within_s: float) -> set[str]:
    """Send each message to its destination, all at once; return whom it reached within a time.

    One that doesn't get there is a warning.
    """
    reached = await asyncio.gather(*(_sent(*one, within_s) for one in messages))
    for (destination, _), is_sent in zip(messages, reached, strict=True):
        if not is_sent:
            log.warning("notify.failed", address=destination.place)
    return {one.digest for (one, _), is_sent in zip(messages, reached, strict=True) if is_sent}


async def _sent(destination: Destination, message: Message, within_s: float) -> bool:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[bool] = loop.create_future()

    def note(is_sent: bool) -> None:  # noqa: FBT001 - called by the loop
        if not ended.done():
            ended.set_result(is_sent)

    def send() -> None:
        is_sent = _notified(destination, message)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(note, is_sent)

    Thread(target=send, name="notify", daemon=True).start()
    try:
        async with asyncio.timeout(within_s):
            return await ended
    except TimeoutError:
        return False


def _notified(destination: Destination, message: Message) -> bool:
    import apprise

    try:
        return bool(
            destination.server.notify(
                message.text,
                title=message.title,
                notify_type=message.severity,
                body_format=apprise.NotifyFormat.TEXT,
            )
        )
    except Exception:  # noqa: BLE001 - the top of a thread, in a library of a hundred services
        return False
