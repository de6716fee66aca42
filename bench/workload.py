"""What is loaded: minutes of a few crypto pairs, exactly as many bars as asked for."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

NOW: Final = datetime(2026, 3, 10, 12, tzinfo=UTC)
"""The clock of the provider and of every run."""

END: Final = datetime(2026, 3, 10, tzinfo=UTC)
"""Where every series ends: far enough back that each of its bars is final."""

KEY: Final = "bench-key"
PAGE_LIMIT: Final = 50_000
MARKET_TICKER: Final = "X:BTCUSD"
"""The pair of the simulated market whose minutes are served: it trades in each of them."""


@dataclass(frozen=True, slots=True)
class Load:
    """The minutes of one ticker in ``[start_ms, end_ms)``, epoch ms, whole minutes."""

    ticker: str
    start_ms: int
    end_ms: int

    @property
    def path(self) -> str:
        """The path of the first request for it; both bounds are inclusive there."""
        return f"/v2/aggs/ticker/{self.ticker}/range/1/minute/{self.start_ms}/{self.end_ms - 1}"

    @property
    def parameters(self) -> dict[str, str]:
        """The query of the first request for it."""
        return {"adjusted": "false", "limit": str(PAGE_LIMIT), "sort": "desc"}

    @property
    def target(self) -> str:
        """Path and query of the first request, as `target_of` writes them."""
        return target_of(f"{self.path}?{urlencode(self.parameters)}")

    @property
    def start(self) -> datetime:
        """Where it begins."""
        return datetime.fromtimestamp(self.start_ms / 1000, UTC)

    @property
    def end(self) -> datetime:
        """Where it ends."""
        return datetime.fromtimestamp(self.end_ms / 1000, UTC)


def workload(bars: int, series: int) -> tuple[Load, ...]:
    """Return loads of ``bars`` in all, spread evenly over ``series`` tickers."""
    start = END - timedelta(minutes=bars // series)
    return tuple(_load(f"X:B{number:02}USD", start) for number in range(series))


def probe(bars: int) -> tuple[Load, ...]:
    """Return a load of a ticker that no workload holds."""
    return (_load("X:P00USD", END - timedelta(minutes=bars)),)


def bars_in(loads: tuple[Load, ...]) -> int:
    """Return how many bars loads hold."""
    return sum(load.end_ms - load.start_ms for load in loads) // 60_000


def target_of(url: str) -> str:
    """Return path and query of an address, the parameters in order and the key left out."""
    parts = urlsplit(url)
    query = sorted((name, text) for name, text in parse_qsl(parts.query) if name != "apiKey")
    return f"{parts.path}?{urlencode(query)}"


def settings_for(database: str, provider: str) -> dict[str, str]:
    """Return the environment of a command that loads from a provider's URL into a database's."""
    return {
        "DATABASE_URL": database,
        "MASSIVE_API_KEY": KEY,
        "BACKFILL_PROVIDER_URL": provider,
        "BACKFILL_PLAN": "unlimited",
        "BACKFILL_LOG": "json",
    }


def _load(ticker: str, start: datetime) -> Load:
    return Load(ticker, *(round(at.timestamp() * 1000) for at in (start, END)))
