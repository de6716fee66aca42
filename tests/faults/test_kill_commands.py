"""Whatever is killed at any instant: the next command ends as if nobody had been (R18)."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Timer
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from backfill.simulator import Action, Fault, Simulator
from tests.conftest import FORKS, NOW, Cli, Ended, _fresh, query
from tests.faults import tables
from tests.faults.command import KEY, Kept
from tests.faults.proxy import Proxy
from tests.integration.test_adopt import THEIRS

AS_OF: Final = ("--as-of", NOW.isoformat())
SERIES: Final = (
    *("--symbols", "AAPL,VTHIN", "-t", "m15", "-t", "h1", "-t", "d1", "-t", "w1"),
    *("--from", "2024-10-28", *AS_OF),
)
# What two databases that are alike may differ in: clocks, ids, and how often was tried.
_OWN: Final = {
    "id",
    "symbol_id",
    "run_id",
    "claimed_by",
    "claimed_until",
    "last_updated",
    "transaction_id",
}
_NOT_COMPARED: Final = {"backfill_runs", "backfill_changes", "provider_quota", "market_sessions"}
_TABLES: Final = """
    SELECT c.relname
    FROM pg_class AS c
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
    ORDER BY c.relname
"""
_SCHEMA: Final = """
    SELECT 'relation', c.oid::regclass::text, c.relkind::text, c.relrowsecurity::text,
        c.reloptions::text, c.relacl::text, pg_get_viewdef(c.oid)
    FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'S')
    UNION ALL
    SELECT 'column', a.attrelid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod),
        a.attnotnull::text, a.attidentity::text, pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind IN ('r', 'v')
    LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef, '', '', ''
    FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT 'policy', tablename, policyname, roles::text, cmd, qual, with_check
    FROM pg_policies WHERE schemaname = 'public'
    UNION ALL
    SELECT 'label', enumtypid::regtype::text, enumlabel, '', '', '', '' FROM pg_enum
    UNION ALL
    SELECT 'function', oid::regprocedure::text, prosrc, '', '', '', ''
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    ORDER BY 1, 2, 3, 4
"""
Content = dict[str, list[str]]


@dataclass(frozen=True)
class Scene:
    """A database, and the command for it."""

    url: str
    simulator: Simulator

    def cli(self, url: str | None = None) -> Cli:
        return Cli(
            {
                "DATABASE_URL": url or self.url,
                "BACKFILL_PROVIDER_URL": self.simulator.url,
                "MASSIVE_API_KEY": KEY,
                "BACKFILL_QUOTA": "unlimited",
            }
        )

    def do(self, *arguments: str, code: int = 0) -> Ended:
        ended = self.cli()(*arguments)
        assert ended.code == code, ended.err
        return ended


def loaded(scene: Scene) -> None:
    scene.do("run", *SERIES)


def holed(scene: Scene) -> None:
    loaded(scene)
    tables.execute(scene.url, "DELETE FROM ohlc_bars WHERE extract(minute FROM ts) = 30")


def with_a_bad_day(scene: Scene) -> None:
    scene.simulator.inject(Fault(action=Action.EDIT_BARS, path="/day/", bar={"h": 0.01}))
    scene.do("run", *SERIES, code=1)
    scene.simulator.clear_faults()


def watched(scene: Scene) -> None:
    scene.do(
        "watch",
        "add",
        "--offline",
        "AAPL",
        "MSFT",
        "NVDA",
        "-t",
        "d1",
        "-t",
        "h1",
        "--since",
        "30d",
    )


def foreign(scene: Scene) -> None:
    strays = """
        INSERT INTO ohlc_bars (symbol_id, timeframe, ts, open, high, low, close, volume, provider)
        SELECT s.id, 'd1', '2024-10-01 05:00Z'::timestamptz + n * interval '7 hours',
            1, 2, 1, 1.5, 10, 'yfinance'
        FROM symbols AS s, generate_series(0, 99) AS n
        WHERE s.ticker IN ('AAPL', 'MSFT')
    """
    tables.execute(scene.url, *THEIRS.split(";\n")[:-1], strays)


def nothing(scene: Scene) -> None:
    pass


# The command that is killed, what was there before it, and whether that has a schema.
COMMANDS: Final[dict[str, tuple[tuple[str, ...], Callable[[Scene], None], bool]]] = {
    "run": (("run", *SERIES), nothing, True),
    "reload": (("run", "--reload", *SERIES), loaded, True),
    "repair": (("gaps", "--repair", *AS_OF), holed, True),
    "migrate": (("migrate",), nothing, False),
    "adopt": (("migrate", "--adopt"), foreign, False),
    "adopt-clean": (("migrate", "--adopt", "--clean"), foreign, False),
    "quarantine-retry": (("quarantine", "retry", "--all"), with_a_bad_day, True),
    "quarantine-accept": (("quarantine", "accept", "--all"), with_a_bad_day, True),
    "watch-add": (
        ("watch", "add", "--offline", "AAPL", "MSFT", "X:BTCUSD", "--since", "2y"),
        watched,
        True,
    ),
    "watch-remove": (("watch", "remove", "AAPL", "MSFT"), watched, True),
    "watch-pause": (("watch", "pause", "AAPL", "MSFT"), watched, True),
    "symbols-add": (("symbols", "add", "AAPL", "MSFT", "TSLA"), watched, True),
    "symbols-alias": (
        ("symbols", "alias", "add", "AAPL", "APPL", "--until", "2020-01-02"),
        watched,
        True,
    ),
}
IN_TEST: Final = ("repair",)


def content(url: str) -> Content:
    """What a database holds, and how, but for what differs from run to run."""
    found = {"schema": sorted(str(tuple(row)) for row in query(url, _SCHEMA))}
    names = [row[0] for row in query(url, _TABLES)]
    tickers = {row["id"]: row["ticker"] for row in query(url, "SELECT id, ticker FROM symbols")}
    for name in set(names) - _NOT_COMPARED:
        found[name] = sorted(
            str([tickers.get(row.get("symbol_id")), *_comparable(row)])
            for row in map(dict, query(url, f"SELECT * FROM {name}"))
        )
    return found


def _comparable(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if name not in _OWN:
            yield name, value is not None if name.endswith("_at") else value


@dataclass(frozen=True)
class Undisturbed:
    """How a command ends that nobody kills, when it is given once and again, and what is then."""

    codes: set[int]
    content: Content
    lasted_s: float
    blocks: int


def undisturbed(scene: Scene, arguments: tuple[str, ...], proxy: Proxy) -> Undisturbed:
    before = proxy.sent
    began = monotonic()
    first = scene.cli(proxy.url(scene.url))(*arguments)
    lasted_s, blocks = monotonic() - began, proxy.sent - before
    assert first.code == 0, first.err
    held = content(scene.url)
    again = scene.cli()(*arguments)
    assert content(scene.url) == held, "the second time changes what the first has done"
    return Undisturbed({0, again.code}, held, lasted_s, blocks)


def killed(
    scene: Scene,
    arguments: tuple[str, ...],
    proxy: Proxy,
    chance: random.Random,
    known: Undisturbed,
) -> int:
    """Run a command and kill it at a random time, or when it says a random thing to the store."""
    environment = scene.cli(proxy.url(scene.url)).environment_with({})
    at_s = chance.uniform(0, 1.05 * known.lasted_s)
    at_block = chance.randint(1, known.blocks)
    way = chance.choice(["time", "before", "after"])
    with FORKS.start(list(arguments), environment) as going:
        timer = Timer(at_s, going.kill)
        if way == "time":
            timer.start()
        else:
            proxy.at_block(at_block, going.kill, arrives=way == "after")
        try:
            code, out, err = going.end(120)
        finally:
            timer.cancel()
            proxy.cut()
    assert code in {-9, *known.codes}, err
    assert KEY not in out + err
    return code


@pytest.fixture
def kinds(server: str, template: str, with_calendars: str) -> Callable[[bool], Any]:
    """Make a database, with a schema and calendars or with nothing; as a context."""
    return lambda has_schema: contextmanager(_fresh)(
        server, with_calendars if has_schema else "template1"
    )


@pytest.mark.attack(6)
@pytest.mark.parametrize(
    ("name", "kills"),
    [
        *((name, 1) for name in IN_TEST),
        *(pytest.param(name, 15, marks=pytest.mark.soak) for name in COMMANDS),
    ],
    ids=str,
)
def test_the_next_command_ends_as_if_none_had_been_killed(
    name: str,
    kills: int,
    provider: Callable[..., Simulator],
    server: str,
    proxy: Proxy,
    kept: Kept,
    kinds: Callable[[bool], Any],
) -> None:
    arguments, before, has_schema = COMMANDS[name]
    chance = random.Random(f"{name} {kills}")
    simulator = provider(plan="unlimited")
    with kinds(has_schema) as url:
        before(Scene(url, simulator))
        start = urlsplit(url).path[1:]
        with contextmanager(_fresh)(server, start) as once:
            known = undisturbed(Scene(once, simulator), arguments, proxy)
        for number in range(kills):
            with contextmanager(_fresh)(server, start) as one:
                scene = Scene(one, simulator)
                code = killed(scene, arguments, proxy, chance, known)
                if query(one, "SELECT to_regclass('backfill_progress')")[0][0]:
                    tables.expire_leases(one)
                ended = scene.cli()(*arguments)
                kept.ended += [Ended(code, "", ""), ended]
                assert ended.code in known.codes, (name, number, ended.err)
                assert "Traceback" not in ended.err
                found = content(one)
                for table, rows in known.content.items():
                    assert found[table] == rows, (name, number, table)
                assert tables.leases(one) == 0
                assert {row[1] for row in tables.ledger(one)} <= {
                    "ok",
                    "partial",
                    "interrupted",
                    "running",
                }
