"""The breaker: tells a provider that is down, or refuses this place, from a symbol that fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from backfill.errors import GeoBlocked, ProviderDown
from backfill.fetch.stop import StopSignal

ASKERS: Final = 3
PROBES: Final = 3
FIRST_WAIT_S: Final = 1.0


class Breaker:
    """Opens when the latest attempts of three series failed with no good answer between (R17).

    Where the run asks for several ``symbols``, those must be series of two at least: one that
    fails in every timeframe says nothing of the provider.

    A failure is a transport error, a 5xx or an unreadable body. While suspicion lasts, attempts go
    out one at a time, each after a doubled wait; any good answer clears it, and after three such
    probes that fail too the breaker is open for good: nothing more is sent.

    Of a provider that ``refuses_places`` one attempt goes at a time until one is answered; where
    that is refused for its place, so is all that follows, unsent.
    """

    def __init__(self, stop: StopSignal, symbols: int = 1, *, refuses_places: bool = False) -> None:
        self._stop = stop
        self._symbols = symbols
        self._is_unheard = refuses_places
        self._barred: str | None = None
        self._failing: set[str] = set()
        self._probes = 0
        self._probing = asyncio.Lock()

    @asynccontextmanager
    async def passage(self) -> AsyncIterator[None]:
        """Let an attempt through: at once, or as the next probe.

        Raises
        ------
        ProviderDown
            If the breaker is open.
        GeoBlocked
            If the provider has refused a call for where it came from.
        """
        if not self._suspicious and not self._is_unheard:
            yield
            return
        async with self._probing:
            if self._barred is not None:
                raise GeoBlocked(self._barred)
            if not self._suspicious:
                yield
                return
            if self._probes == PROBES:
                raise ProviderDown(
                    f"the provider is down: {len(self._failing)} series and {PROBES} probes failed"
                )
            await self._stop.sleep(FIRST_WAIT_S * 2**self._probes)
            self._probes += 1
            yield

    def succeeded(self) -> None:
        """Note a good answer: the provider is up."""
        self._is_unheard = False
        self._failing.clear()
        self._probes = 0

    def refused(self, asker: str) -> None:
        """Note an attempt that failed for the series' own reason (4xx)."""
        self._is_unheard = False
        self._failing.discard(asker)

    def barred(self, error: GeoBlocked) -> None:
        """Note that the provider refuses where the calls come from."""
        self._barred = str(error)

    def failed(self, asker: str) -> None:
        """Note a failed attempt of a series, which is named by its symbol and its timeframe."""
        self._failing.add(asker)

    @property
    def _suspicious(self) -> bool:
        symbols = {asker.partition(" ")[0] for asker in self._failing}
        return len(self._failing) >= ASKERS and (len(symbols) > 1 or self._symbols == 1)
