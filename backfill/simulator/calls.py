"""What the simulator remembers of a request."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal["bars", "lookup"]


@dataclass(slots=True)
class Call:
    """One request as the server saw it.

    ``at_s`` is its monotonic time of arrival, which the quota counts by. The key is not kept.
    ``status`` is the status sent, None for none; ``fault`` the action that was injected.
    """

    at_s: float
    at: datetime
    method: str
    path: str
    query: dict[str, str]
    kind: Kind
    status: int | None = None
    fault: str | None = None
