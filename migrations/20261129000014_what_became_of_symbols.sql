-- What became of symbols: the name that a company has by now, tickers that the provider knows no
-- longer, and those that it never knew. Plain SQL, safe to run again: every statement looks first.

ALTER TABLE symbols
    ADD COLUMN IF NOT EXISTS renamed_to text,
    ADD COLUMN IF NOT EXISTS renamed_on date,
    ADD COLUMN IF NOT EXISTS gone_on date,
    ADD COLUMN IF NOT EXISTS unknown_runs integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN symbols.renamed_to IS
    'the ticker that the company behind its bars has by now, if that is another';
COMMENT ON COLUMN symbols.renamed_on IS 'since when; nothing of the old ticker is due from then on';
COMMENT ON COLUMN symbols.gone_on IS
    'when the provider''s reference no longer knew it, without saying why; null: it does';
COMMENT ON COLUMN symbols.unknown_runs IS
    'how many runs nobody knew it in, before anybody ever did; from the third on `run --all` leaves '
    'it out, until the watchlist names it anew';
