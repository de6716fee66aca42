"""Massive's refusals: the outcome that an answer without data names."""

from typing import Final

import msgspec

from backfill.core.wire import Response
from backfill.errors import (
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    Unauthorised,
)
from backfill.providers.retry_after import retry_after_s


class Refusal(msgspec.Struct):
    """What the body of a refusal says."""

    status: str = ""
    error: str = ""
    message: str = ""


_REFUSAL: Final = msgspec.json.Decoder(Refusal)


def refusal_in(response: Response) -> Refusal:
    """Return what an answer that refuses says; of a body that can't be read, nothing."""
    try:
        return _REFUSAL.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refusal()


def refuse_errors(response: Response) -> None:
    """Raise the outcome that an answer other than 200 names."""
    status = response.status
    if status == 200:
        return
    refusal = refusal_in(response)
    said = (refusal.message or refusal.error).strip()[:200]
    detail = f": {said}" if said else ""
    if status == 401:
        raise Unauthorised(f"the provider refused the key in MASSIVE_API_KEY (401){detail}")
    if status == 403:
        raise NotEntitled(f"the plan doesn't include this data (403){detail}")
    wait_s = retry_after_s(response.headers)
    if status == 429:
        raise RateLimited(f"the provider asked to slow down (429){detail}", wait_s)
    if status in {408, 425} or status >= 500:
        raise ProviderUnavailable(f"the provider answered {status}{detail}", wait_s)
    raise ProviderError(f"the provider answered {status}{detail}")
