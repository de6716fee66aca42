-- Which share basis bars of several sources are on: none that may be on another than the first
-- source's is put beside its bars. Plain SQL, safe to run again: every statement looks first, or
-- replaces.

-- The page that stores bars of a series notes when it was asked for.
ALTER TABLE backfill_progress ADD COLUMN IF NOT EXISTS answered_at timestamptz;
COMMENT ON COLUMN backfill_progress.answered_at IS
    'the run''s clock when its latest page was stored; null: not known';
COMMENT ON COLUMN backfill_progress.loaded_at IS
    'the run''s clock when its first page was stored, or when it was last found to be on the share '
    'basis before a split, to be loaded again; null: not known';
UPDATE backfill_progress
SET answered_at = last_updated
WHERE answered_at IS NULL AND provider IS NOT NULL;

-- When the next Monday to Friday begins in New York: no split takes effect before that.
CREATE OR REPLACE FUNCTION backfill_next_weekday(at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT (
        l.day + CASE extract(isodow FROM l.day) WHEN 5 THEN 3 WHEN 6 THEN 2 ELSE 1 END
    )::timestamp AT TIME ZONE 'America/New_York'
    FROM (SELECT (at AT TIME ZONE 'America/New_York')::date) AS l (day)
$$;

-- For a plain symbol of each slot the bar of the first source that has one, with whose it is. The
-- sources are those that hold bars, in their order, as far as they are adjusted as the first of
-- them is: bars that aren't alike are never put side by side, nor is one of which that isn't known.
-- Split-adjusted bars are on the share basis of the day on which they were asked for last. One
-- source stands beside the first only if neither was loaded, or found to be on an old basis, on a
-- later day than the other was asked; while some of a series are to be fetched again, as they are
-- after a split, and of imported bars, of which nobody knows the basis, the first stands alone.
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
            q.answered_at,
            q.loaded_at,
            q.invalidated = '{}' AND q.provider <> 'import' AS is_of_one_day,
            row_number() OVER w AS place,
            first_value(q.adjustment) OVER w AS first_adjustment,
            first_value(q.answered_at) OVER w AS first_answered_at,
            first_value(q.loaded_at) OVER w AS first_loaded_at,
            first_value(q.invalidated = '{}' AND q.provider <> 'import') OVER w
                AS first_is_of_one_day
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
    WHERE h.place = 1 OR h.adjustment = h.first_adjustment AND (
        h.adjustment = 'raw'
        OR h.is_of_one_day AND h.first_is_of_one_day
            AND NOT coalesce(h.loaded_at >= backfill_next_weekday(h.first_answered_at), false)
            AND NOT coalesce(h.first_loaded_at >= backfill_next_weekday(h.answered_at), false)
    )
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
