-- IEX has hours of its own before the open and after the close; Tiingo's bars of it, whose feed is
-- called `iex`, leave them out. Plain SQL, safe to run again.
INSERT INTO market_hours (calendar, feed, opens, closes, night_opens)
VALUES ('XNYS', 'iex-extended', '08:00', '17:00', NULL)
ON CONFLICT DO NOTHING;
