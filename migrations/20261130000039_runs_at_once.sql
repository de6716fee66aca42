-- Of the runs that go on, and the leases that are held, there are few; every run of one symbol looks
-- for them, and a market's workers make thousands of such runs. Plain SQL, safe to run again.
CREATE INDEX IF NOT EXISTS backfill_progress_claimed
    ON backfill_progress (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX IF NOT EXISTS backfill_runs_running
    ON backfill_runs (run_id) WHERE status = 'running';
