"""The quota's ledger in the database grants what the model does, and never twice (R13, R14)."""

import asyncio
import json
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.core.terms import Quota
from backfill.errors import DatabaseError
from backfill.store import quota as store
from backfill.store import quote
from backfill.store.pool import Database
from backfill.store.quota import DatabaseSlots, key_id
from tests.conftest import blocking
from tests.faults.proxy import Proxy
from tests.integration.store_kit import connection_to, rows, value
from tests.ledger import SECOND, Ledger, Windows

pytestmark = pytest.mark.one_database

SECRET: Final = "sk-live-12345678"
EPOCH: Final = datetime(2024, 11, 12, tzinfo=UTC)


def slots_of(database: Database, quota: str, key: str = SECRET) -> DatabaseSlots:
    return DatabaseSlots(database, "massive", key, Quota.parse(quota))


# The ledger's own functions, held against the model.

_TURN: Final = """
    WITH turn AS (
        SELECT t.*
        FROM provider_quota AS q
        CROSS JOIN quota_turn(q, {at}, {process}, {first}, {costs}, {limits}, {periods}) AS t
    )
    UPDATE provider_quota
    SET calls = (held).calls, tickets = (held).tickets, longest = (held).longest
    FROM turn
    RETURNING granted, (extract(epoch FROM told - {epoch}) * 1000000)::bigint AS told
"""
_ROW: Final = """
    SELECT
        ARRAY(
            SELECT json_build_array(
                id, cost, (extract(epoch FROM latest - {epoch}) * 1000000)::bigint, open
            )::text
            FROM unnest(calls)
        ) AS calls,
        ARRAY(
            SELECT json_build_array(
                process, cost, waiting,
                (extract(epoch FROM since - {epoch}) * 1000000)::bigint,
                (extract(epoch FROM told - {epoch}) * 1000000)::bigint
            )::text
            FROM unnest(tickets)
        ) AS tickets
    FROM provider_quota
"""
_AT_EPOCH: Final = "'2024-11-12 00:00Z'::timestamptz"


def _at(us: int) -> str:
    return f"({_AT_EPOCH} + interval '{us} microseconds')"


WINDOWS: Final = st.sampled_from(
    [
        [(3, SECOND)],
        [(5, 60 * SECOND)],
        [(2, SECOND), (7, 20 * SECOND)],
        [(250, 2 * SECOND)],
        [(4, SECOND), (400, 3600 * SECOND)],
        [],
    ]
)
STEP: Final = st.one_of(
    st.tuples(
        st.just("take"), st.integers(1, 4), st.lists(st.integers(1, 3), max_size=6), st.booleans()
    ),
    st.tuples(st.just("answer"), st.integers(0, 9), st.integers(0, SECOND), st.booleans()),
    st.tuples(st.just("give back"), st.integers(0, 9), st.integers(1, 4), st.booleans()),
    st.tuples(st.just("pause"), st.integers(0, 3 * SECOND), st.none(), st.booleans()),
)
WAIT: Final = st.one_of(
    st.integers(0, SECOND // 2), st.integers(0, 3 * SECOND), st.integers(0, 90 * SECOND)
)


class _Both:
    """The database's row and the model, taken through the same steps."""

    def __init__(self, connection: Any, windows: Windows) -> None:
        self.model = Ledger()
        self._connection = connection
        self._windows = windows
        self._next = 1000

    async def step(self, at: int, step: Any) -> None:
        kind, one, two, told = step
        open_ids = sorted(call.id for call in self.model.calls if call.id is not None)
        if kind == "take":
            await self._take(at, one, two)
        elif kind == "pause":
            self.model.pause(at, one)
            await self._connection.execute(
                "UPDATE provider_quota SET paused_until = "
                f"greatest(paused_until, {_at(at)} + interval '{one} microseconds')"
            )
        elif open_ids:
            chosen = open_ids[one % len(open_ids)]
            answered = [(chosen, two)] if kind == "answer" else []
            unwritten = [chosen] if kind == "give back" else []
            leaving = two if kind == "give back" and told else -1
            self.model.note(at, answered, unwritten, leaving)
            await self._note(at, answered, unwritten, leaving)
        await self._compare()

    async def _take(self, at: int, process: int, costs: list[int]) -> None:
        limit = min((calls for calls, _ in self._windows), default=9)
        costs = [min(cost, limit) for cost in costs]
        first, self._next = self._next, self._next + len(costs)
        expected = self.model.take(at, process, first, costs, self._windows)
        row = await self._connection.fetchrow(
            _TURN.format(
                at=_at(at),
                process=process,
                first=first,
                costs=quote.integers(costs, "integer"),
                limits=quote.integers((calls for calls, _ in self._windows), "integer"),
                periods=quote.intervals(period / SECOND for _, period in self._windows),
                epoch=_AT_EPOCH,
            )
        )
        assert tuple(row) == expected

    async def _note(
        self, at: int, answered: list[tuple[int, int]], unwritten: list[int], leaving: int
    ) -> None:
        await self._connection.execute(
            store._NOTE.replace("clock_timestamp()", _at(at)).format(
                answered=quote.integers(call for call, _ in answered),
                ago=quote.intervals(ago / SECOND for _, ago in answered),
                unwritten=quote.integers(unwritten),
                leaving=leaving,
                provider="'p'",
                key="'k'",
            )
        )

    async def _compare(self) -> None:
        row = await self._connection.fetchrow(_ROW.format(epoch=_AT_EPOCH))
        assert sorted(row["calls"]) == sorted(map(_written, self.model.calls))
        assert sorted(row["tickets"]) == sorted(map(_written, self.model.tickets))


def _written(one: Any) -> str:
    return json.dumps(astuple(one))


@given(windows=WINDOWS, steps=st.lists(st.tuples(WAIT, STEP), min_size=4, max_size=25))
def test_the_databases_ledger_does_what_the_model_does(
    shared_url: str, windows: Windows, steps: list[Any]
) -> None:
    async def play() -> None:
        async with connection_to(shared_url) as connection:
            trial = connection.transaction()
            await trial.start()
            await connection.execute("TRUNCATE provider_quota")
            await connection.execute(
                "INSERT INTO provider_quota (provider, key_id) VALUES ('p', 'k')"
            )
            both, at = _Both(connection, windows), SECOND
            for wait, step in steps:
                at += wait
                await both.step(at, step)
            await trial.rollback()

    blocking(play())


# What only the database itself can show.


_WAITING: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


async def test_a_taking_counts_what_was_committed_while_it_waited_for_the_lock(
    database: Database, database_url: str
) -> None:
    """A statement that counts under a snapshot older than its lock would grant twice."""
    for isolation in ("read committed", "repeatable read", "serializable"):
        await rows(database, "TRUNCATE provider_quota")
        slots = slots_of(database, "5/60s")
        await slots.take([])
        async with connection_to(database_url) as holder, connection_to(database_url) as watcher:
            held = holder.transaction()
            await held.start()
            await holder.execute(_taking("holder", 4))
            waiting = asyncio.ensure_future(_isolated(database_url, isolation, "other", 4))
            for _ in range(1000):
                if await watcher.fetchval(_WAITING):
                    break
                await asyncio.sleep(0.01)
            await held.commit()
            assert await waiting in (1, "refused"), isolation
        granted = await value(database, "SELECT cardinality(calls) FROM provider_quota")
        assert granted == (5 if isolation == "read committed" else 4)


def _taking(process: str, calls: int) -> str:
    return (
        f"SELECT granted FROM quota_take('massive', '{key_id('massive', SECRET)}', "
        f"{len(process)}, {1000 * len(process)}, {quote.integers([1] * calls, 'integer')}, "
        "'{5}', '{60 s}')"
    )


async def _isolated(url: str, isolation: str, process: str, calls: int) -> Any:
    level = isolation.replace(" ", "_")
    async with connection_to(url) as connection:
        try:
            async with connection.transaction(isolation=level):
                return await connection.fetchval(_taking(process, calls))
        except asyncpg.SerializationError:
            return "refused"


async def test_many_processes_at_once_are_granted_as_much_as_there_is(database_url: str) -> None:
    async with Database.connect(database_url) as first, Database.connect(database_url) as second:
        takers = [slots_of(one, "20/60s") for one in (first, second) * 3]
        taken = await asyncio.gather(*(one.take([1, 2]) for one in takers for _ in range(6)))
        costs = sum(len(one.calls) + (len(one.calls) == 2) for one in taken)
        assert 19 <= costs <= 20
        calls = [call for one in taken for call in one.calls]
        assert len(set(calls)) == len(calls)


async def test_a_taking_and_a_note_are_one_round_trip_each(database_url: str, proxy: Proxy) -> None:
    async with Database.connect(proxy.url(database_url)) as database:
        slots = slots_of(database, "5/60s")
        await slots.take([1])
        before = proxy.round_trips
        taken = await slots.take([1, 1, 1])
        assert proxy.round_trips - before == 1
        await slots.note([(call, 0.0) for call in taken.calls[:2]], taken.calls[2:])
        assert proxy.round_trips - before == 2


async def test_the_next_run_goes_on_with_the_windows_that_the_last_one_has_filled(
    database_url: str,
) -> None:
    async with Database.connect(database_url) as database:
        slots = slots_of(database, "3/60s,5/1d")
        taken = await slots.take([1, 1, 1])
        await slots.note([(call, 10.0) for call in taken.calls], [], leaving=True)
    async with Database.connect(database_url) as database:
        again = await slots_of(database, "3/60s,5/1d").take([1])
        assert again.calls == ()
        assert 49 < again.wait_s < 50.1


async def test_a_taking_that_failed_gives_back_with_the_next_note_what_it_may_have_taken(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots, asked = slots_of(database, "5/60s"), database.row_at_once

    async def lost(query: str) -> list[str]:
        await asked(query)
        raise DatabaseError("the answer was lost")

    with monkeypatch.context() as broken:
        broken.setattr(database, "row_at_once", lost)
        with pytest.raises(DatabaseError):
            await slots.take([1, 1])
    assert await value(database, "SELECT cardinality(calls) FROM provider_quota") == 2
    await slots.note([], [], leaving=True)
    assert await value(database, "SELECT cardinality(calls) FROM provider_quota") == 0


async def test_a_pause_holds_for_all_who_take_and_a_shorter_one_does_not_end_it(
    database: Database,
) -> None:
    first, second = slots_of(database, "5/60s"), slots_of(database, "unlimited")
    await first.pause(30)
    await second.pause(1)
    for slots in (first, second):
        taken = await slots.take([1])
        assert taken.calls == ()
        assert 29 < taken.wait_s <= 30
    await first.pause(60)
    assert (await second.take([1])).wait_s > 59


async def test_unlimited_takes_no_slot(database: Database) -> None:
    slots = slots_of(database, "unlimited")
    assert len((await slots.take([1] * 50)).calls) == 50
    assert await value(database, "SELECT cardinality(calls) FROM provider_quota") == 0


async def test_a_slot_or_a_pause_of_one_key_or_provider_is_no_matter_of_another(
    database: Database,
) -> None:
    first = slots_of(database, "1/60s")
    await first.take([1])
    await first.pause(30)
    other_key = slots_of(database, "1/60s", key="another")
    other_provider = DatabaseSlots(database, "other", SECRET, Quota.parse("1/60s"))
    for slots in (other_key, other_provider):
        assert len((await slots.take([1])).calls) == 1


async def test_a_doubtful_clock_has_every_call_count_anew(database: Database) -> None:
    slots = slots_of(database, "3/60s,9/1h")
    taken = await slots.take([1, 1])
    await slots.note([(taken.calls[0], 0.0)], [])
    await rows(
        database,
        """
        UPDATE provider_quota SET paused_until = now() + interval '1 year', calls = ARRAY(
            SELECT ROW(id, cost, latest + interval '1 year', open)::quota_call FROM unnest(calls)
        )
        """,
    )
    await slots.doubt(5)
    left = await rows(
        database,
        "SELECT open, extract(epoch FROM latest - clock_timestamp())::float8 AS left_s "
        "FROM provider_quota, unnest(calls) ORDER BY open",
    )
    assert [row["open"] for row in left] == [False, True]
    assert -2 < left[0]["left_s"] <= 0
    assert 28 < left[1]["left_s"] <= 30
    assert 3 < (await slots.take([1])).wait_s <= 5


async def test_a_large_quota_costs_no_more_than_a_small_one(database: Database) -> None:
    slots = slots_of(database, "100000/1d,1000/1m")
    for _ in range(40):
        taken = await slots.take([1] * 25)
        await slots.note([(call, 0.0) for call in taken.calls], [])
    await slots.take([1])
    kept, cost = (
        await rows(
            database,
            "SELECT cardinality(calls), (SELECT sum(cost) FROM unnest(calls)) FROM provider_quota",
        )
    )[0]
    assert kept <= 400
    assert cost == 1000


async def test_the_row_of_a_key_does_not_give_the_key_away(database: Database) -> None:
    await slots_of(database, "5/60s").take([1])
    row = await value(database, "SELECT q::text FROM provider_quota AS q")
    assert SECRET not in row
    assert not any(SECRET[n : n + 5] in row for n in range(len(SECRET) - 4))
    assert key_id("massive", SECRET) in row
    assert len({key_id(*pair) for pair in (("a", "k"), ("b", "k"), ("a", "l"))}) == 3


async def test_nobody_but_the_runner_may_call_the_functions(database: Database) -> None:
    callable_by = await rows(
        database,
        """
        SELECT p.proname, a.grantee::regrole::text AS grantee
        FROM pg_proc AS p CROSS JOIN LATERAL aclexplode(p.proacl) AS a
        WHERE p.proname LIKE 'quota_%' AND a.grantee <> p.proowner
        """,
    )
    assert {tuple(row) for row in callable_by} == {
        ("quota_take", "backfill_runner"),
        ("quota_turn", "backfill_runner"),
    }


# Values in statements.


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_a_text_is_quoted_as_the_server_quotes_it(shared_url: str, texts: list[str]) -> None:
    async def ask() -> None:
        async with connection_to(shared_url) as connection:
            for strings in ("on", "off"):
                await connection.execute(f"SET standard_conforming_strings = {strings}")
                for text in texts:
                    assert await connection.fetchval("SELECT quote_literal($1)", text) == (
                        quote.text(text)
                    )
                    async with connection.transaction():
                        assert await connection.fetchval(f"SELECT {quote.text(text)}::text") == text

    blocking(ask())


@pytest.mark.parametrize("unfit", ["a\0b", "\ud800"])
def test_a_text_that_the_database_can_not_hold_is_no_literal(unfit: str) -> None:
    with pytest.raises(ValueError, match="can't store"):
        quote.text(unfit)
