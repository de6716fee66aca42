-- Dividends are listed with a distribution type now. Those of the older list get its words, so that
-- one dividend has one key whichever list brought it. Plain SQL, safe to run again.

-- What the newer list has brought already is not kept twice.
DELETE FROM dividends AS d
WHERE d.dividend_type IN ('CD', 'SC')
    AND EXISTS (
        SELECT FROM dividends AS n
        WHERE n.ticker = d.ticker AND n.ex_dividend_date = d.ex_dividend_date
            AND n.cash_amount = d.cash_amount
            AND n.dividend_type = CASE d.dividend_type WHEN 'CD' THEN 'recurring' ELSE 'special' END
    );
UPDATE dividends
SET dividend_type = CASE dividend_type WHEN 'CD' THEN 'recurring' ELSE 'special' END
WHERE dividend_type IN ('CD', 'SC');
COMMENT ON COLUMN dividends.dividend_type IS
    'how it recurs, in the provider''s words: recurring, special, supplemental, irregular, unknown';
