-- No symbol leaves while bars of it are stored, and where a symbol's kept history begins.
-- Plain SQL, safe to run again: every statement looks first, or replaces.

ALTER TABLE symbols ADD COLUMN IF NOT EXISTS kept_from date;
COMMENT ON COLUMN symbols.kept_from IS
    'what is older was trimmed, and is fetched again only if somebody names it; null: nothing was';

-- ohlc_bars has no foreign key, which would cost most of the speed of writing.
CREATE OR REPLACE FUNCTION backfill_keep_symbol() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    held boolean;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %I.ohlc_bars)', TG_TABLE_SCHEMA) INTO held;
        IF held THEN
            RAISE EXCEPTION 'ohlc_bars would keep bars of symbols that are gone'
                USING ERRCODE = 'foreign_key_violation',
                    HINT = 'truncate ohlc_bars in the same statement';
        END IF;
        RETURN NULL;
    END IF;
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM %1$I.ohlc_bars WHERE symbol_id = $1) '
        'OR EXISTS (SELECT FROM %1$I.quarantined_bars WHERE symbol_id = $1)', TG_TABLE_SCHEMA
    ) USING OLD.id INTO held;
    IF held THEN
        RAISE EXCEPTION 'bars of % are stored, and would be nobody''s', OLD.ticker
            USING ERRCODE = 'foreign_key_violation',
                HINT = format('run: backfill symbols delete %s --yes', OLD.ticker);
    END IF;
    RETURN OLD;
END
$$;
COMMENT ON FUNCTION backfill_keep_symbol() IS
    'refuses to delete a symbol of which bars are stored, and says what to run instead';

-- On tables of our own only: what another system does with its own stays its business.
DO $$
BEGIN
    IF current_setting('backfill.adopting', true) = 'on'
        OR to_regclass('backfill_adoption') IS NOT NULL
        OR EXISTS (SELECT FROM symbols WHERE adopted_at IS NOT NULL)
    THEN
        RETURN;
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid = 'symbols'::regclass AND tgname = 'backfill_keep_symbol'
    ) THEN
        CREATE TRIGGER backfill_keep_symbol
            BEFORE DELETE ON symbols
            FOR EACH ROW EXECUTE FUNCTION backfill_keep_symbol();
        CREATE TRIGGER backfill_keep_symbols
            AFTER TRUNCATE ON symbols
            FOR EACH STATEMENT EXECUTE FUNCTION backfill_keep_symbol();
    END IF;
END
$$;
