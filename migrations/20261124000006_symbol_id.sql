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
