-- What a worker's --schedule knows: who leads, and what is enqueued when, by timeframe. Plain SQL,
-- safe to run again: every statement looks first. Where there is no queue there is no schedule.
DO $$
BEGIN
    IF to_regclass('bf_jobs.pgqueuer') IS NULL OR NOT has_schema_privilege('bf_jobs', 'CREATE') THEN
        RETURN;
    END IF;
    CREATE TABLE IF NOT EXISTS bf_jobs.leader (
        duty text PRIMARY KEY,
        holder uuid NOT NULL,
        until timestamptz NOT NULL
    );
    COMMENT ON TABLE bf_jobs.leader IS
        'which worker has a duty that one at a time has, until it renews that or another takes it over';
    CREATE TABLE IF NOT EXISTS bf_jobs.schedule (
        timeframe text PRIMARY KEY,
        enqueued_at timestamptz,
        next_at timestamptz
    );
    COMMENT ON TABLE bf_jobs.schedule IS
        'when the watched series of a timeframe were enqueued, and when their next bar is final';
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['leader', 'schedule'] LOOP
        CONTINUE WHEN to_regclass('bf_jobs.' || name) IS NULL;
        EXECUTE format('ALTER TABLE bf_jobs.%I ENABLE ROW LEVEL SECURITY', name);
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner');
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON bf_jobs.%I TO backfill_runner', name
        );
        IF NOT EXISTS (
            SELECT FROM pg_policies
            WHERE schemaname = 'bf_jobs' AND tablename = name AND policyname = 'backfill_runner'
        ) THEN
            EXECUTE format(
                'CREATE POLICY backfill_runner ON bf_jobs.%I TO backfill_runner'
                ' USING (true) WITH CHECK (true)',
                name
            );
        END IF;
    END LOOP;
END
$$;
