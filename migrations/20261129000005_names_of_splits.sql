-- Splits under every name that a company has had, and those that somebody set by hand; and what the
-- bars say of a listing date.
-- Plain SQL, safe to run again: every statement looks first, or replaces.

DO $$
DECLARE
    id_type text := (
        SELECT format_type(atttypid, atttypmod)
        FROM pg_attribute
        WHERE attrelid = 'symbols'::regclass AND attname = 'id'
    );
BEGIN
    EXECUTE format($table$
        ALTER TABLE splits
            ADD COLUMN IF NOT EXISTS manual boolean NOT NULL DEFAULT false,
            ADD COLUMN IF NOT EXISTS symbol_id %s
    $table$, id_type);
END
$$;
CREATE INDEX IF NOT EXISTS splits_symbol ON splits (symbol_id) WHERE symbol_id IS NOT NULL;
COMMENT ON COLUMN splits.manual IS 'set by hand, and never overwritten by a listing';
COMMENT ON COLUMN splits.symbol_id IS
    'whose split it is, where that is not who had the ticker on its day; null: that one''s';
COMMENT ON COLUMN splits.status IS
    'applied: the adjusted view counts it; announced: its day is still ahead; '
    'contradicted: the raw prices around it say that it did not happen; '
    'duplicate: the same split is listed for another day near it, or under another name; '
    'unproven: its company had another name that day, and no price shows that it was its; '
    'dropped: somebody has said that there was none';

ALTER TABLE symbols ADD COLUMN IF NOT EXISTS names_manual boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN symbols.names_manual IS
    'its former names were set by hand: the provider''s events change them no longer';

-- Whether the life of a symbol begins where the reference says, as far as its bars tell.
ALTER TABLE symbols
    ADD COLUMN IF NOT EXISTS listing_verdict text
        CHECK (listing_verdict IN ('agreed', 'cut', 'doubted')),
    ADD COLUMN IF NOT EXISTS reference_listed_on date,
    ADD COLUMN IF NOT EXISTS bars_asked_since date;
COMMENT ON COLUMN symbols.listing_verdict IS
    'agreed: no bar is older than the listing; cut: older ones are another company''s, and are not '
    'kept; doubted: older ones are the same company''s; null: no answer reached so far back';
COMMENT ON COLUMN symbols.reference_listed_on IS 'the listing date that the reference tells';
COMMENT ON COLUMN symbols.bars_asked_since IS
    'where the listing is doubted: how far back was asked for the bars from before it';
UPDATE symbols
SET reference_listed_on = listed_on
WHERE reference_listed_on IS NULL AND listed_on IS NOT NULL;
-- Who took over the ticker of a retired symbol begins after it.
UPDATE symbols AS s
SET listing_verdict = 'cut'
WHERE s.listing_verdict IS NULL AND s.listed_on IS NOT NULL AND s.retired_on IS NULL
    AND EXISTS (
        SELECT
        FROM symbol_aliases AS a
        JOIN symbols AS r ON r.id = a.symbol_id
        WHERE a.ticker = s.ticker AND r.retired_on IS NOT NULL
    );

-- A listing of splits begins anew with each session: the next asks for all of them.
UPDATE action_syncs
SET next_from = NULL
WHERE kind = 'splits' AND synced_at IS NOT NULL AND next_from IS NOT NULL;

-- As before, but for splits of which the prices, or somebody, say whose they are.
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
    JOIN splits AS p ON p.symbol_id = s.id
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

-- A view that is replaced has lost the rights of who asks.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        ALTER VIEW adjustment_factors SET (security_invoker = true);
    ELSE
        REVOKE ALL ON adjustment_factors FROM PUBLIC;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
        GRANT SELECT ON adjustment_factors TO backfill_runner;
    END IF;
END
$$;
