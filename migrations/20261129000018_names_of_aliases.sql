-- Former names by the spelling that lists have: who asks whose a split was looks there for each.
-- Plain SQL, safe to run again: every statement looks first.

CREATE INDEX IF NOT EXISTS symbol_aliases_listed_as
    ON symbol_aliases (replace(ticker, '-', '.'));
