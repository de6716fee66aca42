-- How many bars each series holds, kept beside its coverage by the page that writes them, and a note
-- of every other write to the table: while there is one, bars are counted where they are. Plain SQL,
-- safe to run again: every statement looks first.

-- What the guard does not know by name is looked for here.
DO $$
BEGIN
    IF to_regclass('uncounted_writes') IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('uncounted_writes') AND attname = 'transaction_id'
    ) THEN
        RAISE EXCEPTION USING MESSAGE = format(
            'the schema %I holds what backfill did not make: uncounted_writes; nothing was changed',
            current_schema()
        );
    END IF;
END
$$;

ALTER TABLE backfill_progress ADD COLUMN IF NOT EXISTS bars bigint;
COMMENT ON COLUMN backfill_progress.bars IS
    'how many bars ohlc_bars holds, kept with each page; null: not counted since it was filled';

CREATE TABLE IF NOT EXISTS uncounted_writes (
    transaction_id bigint PRIMARY KEY,
    written_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE uncounted_writes IS
    'transactions other than of pages that wrote to ohlc_bars since its bars were counted last; '
    '0 once there were too many to note: then bars are always counted where they are';

-- One row a transaction, so that no writer waits for another.
CREATE OR REPLACE FUNCTION backfill_note_uncounted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (SELECT FROM uncounted_writes WHERE transaction_id = 0) THEN
        RETURN NULL;
    END IF;
    INSERT INTO uncounted_writes (transaction_id)
    SELECT CASE WHEN count(*) < 1000 THEN pg_current_xact_id()::text::bigint ELSE 0 END
    FROM (SELECT FROM uncounted_writes LIMIT 1000) AS noted
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION backfill_note_uncounted() IS
    'notes that somebody wrote to ohlc_bars who does not keep backfill_progress.bars';

-- It fires once a statement, also for those who replicate, and not for a page of backfill's, which
-- says so for its transaction; what another trigger writes in a page's transaction is noted. Rows of
-- a partition can come and go by themselves: those are always counted where they are.
DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION backfill_note_uncounted() SET search_path = %I, pg_temp', current_schema()
    );
    REVOKE EXECUTE ON FUNCTION backfill_note_uncounted() FROM PUBLIC;
    IF EXISTS (
        SELECT FROM pg_class
        WHERE oid = 'ohlc_bars'::regclass AND relkind = 'r' AND NOT relhassubclass
    ) AND NOT EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid = 'ohlc_bars'::regclass AND tgname = 'backfill_uncounted'
    ) THEN
        CREATE TRIGGER backfill_uncounted
            AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON ohlc_bars
            FOR EACH STATEMENT
            WHEN (
                current_setting('backfill.counted', true) IS DISTINCT FROM 'yes'
                OR pg_trigger_depth() > 0
            )
            EXECUTE FUNCTION backfill_note_uncounted();
        ALTER TABLE ohlc_bars ENABLE ALWAYS TRIGGER backfill_uncounted;
    END IF;
    ALTER TABLE uncounted_writes ENABLE ROW LEVEL SECURITY;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON uncounted_writes TO backfill_runner;
        IF NOT EXISTS (
            SELECT FROM pg_policies
            WHERE schemaname = current_schema() AND tablename = 'uncounted_writes'
                AND policyname = 'backfill_runner'
        ) THEN
            CREATE POLICY backfill_runner ON uncounted_writes TO backfill_runner
                USING (true) WITH CHECK (true);
        END IF;
    END IF;
END
$$;
