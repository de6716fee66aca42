"""The demo: a simulated market, a real Postgres of its own, and the commands a user would type."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which
from typing import Any, Final

from backfill.cli import edge
from backfill.core.terms import Quota
from backfill.errors import BackfillError
from backfill.settings import Settings
from backfill.settings.account import keyless
from backfill.store.embedded import embedded_postgres

SYMBOLS: Final = (
    "AAPL", "MSFT", "NVDA", "TSLA", "AMZN", "GOOGL", "META", "SPY", "QQQ", "JPM", "BRK.B",
    "THIN", "NEWCO", "X:BTCUSD",
)  # fmt: skip
QUOTA: Final = "20/3s"
TODAY: Final = datetime(2026, 3, 10, 12, tzinfo=UTC)
_KEY: Final = "demo-key"
_SQL: Final = """SELECT s.ticker, COUNT(*) AS bar_count, MAX(o.ts) AS newest_bar
FROM ohlc_bars o JOIN symbols s ON s.id = o.symbol_id
WHERE o.timeframe = 'd1' GROUP BY s.ticker ORDER BY s.ticker;"""


def run() -> int:
    """Run the demo and return its exit code: 0 if everything went as it should."""
    say = _Narrator()
    with tempfile.TemporaryDirectory(prefix="backfill-demo-") as folder:
        say.title("A market to fetch from, and a database to keep it in")
        with embedded_postgres(Path(folder)) as database, _simulator() as provider:
            say.text(f"A simulated market speaks the provider's protocol at {provider}, and counts")
            say.text(f"strictly: more than {QUOTA} (5 a minute, sped up 80 times) is refused.")
            say.text("An embedded Postgres runs in a temporary folder; both go when this ends.")
            return _Tour(database, provider, say).walk()


class _Tour:
    """The steps of the demo, each a real command in a process of its own."""

    def __init__(self, database: str, provider: str, say: "_Narrator") -> None:
        self._provider = provider
        self._say = say
        self._environment = {
            **{name: value for name, value in os.environ.items() if not _is_ours(name)},
            "DATABASE_URL": database,
            "BACKFILL_PROVIDER_URL": provider,
            "BACKFILL_QUOTA": QUOTA,
            "MASSIVE_API_KEY": _KEY,
        }

    def walk(self) -> int:
        say = self._say
        say.title(f"{len(SYMBOLS)} symbols × d1, h1, m15, two years deep")
        frames = ["-t", "d1", "-t", "h1", "-t", "m15"]
        self._backfill("watch", "add", *SYMBOLS, *frames, quiet=True)
        as_of = TODAY
        self._backfill("run", "--all", "--dry-run", *_at(as_of), tail=1)
        first = self._run(as_of)

        say.title("The question everybody asks")
        self._query(_SQL)

        as_of += timedelta(days=1)
        say.title("A day passes: only what is new is fetched")
        self._set_clock(as_of)
        second = self._run(as_of)

        say.title("Again, at once: nothing is due, so nothing is called")
        third = self._run(as_of)

        say.title("Is everything there?")
        fresh = self._backfill("status", *_at(as_of), tail=1)
        calls: list[dict[str, Any]] = _control(f"{self._provider}/_sim/calls", None)
        refused = sum(call["over_quota"] for call in calls)
        say.text(f"The provider refused {refused} of {len(calls)} calls for going over the quota.")
        wrong = [
            *unlike(first, "the first run", calls_at_least=1),
            *unlike(second, "the run a day later", calls_at_least=1),
            *unlike(third, "the run with nothing due", calls_at_most=0),
            *(() if fresh == 0 else (f"status ended with exit code {fresh}, not 0",)),
            *too_early(calls, QUOTA),
        ]
        say.title("Not as it should be:" if wrong else "All as it should be.")
        for line in wrong:
            say.text(line)
        if not wrong:
            say.title("What next")
            for line in what_next(_typed()):
                say.text(line)
        return 1 if wrong else 0

    def _run(self, as_of: datetime) -> dict[str, Any]:
        """Run the increment, which is the whole first load where nothing was ever fetched."""
        began = time.monotonic()
        arguments = ["run", "--all", "--incremental", *_at(as_of), "--json"]
        self._say.command(["run", "--all", "--incremental", *_at(as_of)])
        done = self._process(arguments, stderr=None if sys.stderr.isatty() else subprocess.PIPE)
        if not done.stdout:
            said = (done.stderr or b"").decode(errors="replace").strip().splitlines()
            raise BackfillError(
                f"the run ended with exit code {done.returncode} and no summary"
                + (f"; it said: {said[-1]}" if said else "")
            )
        summary: dict[str, Any] = json.loads(done.stdout)
        bars = summary["bars"]
        self._say.text(
            f"{summary['calls']} calls for bars, {summary['lookups']} for reference data, "
            f"{bars['inserted']:,} bars inserted, {bars['updated']:,} updated, "
            f"{bars['unchanged']:,} unchanged, in {time.monotonic() - began:.1f} s; "
            f"{summary['series']['complete']} of {summary['series']['total']} series complete"
        )
        for failure in summary["failures"]:
            self._say.text(f"{failure['symbol']} {failure['timeframe']}: {failure['message']}")
        return summary

    def _backfill(self, *arguments: str, tail: int = 0, quiet: bool = False) -> int:
        self._say.command(list(arguments))
        done = self._process(list(arguments), stderr=None)
        lines = [] if quiet and done.returncode == 0 else done.stdout.decode().splitlines()
        for line in lines[-tail:]:
            self._say.text(line)
        return done.returncode

    def _process(
        self, arguments: list[str], stderr: int | None
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(  # noqa: S603  # our own command, with arguments of our own
            [sys.executable, "-m", "backfill", *arguments],
            env={**self._environment, "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=stderr,
            check=False,
        )

    def _query(self, sql: str) -> None:
        import asyncpg

        async def rows() -> list[Any]:
            connection = await asyncpg.connect(self._environment["DATABASE_URL"])
            try:
                found: list[Any] = await connection.fetch(sql)
                return found
            finally:
                await connection.close()

        for line in sql.splitlines():
            self._say.quoted(line)
        for row in asyncio.run(rows()):
            self._say.text(f"{row[0]:<10} {row[1]:>5}  {row[2]:%Y-%m-%d %H:%M %Z}")

    def _set_clock(self, now: datetime) -> None:
        _control(f"{self._provider}/_sim/clock", {"now": now.isoformat()})


def unlike(
    summary: dict[str, Any], name: str, *, calls_at_least: int = 0, calls_at_most: int | None = None
) -> list[str]:
    """Return in words what of a run's summary is not as the demo means it to be."""
    wrong = []
    if summary["exit_code"]:
        series = summary["series"]
        wrong.append(
            f"{name} ended with exit code {summary['exit_code']} ({summary['status']}): "
            f"{series['complete']} of {series['total']} series complete, {series['failed']} failed"
        )
        wrong += [
            f"{name}, {failure['symbol']} {failure['timeframe']}: {failure['message']}"
            for failure in summary["failures"]
        ]
    if summary["calls"] < calls_at_least:
        wrong.append(f"{name} made {summary['calls']} calls, not {calls_at_least} or more")
    if calls_at_most is not None and summary["calls"] > calls_at_most:
        wrong.append(f"{name} made {summary['calls']} calls, not {calls_at_most}")
    return wrong


def too_early(calls: Sequence[Mapping[str, Any]], quota: str) -> list[str]:
    """Return in words which calls the provider refused, and by how much they came too early.

    ``calls`` is its log, by arrival, of a quota of one window.
    """
    admitted: list[float] = []
    wrong = []
    (window,) = Quota.parse(quota).windows
    for number, call in enumerate(calls, start=1):
        if call["over_quota"]:
            early_s = admitted[-window.limit] + window.period_s - call["at_s"]
            wrong.append(
                f"call {number} of {len(calls)}, {call['path']}, was refused: "
                f"{early_s:.3f} s too early for {quota}"
            )
        else:
            admitted.append(call["at_s"])
    return wrong


def what_next(backfill: str) -> Iterator[str]:
    """Yield how a reader goes on, with a key or without one; ``backfill`` is how it is typed."""
    provider = Settings().provider
    yield f"With a key, from {provider.keys_at} (there is a free plan):"
    for variables in provider.key_variables:
        yield f"  $ export {variables[0]}=…"
    for command in ("watch add AAPL MSFT --since 1y", "run --all", "status"):
        yield f"  $ {backfill} {command}"
    for one in keyless():
        yield f"From {one.name}, which asks for no key:"
        yield f"  $ {backfill} run {one.example} --provider {one.name}"
    yield "Without any, on this market, for as long as you like; it says how:"
    yield f"  $ {backfill} simulate"
    yield "Bars go to the Postgres of DATABASE_URL, or else to an embedded one, which is"
    yield "kept. docs/quick-start.md goes through it, step by step."


def _typed() -> str:
    """Return how this command is typed here: by its path, where a shell wouldn't find it."""
    command = Path(sys.argv[0])
    return str(command) if command.name == "backfill" and not which("backfill") else "backfill"


class _Narrator:
    """Tells a stranger what happens."""

    def title(self, text: str) -> None:
        edge.say(f"\n{text}")

    def text(self, text: str) -> None:
        edge.say(f"  {text}")

    def quoted(self, text: str) -> None:
        edge.say(f"  | {text}")

    def command(self, arguments: list[str]) -> None:
        edge.say(f"  $ backfill {' '.join(arguments)}")


@contextlib.contextmanager
def _simulator() -> Iterator[str]:
    """Run ``backfill simulate`` in a process of its own and yield its URL."""
    arguments = ["simulate", "--key", _KEY, "--quota", QUOTA, "--now", TODAY.isoformat()]
    process = subprocess.Popen(  # noqa: S603  # our own command
        [sys.executable, "-m", "backfill", *arguments], stdout=subprocess.PIPE
    )
    try:
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            raise BackfillError("the simulator didn't start")
        yield json.loads(line)["url"]
    finally:
        process.terminate()
        process.communicate()


def _control(url: str, body: dict[str, Any] | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  # loopback, our own
        return json.loads(answer.read() or b"null")


def _at(now: datetime) -> list[str]:
    return ["--as-of", f"{now:%Y-%m-%dT%H:%M:%SZ}"]


def _is_ours(name: str) -> bool:
    return name.startswith(("BACKFILL_", "MASSIVE_")) or name == "POLYGON_API_KEY"
