"""The commands and their exit codes; what they do is elsewhere.

Results go to stdout, logs to stderr. A fault that a user can mend is one line on stderr. Modules
are imported by the commands that use them: ``backfill --help`` needs none.
"""

# Over 300 lines: the flags of `run`, `gaps` and `status`, which are contracts, are most of it.

import asyncio
import gc
import io
import os
import sys
from collections.abc import MutableMapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from backfill.cli import edge
from backfill.cli.actions import actions_app
from backfill.cli.bars import bars
from backfill.cli.doctor import doctor
from backfill.cli.edge import (
    AllTimeframes,
    AsJson,
    AsWatched,
    Everything,
    First,
    Incremental,
    Last,
    Named,
    OfProvider,
    Reload,
    SymbolList,
    Symbols,
    Timeframes,
)
from backfill.cli.edge import print_result as _print
from backfill.cli.edge import read_settings as _settings
from backfill.cli.edge import say as _say
from backfill.cli.exporting import export
from backfill.cli.importing import import_
from backfill.cli.quarantine import quarantine_app
from backfill.cli.queue import enqueue, queue_app, worker
from backfill.cli.quick import App
from backfill.cli.report import report
from backfill.cli.serving import serve
from backfill.cli.sql import sql
from backfill.cli.symbols import symbols_app
from backfill.cli.verify import verify
from backfill.cli.watch import watch_app

if TYPE_CHECKING:
    from backfill.run.outcomes import Summary
    from backfill.run.planned import Plan

app = App(
    name="backfill",
    help="Keep a Postgres table of OHLC bars complete, current and true.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(symbols_app, name="symbols")
app.add_typer(watch_app, name="watch")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(actions_app, name="actions")
app.add_typer(queue_app, name="queue")

_OBJECTS_BETWEEN = 20_000
"""How many objects more there are before Python looks for circles; 700 by default."""

AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="T", help="Plan and judge as of this instant."),
]


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    # What is loaded stays: looking through it for what nothing refers to any more frees nothing.
    gc.set_threshold(_OBJECTS_BETWEEN)
    # numpy's linear algebra, of which nothing is used, would start a thread for each core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    settle_colours(os.environ, terminal=sys.stdout.isatty())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every locale has every character
    try:
        code = _exit_code()
    except Exception as error:  # noqa: BLE001 - the top of the command
        code = _confess(error)
    sys.exit(code)


def settle_colours(environ: MutableMapping[str, str], *, terminal: bool) -> None:
    """Have the libraries that print agree on when to colour: never against ``FORCE_COLOR=0``.

    rich (15) and typer (0.29) take any value of it for a yes, and typer a runner's pipe for a
    terminal. Both read the environment when they are first used.
    """
    forced = environ.get("FORCE_COLOR")
    if forced is not None and forced.lower() in {"0", "false", "no"}:
        del environ["FORCE_COLOR"]
        environ.update({"NO_COLOR": "1", "TTY_COMPATIBLE": "0"})
        forced = None
    if not forced and (not terminal or "NO_COLOR" in environ):
        environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"


def _tell_version(asked: object) -> None:
    if asked:
        from importlib.metadata import version

        _say(f"backfill {version('ohlc-backfill')}")
        raise typer.Exit


@app.callback()
def _common(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Which this is."),
    ] = False,
) -> None:
    """Take what goes before any command."""


@app.command()
def run(
    named: Named = None,
    symbol: Symbols = None,
    symbols: SymbolList = None,
    *,
    everything: Everything = False,
    timeframe: Timeframes = None,
    all_timeframes: AllTimeframes = False,
    as_watched: AsWatched = False,
    incremental: Incremental = False,
    reload: Reload = False,
    first: First = None,
    last: Last = None,
    provider: OfProvider = None,
    as_of: AsOf = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the calls it would take, and make none.")
    ] = False,
    max_calls: Annotated[
        int | None, typer.Option("--max-calls", metavar="N", min=0, help="Send no more than N.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option("--deadline", metavar="S", min=0, help="Stop after S seconds.")
    ] = None,
    archive: Annotated[
        str | None,
        typer.Option(
            "--archive",
            metavar="USE",
            help="Files instead of calls: auto (where they cost less), always or never.",
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="With --all: stay, and run when a bar is due or it changes."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch what is missing into the database, of the symbols named or of the watchlist.

    With --watch it goes on, round after round, until it is interrupted or its deadline is over;
    with --json each round's summary is an object on a line of its own.
    """
    from backfill.cli import arguments

    job = arguments.job(
        symbol=arguments.symbols_named(named, symbol),
        symbols=symbols,
        everything=everything,
        timeframe=timeframe,
        all_timeframes=all_timeframes,
        as_watched=as_watched,
        incremental=incremental,
        reload=reload,
        first=first,
        last=last,
        as_of=as_of,
        max_calls=max_calls,
        deadline_s=deadline,
        archive=archive,
    )
    if watch:
        arguments.check_watch(job, dry_run=dry_run)
    settings = _settings(provider)
    from backfill.cli import foreground

    if watch:
        from backfill.present import rounds

        ending = foreground.run_rounds(
            settings,
            job,
            lambda done: _print(done.as_dict(), as_json=as_json, text=partial(_show_round, done)),
            None if as_json else rounds.waiting,
        )
        edge.end(ending.exit_code, ending.error)
    if dry_run:
        from backfill.run import execution

        plan = asyncio.run(execution.plan(settings, job))
        _print(plan.as_dict(), as_json=as_json, text=partial(_show_plan, plan))
        return
    summary = foreground.run(settings, job)
    _print(summary.as_dict(), as_json=as_json, text=partial(_show_summary, summary))
    edge.end(summary.exit_code, summary.error, shown=not as_json)


def _show_plan(plan: "Plan") -> None:
    from backfill.present import show

    show.plan(plan)


def _show_summary(done: "Summary") -> None:
    from backfill.present import show

    show.summary(done)


def _show_round(done: "Summary") -> None:
    from backfill.present import rounds

    rounds.round_(done, datetime.now(UTC))


@app.command()
def migrate(
    *,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over another system's tables; every row stays.")
    ] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="With --adopt: bars off the grid go to quarantine.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema up to date."""
    settings = _settings()
    from backfill.admin import schema
    from backfill.errors import UsageError
    from backfill.present import listings

    if adopt:
        adopted = asyncio.run(
            schema.adopt(
                settings,
                clean=clean,
                tell=lambda adoption: None if as_json else listings.adoption(adoption),
            )
        )
        _print(adopted.as_dict(), as_json=as_json, text=lambda: listings.adopted(adopted))
        return
    if clean:
        raise UsageError("--clean goes with --adopt")
    applied = asyncio.run(schema.migrate(settings))
    _print(
        {"applied": applied},
        as_json=as_json,
        text=lambda: _say(
            "\n".join(f"applied {name}" for name in applied) or "the schema is up to date"
        ),
    )


@app.command()
def status(
    named: Named = None,
    *,
    symbol: Symbols = None,
    timeframe: Timeframes = None,
    stale: Annotated[bool, typer.Option("--stale", help="Show those only that are stale.")] = False,
    missing: Annotated[
        bool,
        typer.Option("--missing", help="Or that lack some of what is wanted: exits 4 for it."),
    ] = False,
    as_of: AsOf = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="F", help="table, markdown, json or prometheus."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show every series: bars, share of what is wanted, freshness. Exits 4 if one is stale.

    One is fresh if its newest bar lies within its usual silence before the last due one, or that
    silence is confirmed. Those that nobody watches any more are listed apart, and not judged.

    As prometheus, for a textfile collector, also the bars that are missing, and the last run.
    """
    from backfill.cli import arguments

    shape = arguments.status_format(form, as_json=as_json)
    scope = arguments.scope(arguments.symbols_named(named, symbol), timeframe, None, None)
    settings = _settings()
    from backfill.audit import status as audit
    from backfill.core.when import parse_clock

    now = parse_clock(as_of) if as_of else None
    if shape == "prometheus":
        from backfill.audit.health import health
        from backfill.present import prometheus

        found = asyncio.run(health(settings, now, scope))
        series = found.series
        shown = audit.chosen(series, stale=stale, missing=missing)
        if metrics := prometheus.exposition(replace(found, series=shown)).rstrip("\n"):
            _say(metrics)
    else:
        from backfill.present import status as present
        from backfill.present import symbol_events

        series, orphans, events = asyncio.run(audit.status_with_orphans(settings, now, scope))
        shown = audit.chosen(series, stale=stale, missing=missing)
        told = {"orphans": list(map(str, orphans))} if orphans else {}
        told |= symbol_events.as_dict(events)
        _print(
            {"series": [one.as_dict() for one in shown], **told},
            as_json=shape == "json",
            text=lambda: present.status(series, shown, markdown=shape == "markdown"),
        )
        if orphans and shape != "json":
            present.orphans(orphans)
        if events and shape != "json":
            symbol_events.told(events, markdown=shape == "markdown")
    raise typer.Exit(audit.exit_code(series, missing=missing))


@app.command()
def providers(*, as_json: AsJson = False) -> None:
    """Show what each provider can be asked for, and whether its key is set."""
    from backfill.api import offers
    from backfill.present import providers as present

    found = offers(_settings())
    _print(present.as_dict(found), as_json=as_json, text=lambda: present.listed(found))


@app.command()
def simulate(
    *,
    provider: Annotated[
        str, typer.Option(metavar="NAME", help="Whose protocol it speaks.")
    ] = "massive",
    port: Annotated[int, typer.Option(metavar="P", help="0 takes any free one.")] = 0,
    key: Annotated[str, typer.Option(metavar="K", help="The key it accepts.")] = "sim-key",
    quota: Annotated[
        str | None,
        typer.Option(
            metavar="Q", help="5/60s, 8/60s,800/1d or unlimited; default the free plan's."
        ),
    ] = None,
    plan: Annotated[str, typer.Option(metavar="P", help="free or unlimited.")] = "free",
    now: Annotated[
        str | None, typer.Option(metavar="T", help="The market's clock; default the real one.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed, another market.")] = 7,
) -> None:
    """Serve a simulated market by a provider's protocol on loopback, until interrupted."""
    from backfill.cli import simulate as simulated
    from backfill.core.when import parse_instant

    simulated.serve(
        provider=provider,
        port=port,
        key=key,
        quota=quota,
        plan=plan,
        now=parse_instant(now) if now else None,
        seed=seed,
    )


@app.command("demo")
def demo_() -> None:
    """Backfill a simulated market into a real Postgres of its own, and tell what happens."""
    from backfill.cli import demo

    raise typer.Exit(demo.run())


@app.command()
def gaps(
    named: Named = None,
    *,
    symbol: Symbols = None,
    timeframe: Timeframes = None,
    first: First = None,
    last: Last = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch just what is missing, and look again.")
    ] = False,
    extended: Annotated[
        bool,
        typer.Option("--extended", help="Also outside the session, where other bars prove one."),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Ask again for a sample of what is stored, and compare."),
    ] = False,
    max_calls: Annotated[
        int, typer.Option("--max-calls", metavar="N", min=1, help="How many --verify may cost.")
    ] = 10,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Find the due bars that are missing, by the calendar. Exits 4 if there are any.

    They are gaps of the regular session. With --extended those before the open and after the close
    are found too where other stored bars prove them: a coarser bar whose parts are there, and parts
    without which a coarser bar holds more than is stored.

    With --verify, bars that the provider has corrected since they were final are found too: pages
    chosen at random are asked for again and compared. With --repair, what differs is fetched too.
    """
    from backfill.cli import arguments
    from backfill.core.when import parse_clock

    now = parse_clock(as_of) if as_of else None
    scope = arguments.scope(arguments.symbols_named(named, symbol), timeframe, first, last, now)
    settings = _settings()
    from backfill.cli import foreground
    from backfill.present import gaps as json_gaps
    from backfill.present import show

    calls = max_calls if verify else None
    if repair:
        done = foreground.repair(settings, now, scope, calls, extended=extended)
        if as_json:
            edge.print_json(json_gaps.repair(done))
        else:
            show.repair(done)
        edge.end(done.exit_code, done.error)
    found = foreground.gaps(settings, now, scope, calls, extended=extended)
    if as_json:
        edge.print_json(json_gaps.findings(found))
    else:
        show.findings(found)
    edge.end(found.exit_code, found.error)


app.command()(doctor)
app.command()(verify)
app.command()(bars)
app.command()(report)
app.command("import")(import_)
app.command()(serve)
app.command()(export)
app.command()(sql)
app.command()(enqueue)
app.command()(worker)


def _exit_code() -> int:
    from backfill.errors import BackfillError, NotSet

    try:
        code = app.narrowed(sys.argv[1:])(standalone_mode=False)
    except typer.Abort:
        return 130
    except typer.TyperException as error:
        return _refuse(error.format_message(), 2)
    except BackfillError as error:
        said = f"{error}; {error.advice}" if isinstance(error, NotSet) else str(error)
        return _refuse(said, error.exit_code, secret=isinstance(error, NotSet))
    except KeyboardInterrupt:
        return _refuse("interrupted", 130)
    except BrokenPipeError:
        # The reader of stdout has gone; nothing is left to tell it, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _confess(error: Exception) -> int:
    """Log what nobody foresaw, with its traceback; say in one line what it means."""
    from backfill.errors import Unforeseen

    edge.log_failure(error)
    return _refuse(str(Unforeseen.of(error)), Unforeseen.exit_code)


def _refuse(message: str, code: int, *, secret: bool = False) -> int:
    from backfill.notify import github

    github.fault(edge.complain(message, code), code, secret=secret)
    return code
