-- How the command that made a run ended: a status of `partial` or `failed` leaves two codes open.

ALTER TABLE backfill_runs ADD COLUMN IF NOT EXISTS exit_code smallint;
COMMENT ON COLUMN backfill_runs.exit_code IS 'of the command; null while it runs, and if it died';
