"""What the simulator remembers of a request."""

from dataclasses import dataclass
from datetime import datetime

from backfill.simulator.wire.base import Kind


@dataclass(slots=True)
class Call:
    """One request as the server saw it. The key is not kept.

    Parameters
    ----------
    at_s, at
        When it arrived, which is what the quota counts by: monotonic seconds, and the real time.
        Of a call that never arrived: when it was stopped.
    status
        The status sent, None for none.
    about
        The market's tickers that it is about; `EVERYBODY` of a call that is about all.
    cost
        What it takes from the quota, in the provider's unit.
    fault
        The action that was injected.
    received_s
        When its head was read from the socket, in monotonic seconds: before its way in.
    head_s
        When the head of its answer was sent, in monotonic seconds; None for none.
    counted
        Whether it arrived; the quota looked at it then.
    over_quota
        Whether the quota refused it: with a 429, unless a gateway had answered before.
    """

    at_s: float
    at: datetime
    method: str
    path: str
    query: dict[str, str]
    kind: Kind
    about: tuple[str, ...] = ()
    cost: int = 1
    status: int | None = None
    fault: str | None = None
    received_s: float = 0.0
    head_s: float | None = None
    counted: bool = True
    over_quota: bool = False
