-- Splits and dividends: what is listed, when it was last asked for, and the adjusted view.
-- Plain SQL, safe to run again, like the file before it.

ALTER TABLE splits
    ADD COLUMN IF NOT EXISTS tested boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN splits.status IS
    'applied: the adjusted view counts it; announced: its day is still ahead; '
    'contradicted: the raw prices around it say that it did not happen; '
    'duplicate: the same split is listed for another day near it';
COMMENT ON COLUMN splits.tested IS 'whether raw daily bars around it have decided the status';

-- A split-adjusted series is on the share basis of the day it was asked for.
ALTER TABLE backfill_progress
    ADD COLUMN IF NOT EXISTS loaded_at timestamptz;
COMMENT ON COLUMN backfill_progress.loaded_at IS
    'the run''s clock when its first page was stored; null: not known';

CREATE TABLE IF NOT EXISTS dividends (
    ticker text NOT NULL,
    ex_dividend_date date NOT NULL,
    dividend_type text NOT NULL,
    cash_amount double precision NOT NULL
        CHECK (cash_amount > 0 AND cash_amount < 'Infinity'),
    currency text NOT NULL,
    pay_date date,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (ticker, ex_dividend_date, dividend_type, cash_amount)
);
COMMENT ON COLUMN dividends.cash_amount IS 'per share of that day, before later splits';
COMMENT ON COLUMN dividends.seen_at IS 'the run''s clock when it was last listed';
CREATE INDEX IF NOT EXISTS dividends_day ON dividends (ex_dividend_date);

CREATE TABLE IF NOT EXISTS action_syncs (
    provider text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('splits', 'dividends')),
    session date NOT NULL,
    listed_since date,
    next_from date,
    synced_at timestamptz,
    PRIMARY KEY (provider, kind)
);
COMMENT ON COLUMN action_syncs.session IS 'the newest final session for which it was asked';
COMMENT ON COLUMN action_syncs.listed_since IS 'the day from which on everything was listed';
COMMENT ON COLUMN action_syncs.next_from IS 'the day from which on the next listing is asked for';
COMMENT ON COLUMN action_syncs.synced_at IS 'the run''s clock when a listing last came to its end';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['dividends', 'action_syncs'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO backfill_runner', name);
            IF NOT EXISTS (
                SELECT FROM pg_policies
                WHERE schemaname = current_schema() AND tablename = name
                    AND policyname = 'backfill_runner'
            ) THEN
                EXECUTE format(
                    'CREATE POLICY backfill_runner ON %I TO backfill_runner '
                    'USING (true) WITH CHECK (true)', name
                );
            END IF;
        END IF;
    END LOOP;
END
$$;

-- When a day begins where a calendar's exchange is.
CREATE OR REPLACE FUNCTION backfill_midnight(day date, calendar text) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT day::timestamp AT TIME ZONE CASE calendar WHEN 'XNYS' THEN 'America/New_York' ELSE 'UTC' END
$$;

-- An exact product: exp(sum(ln(x))) is off by more than the last bit.
CREATE OR REPLACE AGGREGATE backfill_product(double precision) (
    SFUNC = float8mul, STYPE = double precision, INITCOND = '1'
);

-- The spans of time between a symbol's splits and dividends. split_factor: how many of today's
-- shares one share was; dividend_factor: what share of its price was not paid out since, null where
-- the price before a dividend is not stored. After the last of them there is no row: both are 1.
-- Partitioned by symbol_id, so that a query for one symbol reads that symbol's rows only.
CREATE OR REPLACE VIEW adjustment_factors AS
WITH events AS (
    SELECT s.id AS symbol_id, backfill_midnight(p.execution_date, s.calendar) AS at,
        p.split_to, p.split_from, 1::double precision AS kept
    FROM symbols AS s
    JOIN splits AS p ON p.ticker = s.ticker
    WHERE p.status = 'applied'
    UNION ALL
    SELECT s.id, backfill_midnight(d.ex_dividend_date, s.calendar), 1, 1,
        CASE WHEN d.cash_amount < b.close THEN 1 - d.cash_amount / b.close END
    FROM symbols AS s
    JOIN (
        SELECT ticker, ex_dividend_date, sum(cash_amount) AS cash_amount
        FROM dividends
        WHERE currency = 'USD'
        GROUP BY ticker, ex_dividend_date
    ) AS d ON d.ticker = s.ticker
    LEFT JOIN backfill_progress AS p
        ON p.symbol_id = s.id AND p.timeframe = 'd1' AND p.adjustment = 'raw'
    LEFT JOIN LATERAL (
        SELECT close
        FROM ohlc_bars
        WHERE symbol_id = p.symbol_id AND timeframe = 'd1'
            AND ts < backfill_midnight(d.ex_dividend_date, s.calendar)
            AND ts >= backfill_midnight(d.ex_dividend_date - 10, s.calendar)
        ORDER BY ts DESC
        LIMIT 1
    ) AS b ON true
    -- One that is declared for a day to come has not been paid out of any price yet.
    WHERE p.newest_bar IS NULL
        OR p.newest_bar >= backfill_midnight(d.ex_dividend_date, s.calendar)
)
SELECT DISTINCT ON (symbol_id, at)
    symbol_id,
    coalesce(lag(at) OVER (PARTITION BY symbol_id ORDER BY at), '-infinity') AS starts,
    at AS ends,
    backfill_product(split_to) OVER later / backfill_product(split_from) OVER later AS split_factor,
    CASE WHEN count(*) OVER later = count(kept) OVER later
        THEN backfill_product(kept) OVER later END AS dividend_factor
FROM events
WINDOW later AS (PARTITION BY symbol_id ORDER BY at DESC)
ORDER BY symbol_id, at, starts;

-- The columns of ohlc_bars; then prices as if every dividend had been invested again, null where
-- they can't be told, and everywhere until dividends have been listed to the end once. Raw series only: any other comes as it is stored. A week or a month in which
-- a split fell counts as before it, as it started there.
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
    ON f.symbol_id = b.symbol_id AND p.symbol_id IS NOT NULL AND f.starts <= b.ts AND b.ts < f.ends
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

-- With the rights of who asks, where Postgres has that (15); before, only the runner may ask.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['adjustment_factors', 'ohlc_bars_adjusted'] LOOP
        IF current_setting('server_version_num')::integer >= 150000 THEN
            EXECUTE format('ALTER VIEW %I SET (security_invoker = true)', name);
        ELSE
            EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', name);
        END IF;
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
            EXECUTE format('GRANT SELECT ON %I TO backfill_runner', name);
        END IF;
    END LOOP;
END
$$;
