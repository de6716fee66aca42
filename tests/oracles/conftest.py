"""The Python of the oracles."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def python() -> str:
    """The Python that has the clients."""
    found = os.environ.get("BACKFILL_ORACLES")
    if not found:
        pytest.skip("make oracles installs the clients")
    # `make` names it from here, and a test starts it elsewhere. It is a link, and stays one.
    return str(Path(found).absolute())
