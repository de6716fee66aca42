"""A signal that ends waits: also those that would have been over at once."""

import pytest

from backfill.errors import Stopped
from backfill.fetch.stop import StopSignal


@pytest.mark.parametrize("is_branch", [False, True])
async def test_nothing_runs_any_more_once_it_is_set(is_branch: bool) -> None:
    whole = StopSignal()
    stop = whole.branch() if is_branch else whole
    ran = []

    async def quick() -> str:
        ran.append("quick")
        return "done"

    assert await stop.unless_set(quick()) == "done"
    whole.set(Stopped("--deadline is over"))

    with pytest.raises(Stopped, match="--deadline is over"):
        await stop.unless_set(quick())
    assert ran == ["quick"]
