-- Sources side by side: the bars of a plain symbol and of its listings (TICKER@provider) as one
-- series, of each slot the first. Plain SQL, safe to run again: every statement looks first, or
-- replaces.

-- What the guard does not know by name is looked for here.
DO $$
BEGIN
    IF to_regclass('ohlc_bars_composed') IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('ohlc_bars_composed') AND attname = 'source_symbol'
    ) THEN
        RAISE EXCEPTION USING MESSAGE = format(
            'the schema %I holds what backfill did not make: ohlc_bars_composed; nothing was '
            'changed',
            current_schema()
        );
    END IF;
END
$$;

ALTER TABLE symbols ADD COLUMN IF NOT EXISTS listing_precedence integer;
COMMENT ON COLUMN symbols.listing_precedence IS
    'whose bar ohlc_bars_composed takes of a slot that several of a plain symbol and its listings '
    'have: the lowest; null: after those with a number, the plain one first, then by ticker';

-- For a plain symbol of each slot the bar of the first source that has one, with whose it is. The
-- sources are those that hold bars, in their order, as far as they are adjusted as the first of
-- them is: bars that aren't alike are never put side by side, nor is one of which that isn't known.
-- Split-adjusted bars are on the share basis of the day they were fetched on: while some of a series
-- are to be fetched again, as they are after a split, the first source stands alone.
CREATE OR REPLACE VIEW ohlc_bars_composed AS
SELECT
    s.id AS symbol_id,
    b.timeframe,
    b.ts,
    b.open,
    b.high,
    b.low,
    b.close,
    b.volume,
    b.vwap,
    b.trade_count,
    u.ticker::text AS source_symbol,
    u.provider
FROM symbols AS s
CROSS JOIN unnest(enum_range(NULL::timeframe)) AS t (timeframe)
CROSS JOIN LATERAL (
    SELECT
        h.id,
        h.ticker,
        h.provider,
        array_agg(h.id) OVER (
            ORDER BY h.place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS before
    FROM (
        SELECT
            x.id,
            x.ticker,
            q.provider,
            q.adjustment,
            q.adjustment = 'raw' OR q.invalidated = '{}' AS is_whole,
            row_number() OVER w AS place,
            first_value(q.adjustment) OVER w AS first_adjustment,
            first_value(q.adjustment = 'raw' OR q.invalidated = '{}') OVER w AS first_is_whole
        FROM (
            SELECT id, ticker, listing_precedence FROM symbols WHERE id = s.id
            UNION ALL
            SELECT id, ticker, listing_precedence FROM symbols WHERE listing_of = s.id
        ) AS x
        LEFT JOIN backfill_progress AS q ON q.symbol_id = x.id AND q.timeframe = t.timeframe
        WHERE EXISTS (SELECT FROM ohlc_bars WHERE symbol_id = x.id AND timeframe = t.timeframe)
        WINDOW w AS (
            ORDER BY x.listing_precedence NULLS LAST, x.id <> s.id, x.ticker::text COLLATE "C"
        )
    ) AS h
    WHERE h.place = 1
        OR h.adjustment = h.first_adjustment AND h.is_whole AND h.first_is_whole
) AS u
JOIN ohlc_bars AS b ON b.symbol_id = u.id AND b.timeframe = t.timeframe
WHERE s.listing_of IS NULL
    -- A step of the primary key for each bar of who isn't the first; as NOT EXISTS it would become
    -- a join that reads the whole table.
    AND (
        u.before IS NULL
        OR (
            SELECT true
            FROM ohlc_bars AS o
            WHERE o.symbol_id = ANY (u.before) AND o.timeframe = b.timeframe AND o.ts = b.ts
            LIMIT 1
        ) IS NULL
    );

-- A view that is replaced loses whose rights it asks with.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        ALTER VIEW ohlc_bars_composed SET (security_invoker = true);
    ELSE
        REVOKE ALL ON ohlc_bars_composed FROM PUBLIC;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
        GRANT SELECT ON ohlc_bars_composed TO backfill_runner;
    END IF;
END
$$;
