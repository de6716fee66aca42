"""Retries by class of error: which are worth one, how often, and after how long."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import structlog
import tenacity

from backfill.errors import BackfillError, ProviderUnavailable, UnreadableAnswer
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally

_T = TypeVar("_T")

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an answer is waited for, and how often it is asked for again.

    All times in seconds. ``rate_limited_s`` is how long one request may be put off by 429s before
    its series fails; such a wait costs no attempt, and longer than ``longest_pause_s`` nobody is
    held off, whatever the provider asks for. ``body_limit`` is in bytes, decompressed.
    """

    connect_s: float = 5.0
    read_s: float = 20.0
    total_s: float = 60.0
    attempts: int = 4
    backoff_s: float = 0.5
    backoff_max_s: float = 15.0
    rate_limited_s: float = 900.0
    longest_pause_s: float = 86_400.0
    body_limit: int = 64 * 1024 * 1024


DEFAULT_PATIENCE: Final = Patience()


def retrying(
    patience: Patience, stop: StopSignal, tally: Tally
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return what repeats an attempt while its error is worth it, and counts that.

    It is called with the attempt and what that takes. An error that it raises, or waits after,
    holds nothing of the answer that it is about.
    """
    jittered = tenacity.wait_exponential_jitter(
        multiplier=patience.backoff_s, max=patience.backoff_max_s, jitter=patience.backoff_s
    )

    def backoff_s(state: tenacity.RetryCallState) -> float:
        """Return the doubled, capped, jittered wait, or what ``Retry-After`` asks for if longer."""
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, ProviderUnavailable) else None
        return max(jittered(state), min(asked_s or 0.0, patience.rate_limited_s))

    def note(state: tenacity.RetryCallState) -> None:
        tally.retries += 1
        error = state.outcome.exception() if state.outcome else None
        log.warning(
            "fetch.retry",
            attempt=state.attempt_number,
            wait_s=round(state.upcoming_sleep, 3),
            outcome=getattr(error, "outcome", None),
            message=str(error),
        )

    attempts = tenacity.AsyncRetrying(
        sleep=stop.sleep,
        stop=tenacity.stop_after_attempt(patience.attempts),
        wait=backoff_s,
        retry=tenacity.retry_if_exception(_worth_a_retry),
        before_sleep=note,
        reraise=True,
    )
    return partial(attempts, _letting_go)


async def _letting_go(attempt: Callable[..., Awaitable[_T]], *given: Any) -> _T:
    try:
        return await attempt(*given)
    except BackfillError as error:
        error.let_go()
        raise


def _worth_a_retry(error: BaseException) -> bool:
    return isinstance(error, ProviderUnavailable | UnreadableAnswer)
