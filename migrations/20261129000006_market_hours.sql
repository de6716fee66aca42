-- When a feed trades beyond the regular session: hours by calendar, feed and session, the night of
-- some feeds among them. Plain SQL, safe to run again: every statement looks first.

CREATE TABLE IF NOT EXISTS market_hours (
    calendar text NOT NULL,
    feed text NOT NULL,
    first_session date NOT NULL DEFAULT '-infinity',
    last_session date NOT NULL DEFAULT 'infinity',
    opens time NOT NULL,
    closes time NOT NULL,
    night_opens time,
    manual boolean NOT NULL DEFAULT false,
    PRIMARY KEY (calendar, feed, first_session, last_session, manual),
    -- Bars of four hours are counted from midnight: the one that holds 20:00 begins there, so none
    -- holds trades of two trade dates.
    CONSTRAINT market_hours_times CHECK (
        opens <= closes AND closes <= '20:00' AND night_opens >= '20:00' AND night_opens < '24:00'
    ),
    CONSTRAINT market_hours_sessions CHECK (first_session <= last_session),
    CONSTRAINT market_hours_calendar CHECK (calendar <> '24/7')
);
COMMENT ON TABLE market_hours IS
    'when a feed trades, by the exchange''s clock; without a row in the regular session only';
COMMENT ON COLUMN market_hours.first_session IS
    'of several rows that hold for a session, manual ones win, then later first sessions';
COMMENT ON COLUMN market_hours.night_opens IS
    'when the trade date begins, on the evening before; the night ends at opens. null: no night';
COMMENT ON COLUMN market_hours.manual IS
    'set by hand: it wins over the others, and opens or closes a night';

-- US trades are reported from 04:00 to 20:00. The tapes' own night isn't here: no date is certain.
-- Blue Ocean's feed has nothing but the night.
INSERT INTO market_hours (calendar, feed, opens, closes, night_opens)
VALUES
    ('XNYS', 'sip', '04:00', '20:00', NULL),
    ('XNYS', 'boats', '04:00', '04:00', '20:00')
ON CONFLICT DO NOTHING;

ALTER TABLE backfill_runs ADD COLUMN IF NOT EXISTS bars_ignored bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN backfill_runs.bars_ignored IS
    'bars of the night that came and were not stored, as BACKFILL_NIGHT says';

-- As before, but for the night: its bars are on the share basis of the trade date that follows, and
-- that begins at 20:00, four hours before the midnight at which a factor ends.
CREATE OR REPLACE VIEW ohlc_bars_adjusted AS
SELECT
    b.symbol_id,
    b.timeframe,
    b.ts,
    b.open / a.split AS open,
    b.high / a.split AS high,
    b.low / a.split AS low,
    b.close / a.split AS close,
    b.volume * a.split AS volume,
    b.vwap / a.split AS vwap,
    b.trade_count,
    b.open / a.split * a.dividend AS total_return_open,
    b.high / a.split * a.dividend AS total_return_high,
    b.low / a.split * a.dividend AS total_return_low,
    b.close / a.split * a.dividend AS total_return_close
FROM ohlc_bars AS b
LEFT JOIN backfill_progress AS p
    ON p.symbol_id = b.symbol_id AND p.timeframe = b.timeframe AND p.adjustment = 'raw'
LEFT JOIN adjustment_factors AS f
    ON f.symbol_id = b.symbol_id AND p.symbol_id IS NOT NULL
    AND f.starts <= b.ts + interval '4 hours' AND b.ts + interval '4 hours' < f.ends
CROSS JOIN (
    SELECT EXISTS (
        SELECT FROM action_syncs WHERE kind = 'dividends' AND synced_at IS NOT NULL
    ) AS whole
) AS known
CROSS JOIN LATERAL (
    SELECT
        coalesce(f.split_factor, 1) AS split,
        CASE
            WHEN p.symbol_id IS NULL OR NOT known.whole THEN NULL
            WHEN f.symbol_id IS NULL THEN 1
            ELSE f.dividend_factor
        END AS dividend
) AS a;

-- A view that is replaced loses whose rights it asks with.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        ALTER VIEW ohlc_bars_adjusted SET (security_invoker = true);
    END IF;
    ALTER TABLE market_hours ENABLE ROW LEVEL SECURITY;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON market_hours TO backfill_runner;
        IF NOT EXISTS (
            SELECT FROM pg_policies
            WHERE schemaname = current_schema() AND tablename = 'market_hours'
                AND policyname = 'backfill_runner'
        ) THEN
            CREATE POLICY backfill_runner ON market_hours TO backfill_runner
                USING (true) WITH CHECK (true);
        END IF;
    END IF;
END
$$;
