-- Who was taken off the watchlist: nobody means to keep such a symbol up to date any more.
-- Plain SQL, safe to run again: every statement looks first, or replaces.

ALTER TABLE symbols ADD COLUMN IF NOT EXISTS unwatched_at timestamptz;
COMMENT ON COLUMN symbols.unwatched_at IS
    'when it was last taken off the watchlist; null: it never was';

-- However it is taken off, also by hand. Who may change the watchlist and not the symbols can do so
-- as before: that is then not remembered.
CREATE OR REPLACE FUNCTION backfill_note_unwatched() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'UPDATE %1$I.symbols SET unwatched_at = now() WHERE id = $1', TG_TABLE_SCHEMA
    ) USING OLD.symbol_id;
    RETURN NULL;
EXCEPTION
    WHEN insufficient_privilege THEN
        RETURN NULL;
END
$$;
COMMENT ON FUNCTION backfill_note_unwatched() IS
    'remembers that a symbol was taken off the watchlist, in symbols.unwatched_at';

CREATE OR REPLACE TRIGGER backfill_unwatched
    AFTER DELETE ON watchlist
    FOR EACH ROW EXECUTE FUNCTION backfill_note_unwatched();
