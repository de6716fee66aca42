-- Whoever is killed between its bars and the lists of splits behind them leaves that to the next run.
-- Plain SQL, safe to run again: every statement looks first, or replaces.

ALTER TABLE backfill_runs
    ADD COLUMN IF NOT EXISTS alive_until timestamptz,
    ADD COLUMN IF NOT EXISTS lists_owed text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN backfill_runs.alive_until IS
    'a run that has not ended by then and said nothing more is dead; null: an older build''s';
COMMENT ON COLUMN backfill_runs.lists_owed IS
    'the providers whose lists of splits and dividends are to be read behind what the run stored';
CREATE INDEX IF NOT EXISTS backfill_runs_lists_owed
    ON backfill_runs (run_id) WHERE lists_owed <> '{}';

ALTER TABLE action_syncs ADD COLUMN IF NOT EXISTS claimed_by uuid;
COMMENT ON COLUMN action_syncs.claimed_by IS
    'the run that reads the list for the session; null once it has read all that it will';
