"""What somebody else puts in a schema under the name of PostgreSQL's own is never called (R28)."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final
from uuid import uuid4

import pytest

from backfill import api
from backfill.core.work import Mode
from backfill.errors import SchemaMismatch
from backfill.simulator import Simulator
from backfill.store.migrate import migrate
from backfill.store.pool import Database
from tests.conftest import Cli, blocking, query
from tests.integration.store_kit import connection_to
from tests.integration.test_run_hosts import JOB, set_default, settings_of

BAIT: Final = "a shadow was called"

SAME: Final = (
    "now()", "clock_timestamp()", "to_regclass(text)", "lower(anyrange)", "upper(anyrange)",
    "current_setting(text)", "unnest(anymultirange)", "isempty(anymultirange)", "quote_ident(text)",
    "has_schema_privilege(text, text)", "pg_advisory_xact_lock(bigint)",
    "date_trunc(text, timestamptz)",
)  # fmt: skip
"""PostgreSQL's own, with its own arguments."""

BETTER: Final = (
    "lower(tstzrange)", "upper(tstzrange)", "unnest(tstzmultirange)", "isempty(tstzmultirange)",
    "date_trunc(text, date)", "array_length(int[], int)", "to_jsonb(text)", "format(text, text)",
)  # fmt: skip
"""With arguments that fit those of our tables better than PostgreSQL's own do."""

OPERATORS: Final = (
    ("*", "tstzmultirange"), ("+", "tstzmultirange"), ("-", "tstzmultirange"), ("&&", "tstzrange"),
    ("=", "name"), ("<>", "text"),
)  # fmt: skip


def _function(schema: str, signature: str, result: str = "boolean") -> str:
    return (
        f"CREATE FUNCTION {schema}.{signature} RETURNS {result} LANGUAGE plpgsql "
        f"AS $$ BEGIN RAISE EXCEPTION '{BAIT}'; END $$"
    )


def _operator(schema: str, sign: str, kind: str, number: int) -> str:
    return f"""
        {_function(schema, f"bait_{number}({kind}, {kind})")};
        CREATE OPERATOR {schema}.{sign} (
            LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = {schema}.bait_{number}
        )
    """


async def bait(url: str, role: str, schema: str, *signatures: str, operators: bool = False) -> None:
    """Have somebody else make functions, and operators, in a schema."""
    async with connection_to(url) as owner, owner.transaction():
        await owner.execute(f"GRANT CREATE, USAGE ON SCHEMA {schema} TO {role}")
        await owner.execute(f"SET LOCAL ROLE {role}")
        polymorphic = {"lower(anyrange)": "anyelement", "upper(anyrange)": "anyelement"}
        for one in signatures:
            await owner.execute(_function(schema, one, polymorphic.get(one, "boolean")))
        for number, (sign, kind) in enumerate(OPERATORS if operators else ()):
            await owner.execute(_operator(schema, sign, kind, number))


@pytest.fixture
def stranger(server: str, empty_url: str) -> Iterator[str]:
    """The name of a role that owns nothing of ours."""
    role = f"stranger_{uuid4().hex[:8]}"
    query(server, f"CREATE ROLE {role}")
    yield role
    query(empty_url, f"DROP OWNED BY {role} CASCADE")
    query(server, f"DROP ROLE {role}")


@pytest.mark.attack(3)
async def test_shadows_in_another_schema_of_the_path_are_never_called(
    simulate: Callable[..., Simulator], server: str, empty_url: str, stranger: str
) -> None:
    """Though the database names that schema first, and PostgreSQL's own last."""
    simulator = simulate()
    async with Database.connect(empty_url) as database:
        await migrate(database)
    async with connection_to(empty_url) as owner:
        await owner.execute("CREATE SCHEMA elsewhere; GRANT USAGE ON SCHEMA elsewhere TO PUBLIC")
    await bait(empty_url, stranger, "elsewhere", *SAME, *BETTER, operators=True)
    await set_default(server, empty_url, search_path="elsewhere, public, pg_catalog")
    settings = settings_of(empty_url, simulator)
    first = await api.run(settings, JOB)
    again = await api.run(settings, replace(JOB, mode=Mode.incremental))
    assert (first.exit_code, again.exit_code, again.calls) == (0, 0, 0)
    assert first.bars.inserted > 0
    assert not (await api.gaps(settings, JOB.as_of)).gaps


@pytest.mark.attack(3)
async def test_shadows_of_the_same_arguments_in_our_own_schema_are_never_called(
    simulate: Callable[..., Simulator], empty_url: str, stranger: str
) -> None:
    await bait(empty_url, stranger, "public", *SAME)
    summary = await api.run(settings_of(empty_url, simulate()), JOB)
    assert (summary.exit_code, summary.bars.inserted > 0) == (0, True)


@pytest.mark.attack(3)
@pytest.mark.parametrize("what", ["unnest(tstzmultirange)", "operators"])
async def test_shadows_in_our_own_schema_that_would_be_called_are_refused_before_anything_is_done(
    simulate: Callable[..., Simulator], empty_url: str, stranger: str, what: str
) -> None:
    one = () if what == "operators" else (what,)
    await bait(empty_url, stranger, "public", *one, operators=not one)
    simulator = simulate()
    with pytest.raises(SchemaMismatch, match=f"of {stranger} would be called"):
        await api.run(settings_of(empty_url, simulator), JOB)
    assert not simulator.calls
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    [count] = (await asyncio.to_thread(query, empty_url, tables))[0]
    assert count == 0


@pytest.mark.attack(3)
def test_a_shadow_is_told_in_one_line_by_every_command(
    cli: Callable[..., Cli], simulate: Callable[..., Simulator], empty_url: str, stranger: str
) -> None:
    blocking(bait(empty_url, stranger, "public", "lower(tstzrange)"))
    run = cli(simulate(), DATABASE_URL=empty_url)
    for command in (("run", "--symbol", "AAPL"), ("status",), ("migrate",)):
        ended = run(*command)
        assert ended.code == 3, ended.err
        [line] = ended.err.splitlines()
        assert "lower(tstzrange)" in line
        assert "drop it" in line
