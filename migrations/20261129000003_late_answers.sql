-- A late answer becomes no hole: what is empty is believed after a second answer. Slots that wait for
-- one are `unconfirmed`, kept by the day on which they were first asked for. Plain SQL, safe to run
-- again: every statement looks first.

ALTER TABLE backfill_progress
    ADD COLUMN IF NOT EXISTS provisional tstzmultirange NOT NULL DEFAULT '{}';
COMMENT ON COLUMN backfill_progress.provisional IS
    'what the provider answered before the day was final: asked for once more with what is due next';

DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = 'known_empty'::regclass AND attname = 'asked_on' AND NOT attisdropped
    ) THEN
        RETURN;
    END IF;
    ALTER TABLE known_empty ADD COLUMN asked_on date;
    -- When they were first asked for, as far as the old rule tells; slots without trades are one row
    -- a month, of the month's first day.
    UPDATE known_empty
    SET asked_on = CASE reason
        WHEN 'no_trades' THEN month
        WHEN 'quarantined' THEN (expires_at - interval '30 days')::date
        ELSE coalesce(confirmed_on, expires_at::date) - 1
    END;
    UPDATE known_empty SET asked_on = month WHERE asked_on IS NULL;
    ALTER TABLE known_empty
        ALTER COLUMN asked_on SET DEFAULT CURRENT_DATE,
        ALTER COLUMN asked_on SET NOT NULL,
        DROP CONSTRAINT known_empty_pkey,
        ADD PRIMARY KEY (symbol_id, timeframe, month, reason, asked_on),
        DROP CONSTRAINT IF EXISTS known_empty_reason_check,
        ADD CONSTRAINT known_empty_reason_check
            CHECK (reason IN ('no_trades', 'unconfirmed', 'absent', 'quarantined'));
    COMMENT ON COLUMN known_empty.asked_on IS
        'the day of the first answer without them; of slots without trades the first of the month';
    COMMENT ON COLUMN known_empty.expires_at IS
        'when they may be asked for again, of unconfirmed ones when a second answer is believed';

    -- What the old rule closed too early, once: the empty end of each session of the last 30 days,
    -- and all that is empty in sessions that hold under a fifth of the bars of their neighbours.
    WITH steps (timeframe, step) AS (
        VALUES ('m1'::timeframe, interval '1 minute'), ('m5', interval '5 minutes'),
            ('m15', interval '15 minutes'), ('m30', interval '30 minutes'),
            ('h1', interval '1 hour'), ('h4', interval '4 hours')
    ),
    series AS (
        SELECT k.symbol_id, k.timeframe, s.calendar, t.step, p.coverage,
            CASE s.calendar WHEN '24/7' THEN 'UTC' ELSE 'America/New_York' END AS zone
        FROM (SELECT DISTINCT symbol_id, timeframe FROM known_empty WHERE reason = 'no_trades') AS k
        JOIN symbols AS s ON s.id = k.symbol_id
        JOIN steps AS t ON t.timeframe = k.timeframe
        JOIN backfill_progress AS p
            ON p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe
    ),
    empty AS (
        SELECT k.symbol_id, k.timeframe, r.slots
        FROM known_empty AS k
        CROSS JOIN LATERAL unnest(k.slots) AS r (slots)
        WHERE k.reason = 'no_trades'
    ),
    sessions AS (
        -- Intraday slots are counted from midnight; the first and the last may reach out of hours.
        SELECT e.*, m.session,
            tstzrange(
                date_bin(e.step, m.opens_at, m.session::timestamp AT TIME ZONE e.zone),
                date_bin(
                    e.step, m.closes_at - interval '1 microsecond',
                    m.session::timestamp AT TIME ZONE e.zone
                ) + e.step
            ) AS hours
        FROM series AS e
        JOIN market_sessions AS m
            ON m.calendar = e.calendar AND m.opens_at IS NOT NULL
            AND e.coverage @> m.opens_at
    ),
    counted AS (
        SELECT s.symbol_id, s.timeframe, s.session, s.hours,
            extract(epoch FROM upper(s.hours) - lower(s.hours)) / extract(epoch FROM s.step)
                AS slots,
            coalesce(
                sum(extract(epoch FROM upper(e.slots * s.hours) - lower(e.slots * s.hours))), 0
            ) / extract(epoch FROM s.step) AS empty
        FROM sessions AS s
        LEFT JOIN empty AS e
            ON e.symbol_id = s.symbol_id AND e.timeframe = s.timeframe AND e.slots && s.hours
        GROUP BY s.symbol_id, s.timeframe, s.session, s.hours, s.step
    ),
    numbered AS (
        SELECT c.*, 1 - c.empty / c.slots AS density,
            row_number() OVER (PARTITION BY c.symbol_id, c.timeframe ORDER BY c.session) AS number
        FROM counted AS c
    ),
    late_sessions AS (
        SELECT n.symbol_id, n.timeframe, n.session, n.hours,
            n.slots >= 20 AND n.density * 5 < near.median AND near.median * n.slots >= 20
                AS suspect
        FROM numbered AS n
        LEFT JOIN LATERAL (
            SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY o.density) AS median
            FROM numbered AS o
            WHERE n.empty * 5 > n.slots * 4
                AND o.symbol_id = n.symbol_id AND o.timeframe = n.timeframe
                AND o.number BETWEEN n.number - 10 AND n.number + 10 AND o.number <> n.number
        ) AS near ON true
        WHERE n.empty > 0
    ),
    late_slots AS (
        SELECT k.symbol_id, k.timeframe, k.month, range_agg(r.slots * l.hours) AS slots
        FROM late_sessions AS l
        JOIN known_empty AS k
            ON k.symbol_id = l.symbol_id AND k.timeframe = l.timeframe AND k.reason = 'no_trades'
            AND k.month = date_trunc('month', l.session)::date
        CROSS JOIN LATERAL unnest(k.slots) AS r (slots)
        WHERE r.slots && l.hours
            AND (
                l.suspect
                OR l.session >= current_date - 30
                    AND r.slots @> upper(l.hours) - interval '1 microsecond'
            )
        GROUP BY k.symbol_id, k.timeframe, k.month
    ),
    opened AS (
        UPDATE known_empty AS k
        SET slots = k.slots - l.slots
        FROM late_slots AS l
        WHERE k.symbol_id = l.symbol_id AND k.timeframe = l.timeframe AND k.month = l.month
            AND k.reason = 'no_trades'
    )
    INSERT INTO known_empty (symbol_id, timeframe, month, reason, asked_on, slots, expires_at)
    SELECT symbol_id, timeframe, month, 'unconfirmed', current_date, slots, now()
    FROM late_slots;
    DELETE FROM known_empty WHERE isempty(slots);
END
$$;
