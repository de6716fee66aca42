"""Work done again that a fault ended which passes: how often, and after what wait.

It is loaded with the first such fault; most commands meet none.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
import tenacity

from backfill.store.faults import passes, said

_T = TypeVar("_T")

log = structlog.stdlib.get_logger()

_WAIT: Final = tenacity.wait_exponential_jitter(multiplier=0.25, max=5.0, jitter=0.25)


async def again_after(fault: BaseException, work: Callable[[], Awaitable[_T]], tries: int) -> _T:
    """Do work again that a passing fault has ended, so often in all.

    The fault that stays is raised as it is.
    """
    met = [fault]

    async def attempt() -> _T:
        if met:
            raise met.pop()
        return await work()

    attempts = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(tries),
        wait=_WAIT,
        retry=tenacity.retry_if_exception(passes),
        before_sleep=_note_retry,
        reraise=True,
    )
    return await attempts(attempt)


def _note_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("database.retry", attempt=state.attempt_number, message=said(error))
