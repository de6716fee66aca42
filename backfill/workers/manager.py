"""PgQueuer's manager of a worker's jobs, which takes none of a provider that rests."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from pgqueuer import Queries, QueueManager
from pgqueuer.domain.types import QueueEntrypoint

_FULL_POLL: Final = timedelta(seconds=0.25)
"""How often to look while all places are taken, where no notice comes."""


class Manager(QueueManager):
    """Takes jobs by the names of their providers; ``resting`` says from when on, by the loop."""

    def __init__(self, queries: Queries, entrypoints: Iterable[str]) -> None:
        super().__init__(queries, channel=queries.qbe.settings.channel)
        self.min_dequeue_poll_interval = _FULL_POLL
        self.resting: dict[str, float] = dict.fromkeys(entrypoints, 0.0)

    def entrypoints_below_capacity_limits(self) -> set[QueueEntrypoint]:
        """Return the names of whose jobs may be taken now."""
        now_s = asyncio.get_running_loop().time()
        return {QueueEntrypoint(name) for name, at_s in self.resting.items() if at_s <= now_s}
