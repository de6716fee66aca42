-- What reads the tables: the bars of the regular session, what each run changed, and which bars in
-- quarantine were looked at. Plain SQL, safe to run again: every statement looks first.

ALTER TABLE quarantined_bars ADD COLUMN IF NOT EXISTS accepted_at timestamptz;
COMMENT ON COLUMN quarantined_bars.accepted_at IS
    'when somebody looked at it and left it at that; null: still to be dealt with';

DO $$
DECLARE
    id_type text := (
        SELECT format_type(atttypid, atttypmod)
        FROM pg_attribute
        WHERE attrelid = 'symbols'::regclass AND attname = 'id'
    );
BEGIN
    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS backfill_changes (
            run_id uuid NOT NULL,
            symbol_id %s NOT NULL,
            timeframe timeframe NOT NULL,
            range tstzrange NOT NULL,
            inserted bigint NOT NULL,
            updated bigint NOT NULL,
            withdrawn bigint NOT NULL,
            PRIMARY KEY (run_id, symbol_id, timeframe)
        )
    $table$, id_type);
END
$$;
COMMENT ON COLUMN backfill_changes.range IS
    'from the start of the first bar that changed to the start of the last, both inclusive';
COMMENT ON COLUMN backfill_changes.withdrawn IS 'bars that a reload took out of ohlc_bars';

-- Intraday bars whose slot touches the regular hours of a session; d1, w1 and mn1 all. Each
-- calendar's zone says on which session's day a bar lies.
CREATE OR REPLACE VIEW ohlc_bars_regular AS
SELECT
    b.symbol_id, b.timeframe, b.ts, b.open, b.high, b.low, b.close, b.volume, b.vwap, b.trade_count
FROM ohlc_bars AS b
LEFT JOIN symbols AS s ON s.id = b.symbol_id
LEFT JOIN market_sessions AS m
    ON m.calendar = s.calendar
    AND m.session = (
        b.ts AT TIME ZONE CASE s.calendar WHEN '24/7' THEN 'UTC' ELSE 'America/New_York' END
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

-- The row-level security of the tables holds for whoever asks the view, not for its owner.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        ALTER VIEW ohlc_bars_regular SET (security_invoker = true);
    END IF;
    ALTER TABLE backfill_changes ENABLE ROW LEVEL SECURITY;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
        GRANT SELECT ON ohlc_bars_regular TO backfill_runner;
        GRANT SELECT, INSERT, UPDATE, DELETE ON backfill_changes TO backfill_runner;
        IF NOT EXISTS (
            SELECT FROM pg_policies
            WHERE schemaname = current_schema() AND tablename = 'backfill_changes'
                AND policyname = 'backfill_runner'
        ) THEN
            CREATE POLICY backfill_runner ON backfill_changes TO backfill_runner
                USING (true) WITH CHECK (true);
        END IF;
    END IF;
END
$$;
