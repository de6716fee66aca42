"""Databases for the tests that run the command: with the calendars, which take a second to fill."""

from collections.abc import Iterator

import pytest

from tests.conftest import _fresh
from tests.faults.proxy import Proxy

_COMMANDS = (
    *("test_run_", "test_commands_", "test_quarantine", "test_views", "test_validation"),
    "test_gaps",
)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, server: str, template: str) -> Iterator[str]:
    """The URL of a database with the schema; no rows, but sessions where the command is run."""
    if request.module.__name__.rpartition(".")[2].startswith(_COMMANDS):
        template = request.getfixturevalue("with_calendars")
    yield from _fresh(server, template)


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    """A proxy in front of the tests' Postgres."""
    with Proxy.before(server) as running:
        yield running
