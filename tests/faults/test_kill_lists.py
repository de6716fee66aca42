"""Whoever is killed behind its last page owes the lists of splits: the next run reads them (R18).

Until then the adjusted prices lack a split, though every bar is in place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

import pytest

from backfill.simulator import Action, Fault, Simulator
from tests.conftest import FORKS, Cli, Ended, query
from tests.faults import tables
from tests.faults.command import KEY, Kept
from tests.faults.proxy import Proxy

BEFORE: Final = datetime(2024, 6, 8, 12, tzinfo=UTC)
"""The Saturday before a split of SPLT that is announced by then."""
AFTER: Final = datetime(2024, 6, 12, 12, tzinfo=UTC)
CLOSES: Final = """
    SELECT a.close
    FROM ohlc_bars_adjusted AS a
    JOIN symbols AS s ON s.id = a.symbol_id
    WHERE s.ticker = 'SPLT'
    ORDER BY a.ts
"""
OWED: Final = "SELECT run_id FROM backfill_runs WHERE lists_owed <> '{}'"
CLAIMED: Final = "SELECT kind FROM action_syncs WHERE claimed_by IS NOT NULL"


@dataclass(frozen=True)
class Scene:
    """A symbol that is kept from before its split on, in a database behind a proxy."""

    simulator: Simulator
    cli: Cli
    proxy: Proxy
    kept: Kept
    url: str

    def run(self, *options: str, symbol: str = "SPLT", at: datetime = AFTER) -> Ended:
        self.simulator.set_now(at)
        ended = self.cli(*asked(symbol, at), *options)
        self.kept.ended.append(ended)
        return ended

    def killed_at(self, sent: bytes) -> None:
        """Run until this is sent to the database, which it doesn't reach any more."""
        self.simulator.set_now(AFTER)
        environment = self.cli.environment_with({"DATABASE_URL": self.proxy.url(self.url)})
        with FORKS.start(asked("SPLT", AFTER), environment) as going:
            self.proxy.act_at(sent, going.kill)
            code, _, err = going.end(60)
        self.proxy.cut()
        self.kept.ended.append(Ended(code, "", ""))
        assert code == -9, err

    def lists_since(self, calls: int) -> list[str]:
        return [call.path.rpartition("/")[2] for call in self.simulator.calls[calls:]]

    @property
    def leap(self) -> float:
        """By how much an adjusted close is from the next one, at most, as a ratio."""
        closes: list[float] = [row["close"] for row in query(self.url, CLOSES)]
        return max(max(pair) / min(pair) for pair in pairwise(closes))


def asked(symbol: str, at: datetime) -> list[str]:
    return [
        *("run", "--symbol", symbol, "--from", "2024-06-03", "--json"),
        *("--as-of", at.isoformat()),
    ]


@pytest.fixture
def scene(provider: Callable[..., Simulator], proxy: Proxy, kept: Kept, database_url: str) -> Scene:
    simulator = provider(plan="unlimited")
    environment = {
        "DATABASE_URL": database_url,
        "BACKFILL_PROVIDER_URL": simulator.url,
        "MASSIVE_API_KEY": KEY,
        "BACKFILL_QUOTA": "unlimited",
    }
    scene = Scene(simulator, Cli(environment), proxy, kept, database_url)
    assert scene.run(at=BEFORE).code == 0
    return scene


@pytest.mark.attack(6)
@pytest.mark.parametrize(
    ("at", "lists"),
    [
        pytest.param(
            *(b"INSERT INTO action_syncs", ["splits", "dividends"]),
            id="before-the-lists",
            marks=pytest.mark.soak,
        ),
        pytest.param(b"INSERT INTO splits", ["splits", "dividends"], id="while-splits-are-read"),
        pytest.param(b"SELECT DISTINCT ON (s.id", ["dividends"], id="before-splits-are-judged"),
        pytest.param(
            *(b"INSERT INTO dividends", ["dividends"]),
            id="while-dividends-are-read",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_a_run_with_nothing_due_reads_the_lists_that_a_killed_one_owes(
    at: bytes, lists: list[str], scene: Scene
) -> None:
    scene.killed_at(at)
    tables.expire_leases(scene.url)
    sent = len(scene.simulator.calls)

    ended = scene.run()

    assert (ended.code, ended.json["calls"]) == (0, 0), ended.err
    assert scene.lists_since(sent) == lists
    assert scene.leap < 1.5
    assert not query(scene.url, OWED)
    assert not query(scene.url, CLAIMED)
    assert [status for _, status, _ in tables.ledger(scene.url)] == ["ok", "interrupted", "ok"]
    assert scene.run().json["lookups"] == 0


def test_a_run_that_is_killed_while_it_lists_is_waited_for_until_it_counts_as_dead(
    scene: Scene,
) -> None:
    scene.killed_at(b"INSERT INTO splits")
    tables.expire_leases(scene.url, after="2 s")
    sent = len(scene.simulator.calls)
    assert scene.run().json["calls"] == 0
    assert scene.lists_since(sent) == ["splits", "dividends"]
    assert scene.leap < 1.5


def test_a_run_that_had_to_stop_before_the_lists_leaves_them_to_one_of_coins_alone(
    scene: Scene,
) -> None:
    stopped = scene.run("--max-calls", "1")
    assert (stopped.code, stopped.json["calls"]) == (0, 1)
    assert query(scene.url, OWED)
    sent = len(scene.simulator.calls)
    coins = scene.run("--max-calls", "4", symbol="X:BTCUSD")
    assert (coins.code, coins.json["calls"]) == (0, 1), coins.err
    assert scene.lists_since(sent)[1:] == ["splits", "dividends"]
    assert scene.leap < 1.5
    assert not query(scene.url, OWED)


def test_a_list_that_is_refused_is_owed_to_nobody(scene: Scene) -> None:
    scene.simulator.inject(Fault(action=Action.STATUS, status=403, path="splits"))
    assert scene.run().code == 0
    assert not query(scene.url, OWED)
    assert not query(scene.url, CLAIMED)
    sent = len(scene.simulator.calls)
    assert scene.run().code == 0
    assert scene.lists_since(sent) == []
