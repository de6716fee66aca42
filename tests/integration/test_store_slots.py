"""The quota's ledger in the database grants what the model does, and never twice (R13, R14)."""

import json
from collections.abc import Iterator
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill.core.terms import Quota
from backfill.store import quota as store
from backfill.store import quote
from backfill.store.pool import Database
from backfill.store.quota import DatabaseSlots
from tests.conftest import _fresh, blocking
from tests.integration.store_kit import connection_to, emptied
from tests.ledger import SECOND, Ledger, Windows

SECRET: Final = "sk-live-12345678"
EPOCH: Final = datetime(2024, 11, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def shared_url(server: str, template: str) -> Iterator[str]:
    """The URL of a database that the tests of this file take turns with."""
    yield from _fresh(server, template)


@pytest.fixture
def database_url(shared_url: str) -> str:
    """The URL of a database with the schema and no rows."""
    return emptied(shared_url)


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


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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
