-- The life of a symbol: the names it had, whose its ticker is by now, and symbols set aside for
-- that. Plain SQL, safe to run again: every statement looks first.

ALTER TABLE symbols
    ADD COLUMN IF NOT EXISTS successor_figi text,
    ADD COLUMN IF NOT EXISTS successor_listed_on date,
    ADD COLUMN IF NOT EXISTS retired_on date,
    ADD COLUMN IF NOT EXISTS spelling text GENERATED ALWAYS AS (
        CASE WHEN ticker LIKE '%/%' THEN 'X:' || replace(ticker, '/', '') ELSE ticker END
    ) STORED;
COMMENT ON COLUMN symbols.successor_figi IS
    'the company to which the ticker belongs by now, if that is another; its series are refused';
COMMENT ON COLUMN symbols.retired_on IS
    'when it was set aside under a dated name (TICKER@YYYY-MM-DD); nothing more is fetched';
COMMENT ON COLUMN symbols.spelling IS 'the same for every way to write a pair: BTC/USD, X:BTCUSD';

-- Where both spellings were registered before, each stays what it is.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM symbols GROUP BY spelling HAVING count(*) > 1) THEN
        CREATE UNIQUE INDEX IF NOT EXISTS symbols_spelling ON symbols (spelling);
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
        CREATE TABLE IF NOT EXISTS symbol_aliases (
            symbol_id %s NOT NULL REFERENCES symbols (id) ON DELETE CASCADE,
            ticker text NOT NULL,
            valid_from date NOT NULL,
            valid_until date NOT NULL,
            PRIMARY KEY (symbol_id, valid_from),
            CHECK (valid_from < valid_until)
        )
    $table$, id_type);
END
$$;
CREATE INDEX IF NOT EXISTS symbol_aliases_ticker ON symbol_aliases (ticker);
COMMENT ON TABLE symbol_aliases IS
    'the symbol traded under ticker from valid_from to before valid_until; days of its exchange';

-- The list of all tickers is read like splits and dividends, but by ticker, not by day.
ALTER TABLE action_syncs DROP CONSTRAINT IF EXISTS action_syncs_kind_check;
ALTER TABLE action_syncs
    ADD CONSTRAINT action_syncs_kind_check CHECK (kind IN ('splits', 'dividends', 'tickers')),
    ADD COLUMN IF NOT EXISTS next_ticker text;
COMMENT ON COLUMN action_syncs.next_ticker IS
    'where the list of tickers goes on; null: it was read to its end';

-- Every name that a symbol had, and when: what is known of a ticker, such as a split, is of the
-- symbol that had the name that day. A retired symbol has its former names only.
CREATE OR REPLACE VIEW symbol_names AS
SELECT s.id AS symbol_id, s.calendar, a.ticker, a.valid_from, a.valid_until
FROM symbols AS s
JOIN symbol_aliases AS a ON a.symbol_id = s.id
UNION ALL
SELECT s.id, s.calendar, s.ticker,
    coalesce(
        (SELECT max(a.valid_until) FROM symbol_aliases AS a WHERE a.symbol_id = s.id),
        s.listed_on,
        '-infinity'
    ),
    'infinity'
FROM symbols AS s
WHERE s.retired_on IS NULL;

-- As before, but for the names.
CREATE OR REPLACE VIEW adjustment_factors AS
WITH events AS (
    SELECT n.symbol_id, backfill_midnight(p.execution_date, n.calendar) AS at,
        p.split_to, p.split_from, 1::double precision AS kept
    FROM symbol_names AS n
    JOIN splits AS p
        ON p.ticker = n.ticker
        AND p.execution_date >= n.valid_from AND p.execution_date < n.valid_until
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
    ALTER TABLE symbol_aliases ENABLE ROW LEVEL SECURITY;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON symbol_aliases TO backfill_runner;
        IF NOT EXISTS (
            SELECT FROM pg_policies
            WHERE schemaname = current_schema() AND tablename = 'symbol_aliases'
                AND policyname = 'backfill_runner'
        ) THEN
            CREATE POLICY backfill_runner ON symbol_aliases TO backfill_runner
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
