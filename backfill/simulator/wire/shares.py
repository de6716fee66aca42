"""The shares of the simulated market, and their bars, of whoever traded under a ticker when."""

from backfill.core.bars import Bars
from backfill.simulator.market.market import Market
from backfill.simulator.market.prices import roll_up
from backfill.simulator.market.sessions import Grid, sessions_of
from backfill.simulator.wire.base import Ask


def shares_of(market: Market) -> tuple[str, ...]:
    """Return the tickers of the shares of a market."""
    return tuple(one for one in market.tickers if ":" not in one)


def share_bars(
    ask: Ask,
    ticker: str,
    grid: Grid,
    start_ms: int,
    end_ms: int,
    *,
    adjusted: bool,
    regular: bool = False,
) -> Bars:
    """Return the bars that start in a range of whole slots, with the one that still forms.

    With ``regular`` minutes and hours are made of what traded in regular sessions.
    """
    daily, parts = grid.unit != "intraday", []
    for tenure in ask.market.tenures(ticker):
        since_ms = max(start_ms, grid.zone.midnight(tenure.since))
        until_ms = min(end_ms, grid.zone.midnight(tenure.until))
        if since_ms >= until_ms:
            continue
        for base in ask.market.base(
            tenure.company,
            since_ms,
            until_ms,
            daily=daily,
            adjusted=adjusted,
            now_ms=ask.there_until_ms(ticker),
        ):
            there = ask.served(ticker, base)
            if regular and not daily:
                there = there.take(sessions_of("stocks").is_regular(there.ts_ms))
            parts.append(roll_up(there, grid.floor(there.ts_ms))[0])
    return Bars.concat(parts)
