-- What people were told of series and commands, so that each change is told once. Plain SQL, safe to
-- run again: every statement looks first.

-- What the guard does not know by name is looked for here.
DO $$
BEGIN
    IF to_regclass('backfill_notices') IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('backfill_notices') AND attname = 'claimed_trouble'
    ) THEN
        RAISE EXCEPTION USING MESSAGE = format(
            'the schema %I holds what backfill did not make: backfill_notices; nothing was changed',
            current_schema()
        );
    END IF;
END
$$;

CREATE TABLE IF NOT EXISTS backfill_notices (
    destination text NOT NULL,
    name text NOT NULL,
    timeframe text NOT NULL,
    trouble text,
    told_at timestamptz,
    claimed_by uuid,
    claimed_until timestamptz,
    claimed_trouble text,
    PRIMARY KEY (destination, name, timeframe)
);
COMMENT ON TABLE backfill_notices IS
    'what each address of BACKFILL_NOTIFY was told last of a series or a command';
COMMENT ON COLUMN backfill_notices.destination IS 'a digest of the address, which is secret';
COMMENT ON COLUMN backfill_notices.name IS 'a ticker; where there is no timeframe, a command';
COMMENT ON COLUMN backfill_notices.trouble IS 'what was told; null: that all is well, or nothing';
COMMENT ON COLUMN backfill_notices.claimed_by IS 'who is telling of it just now';
COMMENT ON COLUMN backfill_notices.claimed_until IS 'from then on another may tell of it';
COMMENT ON COLUMN backfill_notices.claimed_trouble IS 'what is being told, as in trouble';

DO $$
BEGIN
    ALTER TABLE backfill_notices ENABLE ROW LEVEL SECURITY;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON backfill_notices TO backfill_runner;
        IF NOT EXISTS (
            SELECT FROM pg_policies
            WHERE schemaname = current_schema() AND tablename = 'backfill_notices'
                AND policyname = 'backfill_runner'
        ) THEN
            CREATE POLICY backfill_runner ON backfill_notices TO backfill_runner
                USING (true) WITH CHECK (true);
        END IF;
    END IF;
END
$$;
