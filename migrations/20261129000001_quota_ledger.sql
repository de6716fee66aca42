-- The quota's ledger: which calls may still count at the provider, and who waits for a slot. All of
-- it is in the key's one row, so whoever holds the row holds everything. Plain SQL, safe to run
-- again: every statement looks first.

DO $$
BEGIN
    IF to_regtype('quota_call') IS NULL THEN
        -- id: the caller's number for it, null once it is merged with others
        -- latest: when the provider can have counted it at the latest; while the call is open,
        -- when its head is due
        CREATE TYPE quota_call AS (id bigint, cost integer, latest timestamptz, open boolean);
    END IF;
    IF to_regtype('quota_ticket') IS NULL THEN
        -- cost: of the first of the calls that wait; since: when it began to wait for its turn;
        -- told: when it was told to come back
        CREATE TYPE quota_ticket AS (
            process bigint, cost integer, waiting integer, since timestamptz, told timestamptz
        );
    END IF;
END
$$;

ALTER TABLE provider_quota
    ADD COLUMN IF NOT EXISTS calls quota_call[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS tickets quota_ticket[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS longest interval NOT NULL DEFAULT '0';
COMMENT ON COLUMN provider_quota.calls IS
    'calls that some window still holds, finished ones merged into 200 a window at most';
COMMENT ON COLUMN provider_quota.tickets IS 'the processes that wait for a slot, one each';
COMMENT ON COLUMN provider_quota.longest IS
    'the longest window that anybody has kept with this key: so long is a call remembered';

-- Slots of the version before: its calls count from when they were answered at the latest, and
-- nobody sends for a minute after the last one, since a single window remembered none.
UPDATE provider_quota
SET calls = calls || ARRAY(
        SELECT ROW(NULL, 1, least(slot + interval '1 minute', now()), false)::quota_call
        FROM unnest(recent) AS slot
    ),
    longest = greatest(longest, CASE WHEN recent = '{}' THEN '0' ELSE interval '1 day' END),
    paused_until = greatest(paused_until, next_at + interval '1 minute'),
    recent = '{}',
    next_at = '-infinity'
WHERE next_at > '-infinity';
COMMENT ON COLUMN provider_quota.next_at IS 'of versions before 2026-11-29';
COMMENT ON COLUMN provider_quota.recent IS 'of versions before 2026-11-29';

-- What one taking leaves of a key's row: a function of its arguments alone.
--
-- ``taker`` asks, at a ``moment``, for calls of these ``costs``, first come first; the granted ones
-- get the ids from ``first_call`` on. ``limits`` and ``periods`` are the windows, each stretched by the
-- allowance for clocks of different rates. Room goes round the processes whose time has come, who
-- waits longest first, a call each; what falls to others is left for them. Who gets less than it
-- asked for has a ticket, and is told when its turn can come at the earliest: no open call leaves a
-- window within its period.
CREATE OR REPLACE FUNCTION quota_turn(
    INOUT held provider_quota,
    moment timestamptz,
    taker bigint,
    first_call bigint,
    costs integer[],
    limits integer[],
    periods interval[],
    OUT granted integer,
    OUT told timestamptz
)
LANGUAGE plpgsql AS $$
DECLARE
    kept quota_call[];
    mine quota_ticket;
    queue quota_ticket[];
    served integer[];
    used integer[];
    room integer;
    spent integer := 0;
    ahead integer := 0;
    cost integer;
    going boolean := true;
BEGIN
    granted := 0;
    held.longest := greatest(
        held.longest, (SELECT max(period) FROM unnest(periods) AS period)
    );
    kept := ARRAY(
        SELECT ROW(c.id, c.cost, c.latest, c.open AND c.latest >= moment)::quota_call
        FROM unnest(held.calls) AS c
        WHERE c.latest + held.longest >= moment
    );
    IF cardinality(kept) > 200 THEN
        -- A finished call is merged with its neighbours in the shortest window that holds it,
        -- where that is one of more than 200 calls, or the longest that was ever kept.
        kept := ARRAY(
            SELECT ROW(
                CASE count(*) WHEN 1 THEN min(c.id) END, sum(c.cost), max(c.latest), c.open
            )::quota_call
            FROM unnest(kept) WITH ORDINALITY AS c (id, cost, latest, open, nth)
            CROSS JOIN LATERAL (
                SELECT w.period, w.calls
                FROM (
                    SELECT period, calls FROM unnest(periods, limits) AS own (period, calls)
                    UNION ALL
                    SELECT held.longest, NULL
                ) AS w
                WHERE c.latest + w.period >= moment
                ORDER BY w.period, w.calls
                LIMIT 1
            ) AS w
            GROUP BY
                c.open,
                w.period,
                CASE
                    WHEN c.open OR w.calls <= 200 THEN c.nth
                    ELSE floor(
                        extract(epoch FROM c.latest) / (extract(epoch FROM w.period) / 200)
                    )::bigint
                END
        );
    END IF;

    queue := ARRAY(
        SELECT ROW(t.process, t.cost, t.waiting, t.since, t.told)::quota_ticket
        FROM unnest(held.tickets) AS t
        WHERE t.told + interval '2 seconds' >= moment
        ORDER BY t.since, t.process
    );
    SELECT t.process, t.cost, t.waiting, t.since, t.told INTO mine
    FROM unnest(queue) AS t
    WHERE t.process = taker;
    IF mine.process IS NULL THEN
        mine := ROW(taker, NULL, NULL, moment, NULL)::quota_ticket;
        queue := queue || mine;
    END IF;
    used := ARRAY(
        SELECT coalesce(
            (SELECT sum(c.cost) FROM unnest(kept) AS c WHERE c.latest + w.period >= moment), 0
        )
        FROM unnest(periods) WITH ORDINALITY AS w (period, nth)
        ORDER BY w.nth
    );

    IF held.paused_until > moment THEN
        told := held.paused_until;
    ELSE
        room := (SELECT min(w.calls - w.used) FROM unnest(limits, used) AS w (calls, used));
        served := array_fill(0, ARRAY[cardinality(queue)]);
        <<rounds>>
        WHILE going LOOP
            going := false;
            FOR turn IN 1 .. cardinality(queue) LOOP
                EXIT rounds WHEN granted = cardinality(costs);
                IF queue[turn].process = taker THEN
                    cost := costs[granted + 1];
                ELSE
                    CONTINUE WHEN queue[turn].told > moment OR served[turn] = queue[turn].waiting;
                    cost := queue[turn].cost;
                END IF;
                EXIT rounds WHEN cost > room - spent;
                spent := spent + cost;
                going := true;
                IF queue[turn].process = taker THEN
                    granted := granted + 1;
                ELSE
                    served[turn] := served[turn] + 1;
                END IF;
            END LOOP;
        END LOOP;
        IF granted < cardinality(costs) THEN
            ahead := (
                SELECT coalesce(sum(t.cost), 0)
                FROM unnest(queue) WITH ORDINALITY AS t (process, cost, waiting, since, told, nth)
                WHERE t.process <> taker
                    AND t.waiting > served[t.nth]
                    AND (granted > 0 OR (t.since, t.process) < (mine.since, taker))
            );
            -- For each window, when so many calls have left it that it has room for those who come
            -- before, and for this one.
            told := (
                SELECT max(
                    coalesce(
                        (
                            SELECT min(f.latest)
                            FROM (
                                SELECT c.latest, sum(c.cost) OVER (ORDER BY c.latest) AS freed
                                FROM unnest(kept) AS c
                                WHERE NOT c.open AND c.latest + w.period >= moment
                            ) AS f
                            WHERE f.freed >= w.used + spent + ahead + costs[granted + 1] - w.calls
                        ),
                        moment
                    ) + w.period + interval '1 microsecond'
                )
                FROM unnest(limits, periods, used) AS w (calls, period, used)
                WHERE w.used + spent + ahead + costs[granted + 1] > w.calls
            );
        END IF;
    END IF;

    IF cardinality(limits) > 0 THEN
        held.calls := kept || ARRAY(
            SELECT ROW(
                first_call + nth - 1, costs[nth], moment + interval '30 seconds', true
            )::quota_call
            FROM generate_series(1, granted) AS nth
        );
        held.tickets := ARRAY(
            SELECT ROW(t.process, t.cost, t.waiting, t.since, t.told)::quota_ticket
            FROM unnest(queue) AS t
            WHERE t.process <> taker
        );
        IF granted < cardinality(costs) THEN
            held.tickets := held.tickets || ROW(
                taker,
                costs[granted + 1],
                cardinality(costs) - granted,
                CASE WHEN granted > 0 THEN moment ELSE mine.since END,
                told
            )::quota_ticket;
        END IF;
    END IF;
END
$$;

-- Takes as many slots as there is room for. The row is locked first, the clock is read after that:
-- a count under a snapshot or at a time from before the lock would grant twice. Where transactions
-- keep one snapshot the lock fails, and is tried again.
CREATE OR REPLACE FUNCTION quota_take(
    of_provider text,
    of_key text,
    taker bigint,
    first_call bigint,
    costs integer[],
    limits integer[],
    periods interval[],
    OUT granted integer,
    OUT wait_us bigint,
    OUT at_us bigint
)
LANGUAGE plpgsql AS $$
DECLARE
    held provider_quota;
    moment timestamptz;
    turn record;
BEGIN
    SELECT q.* INTO held FROM provider_quota AS q
    WHERE q.provider = of_provider AND q.key_id = of_key
    FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO provider_quota (provider, key_id) VALUES (of_provider, of_key)
        ON CONFLICT DO NOTHING;
        SELECT q.* INTO held FROM provider_quota AS q
        WHERE q.provider = of_provider AND q.key_id = of_key
        FOR UPDATE;
    END IF;
    moment := clock_timestamp();
    SELECT * INTO turn
    FROM quota_turn(held, moment, taker, first_call, costs, limits, periods);
    granted := turn.granted;
    IF cardinality(limits) > 0 THEN
        UPDATE provider_quota AS q
        SET calls = (turn.held).calls,
            tickets = (turn.held).tickets,
            longest = (turn.held).longest
        WHERE q.provider = of_provider AND q.key_id = of_key;
    END IF;
    wait_us := CASE
        WHEN granted < cardinality(costs) THEN extract(epoch FROM turn.told - moment) * 1000000
        ELSE 0
    END;
    at_us := extract(epoch FROM moment) * 1000000;
END
$$;

-- Hosts that expose a schema over HTTP expose its functions too: only who may run may call these.
DO $$
DECLARE
    signature regprocedure;
BEGIN
    FOR signature IN
        SELECT p.oid FROM pg_proc AS p
        WHERE p.pronamespace = quote_ident(current_schema())::regnamespace
            AND p.proname IN ('quota_turn', 'quota_take')
    LOOP
        EXECUTE format(
            'ALTER FUNCTION %s SET search_path = %I, pg_temp', signature, current_schema()
        );
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', signature);
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO backfill_runner', signature);
        END IF;
    END LOOP;
END
$$;
