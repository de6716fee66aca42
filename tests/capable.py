"""A provider's capabilities, for tests of the core: everything is native."""

from typing import Final

from backfill.core.capabilities import ALL, Capabilities
from backfill.core.pages import BaseAggregates, PageLaw

LAW: Final = BaseAggregates(50_000)


def capable(feed: str = "test", *, pages: PageLaw = LAW, fills_empty: bool = False) -> Capabilities:
    """Return what a provider has that serves everything as it is."""
    native = {"stock": ALL, "crypto": ALL}
    return Capabilities(feed, native, ("raw", "split"), pages, fills_empty)
