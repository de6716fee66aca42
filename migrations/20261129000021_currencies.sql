-- Currencies and their calendar, FX: a trade date begins at 17:00 in New York, on the evening before
-- it. Plain SQL, safe to run again: every statement looks first.

-- When a day begins by the clock of a calendar's exchange. That of FX is New York's, seven hours
-- ahead, so that its midnight is the roll at 17:00.
CREATE OR REPLACE FUNCTION backfill_midnight(day date, calendar text) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT CASE calendar
        WHEN 'XNYS' THEN day::timestamp AT TIME ZONE 'America/New_York'
        WHEN 'FX' THEN (day::timestamp - interval '7 hours') AT TIME ZONE 'America/New_York'
        ELSE day::timestamp AT TIME ZONE 'UTC'
    END
$$;

-- As before, but for the clock of FX: an evening in New York is of the trade date that follows.
CREATE OR REPLACE VIEW ohlc_bars_regular AS
SELECT
    b.symbol_id, b.timeframe, b.ts, b.open, b.high, b.low, b.close, b.volume, b.vwap, b.trade_count
FROM ohlc_bars AS b
LEFT JOIN symbols AS s ON s.id = b.symbol_id
LEFT JOIN market_sessions AS m
    ON m.calendar = s.calendar
    AND m.session = (
        CASE s.calendar WHEN 'FX' THEN b.ts + interval '7 hours' ELSE b.ts END
            AT TIME ZONE CASE s.calendar WHEN '24/7' THEN 'UTC' ELSE 'America/New_York' END
    )::date
    AND b.ts < m.closes_at
    AND b.ts + CASE b.timeframe
        WHEN 'm1' THEN interval '1 minute'
        WHEN 'm5' THEN interval '5 minutes'
        WHEN 'm15' THEN interval '15 minutes'
        WHEN 'm30' THEN interval '30 minutes'
        WHEN 'h1' THEN interval '1 hour'
        WHEN 'h4' THEN interval '4 hours'
    END > m.opens_at
WHERE b.timeframe IN ('d1', 'w1', 'mn1') OR m.session IS NOT NULL;

DO $$
DECLARE
    kind regtype := (
        SELECT a.atttypid
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid AND t.typtype = 'e'
        WHERE a.attrelid = to_regclass('symbols') AND a.attname = 'asset_type'
    );
BEGIN
    -- A view that is replaced loses whose rights it asks with.
    IF current_setting('server_version_num')::integer >= 150000 THEN
        ALTER VIEW ohlc_bars_regular SET (security_invoker = true);
    END IF;
    -- FX trades without a break: no feed has hours beyond its session.
    IF NOT EXISTS (
        SELECT FROM pg_constraint
        WHERE conrelid = 'market_hours'::regclass AND conname = 'market_hours_currencies'
    ) THEN
        ALTER TABLE market_hours
            ADD CONSTRAINT market_hours_currencies CHECK (calendar <> 'FX');
    END IF;
    -- Tables that were adopted may have asset types of their own.
    IF kind IS NOT NULL THEN
        BEGIN
            EXECUTE format('ALTER TYPE %s ADD VALUE IF NOT EXISTS ''fx''', kind);
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'the type % has no fx, and isn''t yours: no currencies are kept', kind;
        END;
    END IF;
END
$$;
