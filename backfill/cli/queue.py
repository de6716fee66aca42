"""The commands of the queue: what puts fetches in, works them off, and looks at them."""

import asyncio
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from backfill.cli import edge
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
    print_result,
    read_settings,
    say,
)
from backfill.cli.quick import App

if TYPE_CHECKING:
    from backfill.settings import Settings
    from backfill.workers.duties import Worked

queue_app = App(help="The queue that workers work off.", no_args_is_help=True)

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="JOB", help="Numbers, as `queue status` shows them.")
]
_FORMATS: Final = ("table", "json", "prometheus")
_NUMBER: Final = re.compile("[0-9]{1,18}")


def enqueue(
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
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="T", help="Plan and work as of this instant."),
    ] = None,
    archive: Annotated[
        str | None, typer.Option("--archive", metavar="USE", help="As `run` takes it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Queue what `run` would fetch, a job for each symbol and base, for workers to work off.

    It makes no call. What is queued or at work already is passed over.
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
        max_calls=None,
        deadline_s=None,
        archive=archive,
    )
    settings = read_settings(provider)
    from backfill.present import queue as present
    from backfill.workers import queue

    done = asyncio.run(queue.enqueue(settings, job))
    print_result(done.as_dict(), as_json=as_json, text=lambda: present.enqueued(done))
    raise typer.Exit(done.exit_code)


def worker(
    *,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", min=1, max=64, help="Jobs at once.")
    ] = 4,
    provider: Annotated[
        list[str] | None,
        typer.Option(
            "--provider",
            metavar="P",
            help="Only these providers' jobs; repeatable. Default: of all whose key is set.",
        ),
    ] = None,
    schedule: Annotated[
        bool,
        typer.Option("--schedule", help="Also enqueue what is watched, when its bars are final."),
    ] = False,
    drain: Annotated[bool, typer.Option("--drain", help="End when the queue is empty.")] = False,
    as_json: AsJson = False,
) -> None:
    """Work off the queue, until interrupted; what is in hand then goes back to it.

    Of workers with --schedule one enqueues, and another takes over when that one ends.
    """
    settings = read_settings()
    _see_installed()
    names = _providers(settings, provider)
    from backfill.cli import foreground
    from backfill.workers.duties import Duties

    done = foreground.work(settings, Duties(names, concurrency, schedule=schedule, drain=drain))
    print_result(asdict(done), as_json=as_json, text=lambda: _tell(done))
    edge.end(done.exit_code, done.error)


def _see_installed() -> None:
    from importlib.util import find_spec

    from backfill.errors import UsageError

    if find_spec("pgqueuer") is None:
        raise UsageError("a worker needs PgQueuer: pip install 'ohlc-backfill[workers]'")


def _providers(settings: "Settings", named: list[str] | None) -> tuple[str, ...]:
    """Return whose jobs are taken: of the providers named, or of all that can be asked."""
    from backfill.errors import UsageError
    from backfill.providers import provider_named
    from backfill.settings.offers import offers

    if named is None:
        names = tuple(one.name for one in offers(settings) if one.missing is None)
        if not names:
            raise UsageError("no provider can be asked: set a key, or name one with --provider")
        return names
    names = tuple(dict.fromkeys(provider_named(one).name for one in named))
    for name in names:
        settings.account(name).api_keys()
    return names


def _tell(done: "Worked") -> None:
    say(f"{done.done:,} jobs done, {done.handed_back:,} handed back, {done.held:,} held")


@queue_app.command("status")
def status(
    *,
    form: Annotated[
        str | None, typer.Option("--format", metavar="F", help="table, json or prometheus.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is queued, at work and held, who works, and when what is scheduled comes next."""
    from backfill.cli import arguments

    shape = arguments.one_format(form, _FORMATS, as_json=as_json)
    settings = read_settings()
    from backfill.audit.queue import queue_state
    from backfill.present import queue as present

    found = asyncio.run(queue_state(settings))
    if shape == "prometheus":
        say(present.metrics(found).rstrip("\n"))
        return
    print_result(
        present.state_as_dict(found), as_json=shape == "json", text=lambda: present.state(found)
    )


@queue_app.command("retry")
def retry(jobs: Ids = None, *, as_json: AsJson = False) -> None:
    """Queue held jobs again, those named or all; one that is queued anew already is that one."""
    ids = _ids(jobs)
    settings = read_settings()
    from backfill.workers import queue

    added = asyncio.run(queue.retry(settings, ids))
    print_result({"queued": added}, as_json=as_json, text=lambda: say(f"{added:,} queued again"))


@queue_app.command("drop")
def drop(
    jobs: Ids = None,
    *,
    held: Annotated[bool, typer.Option("--held", help="All that are held.")] = False,
    queued: Annotated[bool, typer.Option("--queued", help="All that wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take jobs out of the queue, but for those at work; bars are not touched."""
    from backfill.errors import UsageError

    ids = _ids(jobs)
    if (ids is None) == (not held and not queued):
        raise UsageError("name the jobs to drop, or --held or --queued for all of those")
    chosen = {"failed": held or ids is not None, "queued": queued or ids is not None}
    settings = read_settings()
    from backfill.workers import queue

    dropped = asyncio.run(
        queue.drop(settings, ids, [name for name, is_chosen in chosen.items() if is_chosen])
    )
    print_result({"dropped": dropped}, as_json=as_json, text=lambda: say(f"{dropped:,} dropped"))


def _ids(jobs: list[str] | None) -> list[int] | None:
    from backfill.errors import UsageError

    if not jobs:
        return None
    if wrong := [one for one in jobs if not _NUMBER.fullmatch(one)]:
        raise UsageError(f"{wrong[0]!r} is no number of a job")
    return [int(one) for one in jobs]
