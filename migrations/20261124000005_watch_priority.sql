-- What the watchlist tells a run: which entries come first, and that an entry has changed.
-- Plain SQL, safe to run again: every statement looks first, or replaces.

ALTER TABLE watchlist ADD COLUMN IF NOT EXISTS priority integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN watchlist.priority IS 'entries with a higher one are planned and fetched first';

CREATE OR REPLACE FUNCTION backfill_note_watchlist() RETURNS trigger
LANGUAGE plpgsql
SET search_path = ''
AS $$
BEGIN
    PERFORM pg_catalog.pg_notify('backfill_watchlist', '');
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION backfill_note_watchlist() IS
    'wakes whoever waits for a change: backfill run --all --watch';

CREATE OR REPLACE TRIGGER backfill_watchlist_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON watchlist
    FOR EACH STATEMENT EXECUTE FUNCTION backfill_note_watchlist();
