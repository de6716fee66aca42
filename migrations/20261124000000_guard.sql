-- Looks before the first change: a schema that holds tables of another system is refused whole, by
-- whoever applies these files. Plain SQL, safe to run again. Nothing is changed here.
-- `backfill migrate --adopt` has decided about such tables before, and says so in its transaction.

DO $$
DECLARE
    here oid := quote_ident(current_schema())::regnamespace;
    others text;
BEGIN
    IF current_setting('backfill.adopting', true) = 'on' OR EXISTS (
        SELECT FROM pg_class WHERE relnamespace = here AND relname = 'backfill_progress'
    ) THEN
        RETURN;
    END IF;
    SELECT string_agg(name, ', ' ORDER BY name)
    INTO others
    FROM (
        SELECT relname::text AS name
        FROM pg_class
        WHERE relnamespace = here AND relname IN (
            'symbols', 'ohlc_bars', 'known_empty', 'watchlist', 'quarantined_bars',
            'backfill_runs', 'backfill_changes', 'splits', 'dividends', 'action_syncs',
            'market_sessions', 'market_hours', 'provider_quota', 'quota_call', 'quota_ticket',
            'symbol_aliases', 'symbol_names', 'watched', 'adjustment_factors',
            'ohlc_bars_regular', 'ohlc_bars_adjusted'
        )
    ) AS found;
    IF others IS NOT NULL THEN
        RAISE EXCEPTION USING MESSAGE = format(
            'the schema %I holds what backfill did not make: %s; nothing was changed. Use another '
            'schema or database, or take over its symbols and ohlc_bars: backfill migrate --adopt',
            current_schema(), others
        );
    END IF;
END
$$;
