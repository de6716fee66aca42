"""A table that is full: minutes of many pairs, made where they are stored."""

from typing import Final

from bench.workload import END

# Pairs with minutes without a gap, as a run would have left them.
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
        SELECT id, 'm1', 'massive', 'sip', 'raw', tstzmultirange(tstzrange(starts, ends)), starts,
            starts, ends - interval '1 minute'
        FROM made, {span}
        RETURNING symbol_id
    )
    INSERT INTO ohlc_bars (symbol_id, timeframe, ts, open, high, low, close, volume, vwap)
    SELECT symbol_id, 'm1', at, p, p + 0.07, p - 0.06, p + 0.01, round(1e4 * p) / 7, p + 0.003
    FROM known, {span}, generate_series(starts, ends - interval '1 minute', '1 minute') AS at,
        LATERAL (SELECT round((90 + 10 * sin(extract(epoch FROM at) / 7e4))::numeric, 4)) AS x (p)
    ORDER BY symbol_id, at
"""


def filling(symbols: int, bars: int) -> str:
    """Return the statement that fills in so many pairs, ``X:L10USD`` first, of so many bars each.

    They end where every series of the benchmark does.
    """
    span = (
        f"(SELECT timestamptz '{END.isoformat()}' - {bars} * interval '1 minute' AS starts, "
        f"timestamptz '{END.isoformat()}' AS ends) AS span"
    )
    return _FILL.format(symbols=symbols, span=span)
