"""When slots of a quota were granted and given up, by the stamps of the ledger itself."""

import math
from typing import Final

from tests.conftest import query
from tests.faults import tables

# Notes when a slot was granted, and when the head of its call's answer came.
_RECORD: Final = """
    CREATE TABLE slots (id bigint PRIMARY KEY, granted timestamptz, head timestamptz);
    CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO slots
        SELECT id, latest - interval '30 seconds' FROM unnest(NEW.calls) WHERE open
        ON CONFLICT DO NOTHING;
        UPDATE slots AS s SET head = c.latest
        FROM unnest(NEW.calls) AS c WHERE c.id = s.id AND NOT c.open AND s.head IS NULL;
        DELETE FROM slots AS s
        WHERE s.head IS NULL AND NOT EXISTS (SELECT FROM unnest(NEW.calls) WHERE id = s.id)
            AND s.granted > clock_timestamp() - interval '20 seconds';
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER record AFTER INSERT OR UPDATE ON provider_quota
    FOR EACH ROW EXECUTE FUNCTION record();
"""
# When a slot was granted, and when the head of the answer came; none came where only its deadline
# closed it.
_SLOTS: Final = """
    SELECT
        extract(epoch FROM granted)::float8 AS granted,
        CASE WHEN head < granted + interval '29.9 seconds'
            THEN extract(epoch FROM head)::float8 END AS head
    FROM slots ORDER BY granted
"""


def record(url: str) -> None:
    """Have every slot of a database's ledger noted from now on."""
    tables.execute(url, _RECORD)


def used(url: str, limit: int, window_s: float, until_s: float = math.inf) -> float:
    """How much of what R13 promises was used, between the first window and the last.

    It is looked at ``until_s``, of the epoch, where there was no more to do for all that wait.

    The slots times the time are what there was to hold; a call holds its slot from its grant to
    the head of its answer and for a window more. Those without an answer hold theirs to the end of
    their deadline and a window more: that is taken off, as it is no one's use.
    """
    slots = query(url, _SLOTS)
    began, ended = slots[0]["granted"] + window_s, min(slots[-1]["granted"], until_s) - window_s
    assert ended - began >= 18 * window_s, "a run that is too short to measure"
    lost_s = sum(
        max(0.0, min(ended, granted + 30 + window_s) - max(began, granted))
        for granted, head in slots
        if head is None
    )
    within = [(granted, head) for granted, head in slots if head and began <= granted <= ended]
    mean_s = sum(head - granted for granted, head in within) / len(within)
    held_s = limit * (ended - began) - lost_s
    possible = held_s / (window_s + mean_s)
    return float(len(within) / possible)
