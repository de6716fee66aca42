-- Whom to ask for what is watched: an entry may name a provider of its own.
-- Plain SQL, safe to run again: every statement looks first, or replaces.

ALTER TABLE watchlist ADD COLUMN IF NOT EXISTS provider text;
COMMENT ON COLUMN watchlist.provider IS
    'the provider to ask for it; null: the default one at the time of the run';
