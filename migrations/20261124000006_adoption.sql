-- A name for the type of symbols.id, which an existing table may have chosen otherwise: statements
-- that are given ids name this. Plain SQL, safe to run again: every statement looks first.

DO $$
DECLARE
    id_type text := (
        SELECT format_type(atttypid, atttypmod)
        FROM pg_attribute
        WHERE attrelid = 'symbols'::regclass AND attname = 'id'
    );
BEGIN
    IF to_regtype('symbol_id') IS NULL THEN
        EXECUTE format('CREATE DOMAIN symbol_id AS %s', id_type);
    END IF;
END
$$;

ALTER TABLE symbols ADD COLUMN IF NOT EXISTS set_aside text;
COMMENT ON COLUMN symbols.set_aside IS 'why nothing is fetched for it; null: nothing stands against';

ALTER TABLE symbols ADD COLUMN IF NOT EXISTS adopted_at timestamptz;
COMMENT ON COLUMN symbols.adopted_at IS
    'when the row of another system was adopted; it is never removed. null: registered here';

-- What `run --all` keeps. `backfill migrate --adopt` adds the entries of the lists it finds.
CREATE OR REPLACE VIEW watched AS
SELECT symbol_id, timeframes, since, paused, priority, added_at
FROM watchlist;

DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        ALTER VIEW watched SET (security_invoker = true);
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
        GRANT SELECT ON watched TO backfill_runner;
    END IF;
END
$$;
