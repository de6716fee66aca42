"""Massive's refusals: the outcome that an answer without data names."""

import re
from typing import Final

import msgspec

from backfill.core.wire import Response
from backfill.errors import (
    NotEntitled,
    ProviderError,
    RateLimited,
    Unauthorised,
)
from backfill.providers.bodies import decoded_or
from backfill.providers.refusals import refuse_otherwise
from backfill.providers.retry_after import retry_after_s


class Refusal(msgspec.Struct):
    """What the body of a refusal says."""

    status: str = ""
    error: str = ""
    message: str = ""


_REFUSAL: Final = msgspec.json.Decoder(Refusal)
_DATA: Final = {"OK", "DELAYED"}
_SLOW_DOWN: Final = re.compile(
    r"maximum requests|rate.?limit|too many requests|requests per (second|minute|hour|day)", re.I
)
_KEY: Final = re.compile(r"\bapi.?key\b", re.I)


def refusal_in(response: Response) -> Refusal:
    """Return what an answer that refuses says; of a body that can't be read, nothing."""
    return decoded_or(_REFUSAL, response.body, Refusal())


def refuse_errors(response: Response) -> None:
    """Raise the outcome that an answer other than 200 names."""
    status = response.status
    if status == 200:
        return
    said = _said(refusal_in(response))
    detail = f": {said}" if said else ""
    if status == 401:
        raise Unauthorised(f"the provider refused the key in MASSIVE_API_KEY (401){detail}")
    if status == 403:
        raise NotEntitled(f"the plan doesn't include this data (403){detail}")
    refuse_otherwise(response, said)


def refuse_status(status: str) -> None:
    """Refuse an answer that says in its body that it is none.

    Raises
    ------
    ProviderError
        If its status is neither OK nor DELAYED.
    """
    if status not in _DATA:
        raise ProviderError(f"the provider answered with status {status!r}")


def refuse_said(response: Response) -> None:
    """Raise the outcome that the body of an answer with status 200 names, if it names one.

    Its words decide, as the HTTP status would have: seen were rate limits and refusals.
    """
    refusal = refusal_in(response)
    if refusal.status in {*_DATA, ""}:
        return
    said = _said(refusal)
    detail = f": {said}" if said else ""
    if _SLOW_DOWN.search(detail):
        wait_s = retry_after_s(response.headers)
        raise RateLimited(f"the provider asked to slow down (in a 200){detail}", wait_s)
    if refusal.status == "NOT_AUTHORIZED":
        raise NotEntitled(f"the plan doesn't include this data (in a 200){detail}")
    if _KEY.search(detail):
        raise Unauthorised(f"the provider refused the key in MASSIVE_API_KEY (in a 200){detail}")
    raise ProviderError(f"the provider answered with status {refusal.status!r}{detail}")


def _said(refusal: Refusal) -> str:
    return (refusal.message or refusal.error).strip()
