-- Which files of a provider's archive were read, and which version of each: one that is replaced
-- later has what it covered asked for again. Plain SQL, safe to run again: every statement looks
-- first.

-- What the guard does not know by name is looked for here.
DO $$
BEGIN
    IF to_regclass('archive_files') IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('archive_files') AND attname = 'checksum'
    ) THEN
        RAISE EXCEPTION USING MESSAGE = format(
            'the schema %I holds what backfill did not make: archive_files; nothing was changed',
            current_schema()
        );
    END IF;
END
$$;

CREATE TABLE IF NOT EXISTS archive_files (
    provider text NOT NULL,
    path text NOT NULL,
    etag text NOT NULL,
    checksum text,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    read_at timestamptz NOT NULL,
    PRIMARY KEY (provider, path, etag)
);
COMMENT ON TABLE archive_files IS
    'the files of archives that bars were read from, in every version that some bars are still of';
COMMENT ON COLUMN archive_files.path IS 'below the address of the provider''s archive';
COMMENT ON COLUMN archive_files.etag IS 'which version it was; empty where the archive names none';
COMMENT ON COLUMN archive_files.checksum IS 'as published beside it; null where none is';

DO $$
BEGIN
    ALTER TABLE archive_files ENABLE ROW LEVEL SECURITY;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON archive_files TO backfill_runner;
        IF NOT EXISTS (
            SELECT FROM pg_policies
            WHERE schemaname = current_schema() AND tablename = 'archive_files'
                AND policyname = 'backfill_runner'
        ) THEN
            CREATE POLICY backfill_runner ON archive_files TO backfill_runner
                USING (true) WITH CHECK (true);
        END IF;
    END IF;
END
$$;
