"""A table that is full: minutes or days of many pairs, made where they are stored."""

from typing import Final

from bench.workload import END

_LENGTHS: Final = {"m1": "1 minute", "d1": "1 day"}
# Pairs with bars without a gap, as a run would have left them.
_FILL: Final = """
    WITH made AS (
        INSERT INTO symbols (ticker, asset_type, calendar, confirmed_at)
        SELECT 'X:L' || n || 'USD', 'crypto', '24/7', now()
        FROM generate_series(10, {symbols} + 9) AS n
        RETURNING id
    ),
    known AS (
        INSERT INTO backfill_progress (
            symbol_id, timeframe, provider, feed, adjustment, coverage, wanted_from, oldest_bar,
            newest_bar
        )
        SELECT id, '{timeframe}', 'massive', 'sip', 'raw',
            tstzmultirange(tstzrange(starts, ends)), starts, starts, ends - interval '{length}'
        FROM made, {span}
        RETURNING symbol_id
    )
    INSERT INTO ohlc_bars (symbol_id, timeframe, ts, open, high, low, close, volume, vwap)
    SELECT symbol_id, '{timeframe}', at, p, p + 0.07, p - 0.06, p + 0.01, round(1e4 * p) / 7,
        p + 0.003
    FROM known, {span}, generate_series(starts, ends - interval '{length}', '{length}') AS at,
        LATERAL (SELECT round((90 + 10 * sin(extract(epoch FROM at) / 7e4))::numeric, 4)) AS x (p)
    ORDER BY symbol_id, at
"""


def filling(symbols: int, bars: int, timeframe: str = "m1") -> str:
    """Return the statement that fills in so many pairs, ``X:L10USD`` first, of so many bars each.

    They end where every series of the benchmark does.
    """
    length = _LENGTHS[timeframe]
    span = (
        f"(SELECT timestamptz '{END.isoformat()}' - {bars} * interval '{length}' AS starts, "
        f"timestamptz '{END.isoformat()}' AS ends) AS span"
    )
    return _FILL.format(symbols=symbols, span=span, timeframe=timeframe, length=length)
