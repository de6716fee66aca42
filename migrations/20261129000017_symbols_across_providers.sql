-- Symbols across providers: how each spells a symbol, and other venues' bars of one instrument.
-- Plain SQL, safe to run again: every statement looks first, or replaces.

-- What the guard does not know by name is looked for here.
DO $$
BEGIN
    IF to_regclass('provider_symbols') IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('provider_symbols') AND attname = 'spelling'
    ) THEN
        RAISE EXCEPTION USING MESSAGE = format(
            'the schema %I holds what backfill did not make: provider_symbols; nothing was changed',
            current_schema()
        );
    END IF;
END
$$;

DO $$
DECLARE
    id_type text := (
        SELECT format_type(atttypid, atttypmod)
        FROM pg_attribute
        WHERE attrelid = 'symbols'::regclass AND attname = 'id'
    );
BEGIN
    EXECUTE format($table$
        ALTER TABLE symbols
            ADD COLUMN IF NOT EXISTS listing_of %1$s REFERENCES symbols (id);
        CREATE TABLE IF NOT EXISTS provider_symbols (
            symbol_id %1$s NOT NULL REFERENCES symbols (id) ON DELETE CASCADE,
            provider text NOT NULL,
            spelling text NOT NULL,
            PRIMARY KEY (symbol_id, provider),
            UNIQUE (provider, spelling)
        )
    $table$, id_type);
END
$$;
CREATE INDEX IF NOT EXISTS symbols_listing_of ON symbols (listing_of)
    WHERE listing_of IS NOT NULL;
COMMENT ON COLUMN symbols.listing_of IS
    'the plain symbol of which this is another venue''s (TICKER@provider): the same instrument, '
    'whose names and splits it shares; null: it is plain';
COMMENT ON TABLE provider_symbols IS
    'how a provider that is asked for a symbol spells it; no two symbols share one spelling of it';

-- Lists of splits and dividends have dots where some write dashes: BRK.B, BRK-B.
CREATE INDEX IF NOT EXISTS symbols_listed_as ON symbols (replace(ticker::text, '-', '.'));

-- As before, but under the names that lists have, and for another venue's under the plain symbol's.
CREATE OR REPLACE VIEW symbol_names AS
SELECT s.id AS symbol_id, s.calendar, replace(a.ticker::text, '-', '.') AS ticker, a.valid_from,
    a.valid_until
FROM symbols AS s
JOIN symbol_aliases AS a ON a.symbol_id = s.id
WHERE s.listing_of IS NULL
UNION ALL
SELECT s.id, s.calendar, replace(s.ticker::text, '-', '.'),
    coalesce(
        (SELECT max(a.valid_until) FROM symbol_aliases AS a WHERE a.symbol_id = s.id),
        s.listed_on,
        '-infinity'
    ),
    'infinity'
FROM symbols AS s
WHERE s.retired_on IS NULL AND s.listing_of IS NULL
UNION ALL
SELECT s.id, s.calendar, replace(a.ticker::text, '-', '.'), a.valid_from, a.valid_until
FROM symbols AS s
JOIN symbol_aliases AS a ON a.symbol_id = s.listing_of
UNION ALL
SELECT s.id, s.calendar, replace(p.ticker::text, '-', '.'),
    coalesce(
        (SELECT max(a.valid_until) FROM symbol_aliases AS a WHERE a.symbol_id = p.id),
        p.listed_on,
        '-infinity'
    ),
    'infinity'
FROM symbols AS s
JOIN symbols AS p ON p.id = s.listing_of
WHERE p.retired_on IS NULL;

-- As before, but that a split which somebody's prices show to be a symbol's is its venues', too.
CREATE OR REPLACE VIEW adjustment_factors AS
WITH events AS (
    SELECT n.symbol_id, backfill_midnight(p.execution_date, n.calendar) AS at,
        p.split_to, p.split_from, 1::double precision AS kept
    FROM symbol_names AS n
    JOIN splits AS p
        ON p.ticker = n.ticker
        AND p.execution_date >= n.valid_from AND p.execution_date < n.valid_until
    WHERE p.status = 'applied' AND p.symbol_id IS NULL
    UNION ALL
    SELECT s.id, backfill_midnight(p.execution_date, s.calendar), p.split_to, p.split_from, 1
    FROM symbols AS s
    JOIN splits AS p ON p.symbol_id = coalesce(s.listing_of, s.id)
    WHERE p.status = 'applied'
    UNION ALL
    SELECT n.symbol_id, backfill_midnight(d.ex_dividend_date, n.calendar), 1, 1,
        CASE WHEN d.cash_amount < b.close THEN 1 - d.cash_amount / b.close END
    FROM symbol_names AS n
    JOIN (
        SELECT ticker, ex_dividend_date, sum(cash_amount) AS cash_amount
        FROM dividends
        WHERE currency = 'USD'
        GROUP BY ticker, ex_dividend_date
    ) AS d
        ON d.ticker = n.ticker
        AND d.ex_dividend_date >= n.valid_from AND d.ex_dividend_date < n.valid_until
    LEFT JOIN backfill_progress AS p
        ON p.symbol_id = n.symbol_id AND p.timeframe = 'd1' AND p.adjustment = 'raw'
    LEFT JOIN LATERAL (
        SELECT close
        FROM ohlc_bars
        WHERE symbol_id = p.symbol_id AND timeframe = 'd1'
            AND ts < backfill_midnight(d.ex_dividend_date, n.calendar)
            AND ts >= backfill_midnight(d.ex_dividend_date - 10, n.calendar)
        ORDER BY ts DESC
        LIMIT 1
    ) AS b ON true
    -- One that is declared for a day to come has not been paid out of any price yet.
    WHERE p.newest_bar IS NULL
        OR p.newest_bar >= backfill_midnight(d.ex_dividend_date, n.calendar)
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

-- Row-level security as everywhere; a view that is replaced has lost the rights of who asks.
DO $$
DECLARE
    name text;
BEGIN
    ALTER TABLE provider_symbols ENABLE ROW LEVEL SECURITY;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON provider_symbols TO backfill_runner;
        IF NOT EXISTS (
            SELECT FROM pg_policies
            WHERE schemaname = current_schema() AND tablename = 'provider_symbols'
                AND policyname = 'backfill_runner'
        ) THEN
            CREATE POLICY backfill_runner ON provider_symbols TO backfill_runner
                USING (true) WITH CHECK (true);
        END IF;
    END IF;
    FOREACH name IN ARRAY ARRAY['symbol_names', 'adjustment_factors'] LOOP
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
