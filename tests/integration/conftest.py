"""Databases for the tests that run the command: with the calendars, which take a second to fill."""

from collections.abc import Iterator

import pytest

from backfill.store.pool import Database
from backfill.store.sessions import load_calendar
from tests.conftest import NOW, _execute, _fresh, _in_database, _leave, blocking

_COMMANDS = ("test_run_", "test_commands_", "test_quarantine", "test_views", "test_validation")


@pytest.fixture(scope="session")
def with_calendars(server: str, template: str) -> str:
    """The name of a database that holds the schema and the sessions of both calendars."""

    async def make() -> None:
        await _execute(server, f"CREATE DATABASE with_calendars TEMPLATE {template}")
        async with Database.connect(_in_database(server, "with_calendars")) as database:
            for name in ("XNYS", "24/7"):
                await load_calendar(database, name, NOW.date(), NOW.date())
        await _leave(server, "with_calendars")

    blocking(make())
    return "with_calendars"


@pytest.fixture
def database_url(request: pytest.FixtureRequest, server: str, template: str) -> Iterator[str]:
    """The URL of a database with the schema; no rows, but sessions where the command is run."""
    if request.module.__name__.rpartition(".")[2].startswith(_COMMANDS):
        template = request.getfixturevalue("with_calendars")
    yield from _fresh(server, template)
