"""The plugin of `make reliability`: notes what tests see while it is there, and writes the page.

A test of `tests/faults` shows a fault; one that is marked `attack(N)`, wherever it stands, shows
point N of the attack. Nothing else is run.
"""

import json
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.conftest import RAN
from tests.faults import reliability, tables
from tests.faults.reliability import Attacked, Observed


class Recording:
    """What was seen, in the process that writes the page."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._observed: list[Observed] = []
        self._attacked: list[Attacked] = []

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out what enters no row."""
        wanted = [item for item in items if _of_a_fault(item) or _points(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
        items[:] = wanted

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Function) -> Generator[None, None, None]:
        """Note what a test saw, or why it saw nothing."""
        tables.last_check()
        RAN.clear()
        try:
            yield
        except pytest.skip.Exception as reason:
            _note(item, f"not run here: {reason}")
            raise
        except Exception:
            _note(item, "this test failed")
            raise
        _note(item, None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what the process that ran the test has noted."""
        if report.when == "teardown":
            for name, value in report.user_properties:
                if name == "observed":
                    self._observed.append(Observed(**json.loads(str(value))))
                elif name == "attacked":
                    self._attacked.append(Attacked(**json.loads(str(value))))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the page: what was seen, and what it has of the tests that were not run."""
        if hasattr(session.config, "workerinput"):
            return
        before, held = reliability.earlier(self._page.read_text())
        ran = {(one.module, one.fault.partition(" (")[0]) for one in self._observed}
        observed = self._observed + [
            one for one in before if (one.module, one.fault.partition(" (")[0]) not in ran
        ]
        rows = list(reliability.rows(self._attacked))
        made = {(one.point, one.path, one.attack) for one in rows}
        rows += [one for one in held if (one.point, one.path, one.attack) not in made]
        self._page.write_text(reliability.render(observed, rows))


def _of_a_fault(item: pytest.Item) -> bool:
    return item.path.parent == reliability.FOLDER


def _points(item: pytest.Item) -> list[int]:
    return [point for mark in item.iter_markers("attack") for point in mark.args]


def _note(item: pytest.Function, reason: str | None) -> None:
    # A property of the test reaches the process that writes the page, whichever ran the test.
    if _of_a_fault(item):
        seen = reliability.observe(item) if reason is None else reliability.unseen(item, reason)
        item.user_properties.append(("observed", json.dumps(asdict(seen))))
    for point in _points(item):
        attacked = reliability.attacked(item, point, RAN, reason)
        item.user_properties.append(("attacked", json.dumps(asdict(attacked))))
