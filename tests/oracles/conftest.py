"""The Python of the oracles."""

import os

import pytest


@pytest.fixture(scope="module")
def python() -> str:
    """The Python that has the clients."""
    found = os.environ.get("BACKFILL_ORACLES")
    if not found:
        pytest.skip("make oracles installs the clients")
    return found
