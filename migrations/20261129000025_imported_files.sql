-- Which files bars came by, and when trades of imported bars are reported. Plain SQL, safe to run
-- again: every statement looks first.

-- What the guard does not know by name is looked for here.
DO $$
BEGIN
    IF to_regclass('imported_files') IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('imported_files') AND attname = 'sha256'
    ) THEN
        RAISE EXCEPTION USING MESSAGE = format(
            'the schema %I holds what backfill did not make: imported_files; nothing was changed',
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
        CREATE TABLE IF NOT EXISTS imported_files (
            symbol_id %s NOT NULL REFERENCES symbols (id) ON DELETE CASCADE,
            timeframe timeframe NOT NULL,
            sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
            name text NOT NULL,
            bytes bigint NOT NULL,
            form text NOT NULL,
            feed text NOT NULL,
            bars bigint NOT NULL,
            first_bar timestamptz NOT NULL,
            last_bar timestamptz NOT NULL,
            covers tstzmultirange NOT NULL,
            run_id uuid NOT NULL,
            imported_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (symbol_id, timeframe, sha256)
        )
    $table$, id_type);
END
$$;
COMMENT ON TABLE imported_files IS
    'the files that bars of a series came by, each once, written with its first page';
COMMENT ON COLUMN imported_files.feed IS 'where the file is from, as the series'' source says it';
COMMENT ON COLUMN imported_files.bars IS 'how many bars of the series the file has, good or not';
COMMENT ON COLUMN imported_files.covers IS
    'what the file, or whoever imported it, says it is all of: the bars of it closed that range';
COMMENT ON COLUMN imported_files.run_id IS 'the run that read it first';

-- A file may be of any feed: what trades from 04:00 to 20:00 is on its grid.
INSERT INTO market_hours (calendar, feed, opens, closes, night_opens)
VALUES ('XNYS', 'import', '04:00', '20:00', NULL)
ON CONFLICT DO NOTHING;

DO $$
BEGIN
    ALTER TABLE imported_files ENABLE ROW LEVEL SECURITY;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON imported_files TO backfill_runner;
        IF NOT EXISTS (
            SELECT FROM pg_policies
            WHERE schemaname = current_schema() AND tablename = 'imported_files'
                AND policyname = 'backfill_runner'
        ) THEN
            CREATE POLICY backfill_runner ON imported_files TO backfill_runner
                USING (true) WITH CHECK (true);
        END IF;
    END IF;
END
$$;
