"""Refusals that mean the same wherever they come from: by the HTTP status alone."""

from typing import NoReturn

from backfill.core.wire import Response
from backfill.errors import (
    GeoBlocked,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
)
from backfill.providers.retry_after import retry_after_s


def refuse_status(response: Response, said: str) -> None:
    """Raise the outcome that an answer other than 200 names, to who takes no key.

    ``said`` is what its body says, for the message.

    Raises
    ------
    RateLimited, GeoBlocked, ProviderUnavailable, ProviderError
        As the status says.
    """
    status = response.status
    if status == 200:
        return
    if status == 451:
        raise refused_place(status, said)
    if status in {401, 403}:
        # Told of nobody's plan: a day of silence would be more than it asks for.
        detail = f": {said}" if said else ""
        raise ProviderError(f"the provider refuses this address ({status}){detail}")
    refuse_otherwise(response, said)


def refuse_otherwise(response: Response, said: str) -> NoReturn:
    """Raise the outcome of an answer that refuses neither who asks nor from where.

    Raises
    ------
    RateLimited, ProviderUnavailable, ProviderError
        As the status says.
    """
    status, wait_s = response.status, retry_after_s(response.headers)
    detail = f": {said}" if said else ""
    if status == 429:
        raise RateLimited(f"the provider asked to slow down (429){detail}", wait_s)
    if status in {408, 425} or status >= 500:
        raise ProviderUnavailable(f"the provider answered {status}{detail}", wait_s)
    raise ProviderError(f"the provider answered {status}{detail}")


def refused_place(status: int, said: str) -> GeoBlocked:
    """Return the outcome of an answer that refuses whoever calls from where this machine is."""
    return GeoBlocked(
        f"the provider refuses calls from this machine's location ({status}): run it elsewhere, or "
        f"choose another provider{f': {said}' if said else ''}"
    )
