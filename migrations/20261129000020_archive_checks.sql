-- When the archive was last asked whether a file that was read is still the one it has: those that
-- nobody has asked about for longest come first. Plain SQL, safe to run again.

ALTER TABLE archive_files ADD COLUMN IF NOT EXISTS checked_at timestamptz;
COMMENT ON COLUMN archive_files.checked_at IS
    'when it was last seen to be the one that the archive has; null: when it was read';
