"""The commands of the watchlist: what `run --all` keeps."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backfill.cli.edge import (
    AllTimeframes,
    AsJson,
    Tickers,
    Timeframes,
    print_result,
    read_settings,
    say,
)
from backfill.cli.quick import App

if TYPE_CHECKING:
    from backfill.store.universe import WatchEntry

watch_app = App(help="The watchlist: what `run --all` keeps.", no_args_is_help=True)


@watch_app.command("add")
def watch_add(
    symbols: Tickers,
    *,
    timeframe: Timeframes = None,
    all_timeframes: AllTimeframes = False,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="D", help="How deep: a date, 2y, 6mo, 30d, or default."),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option("--priority", metavar="N", min=-1000, max=1000, help="Higher comes first."),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option("--provider", metavar="P", help="Whom to ask; default: as BACKFILL_PROVIDER."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no provider whether there is such a ticker.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Keep symbols, in d1 unless timeframes are named; of one that is kept, change what is named.

    What isn't named stays as it is, a pause too; what was and what is gets printed. The provider's
    reference is asked about each ticker that nobody has confirmed yet, a call each: what it doesn't
    know is refused.
    """
    settings = read_settings(provider if provider != "default" else None)
    from backfill.admin import watchlist
    from backfill.cli import arguments
    from backfill.present import watchlist as present
    from backfill.store.universe import WatchChange

    change = WatchChange(
        arguments.timeframes(timeframe, all_timeframes=all_timeframes), since, priority, provider
    )
    result = asyncio.run(
        watchlist.add(settings, arguments.tickers(symbols), change, offline=offline)
    )
    print_result(present.added_as_dict(result), as_json=as_json, text=lambda: present.added(result))


@watch_app.command("remove")
def watch_remove(symbols: Tickers, *, as_json: AsJson = False) -> None:
    """Stop keeping symbols; their bars stay."""
    settings = read_settings()
    from backfill.admin.watchlist import remove
    from backfill.cli import arguments

    removed = asyncio.run(remove(settings, arguments.tickers(symbols)))
    print_result(
        {"removed": removed},
        as_json=as_json,
        text=lambda: say(f"no longer watched: {', '.join(removed) or 'none of them was'}"),
    )


@watch_app.command("pause")
def watch_pause(symbols: Tickers, *, as_json: AsJson = False) -> None:
    """Leave symbols out of `run --all` until they are resumed; their bars stay."""
    _pause(symbols, paused=True, as_json=as_json)


@watch_app.command("resume")
def watch_resume(symbols: Tickers, *, as_json: AsJson = False) -> None:
    """Keep paused symbols again: the next run fetches what they missed."""
    _pause(symbols, paused=False, as_json=as_json)


@watch_app.command("list")
def watch_list(*, as_json: AsJson = False) -> None:
    """List the watchlist."""
    settings = read_settings()
    from backfill.admin.watchlist import listed

    entries = asyncio.run(listed(settings))
    _print_watchlist(entries, as_json=as_json)


@watch_app.command("apply")
def watch_apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Such as watchlist.toml.")],
    *,
    prune: Annotated[
        bool, typer.Option("--prune", help="Stop keeping what the file hasn't; its bars stay.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no provider whether there are such tickers.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Have the watchlist be what a file says: groups of symbols, and how each is kept.

    All of it is done or nothing. What a line has wrong is told with its place, and a file that is
    applied again changes nothing.
    """
    settings = read_settings()
    from backfill.admin.watchfile import apply
    from backfill.present import watchfile

    result = asyncio.run(apply(settings, file, prune=prune, dry_run=dry_run, offline=offline))
    print_result(
        watchfile.applied_as_dict(result, dry_run=dry_run),
        as_json=as_json,
        text=lambda: watchfile.applied(result, dry_run=dry_run),
    )


@watch_app.command("export")
def watch_export() -> None:
    """Print the watchlist as a file that `watch apply` reads, and that changes nothing."""
    settings = read_settings()
    from backfill.admin.watchlist import listed
    from backfill.present import watchfile

    say(watchfile.exported(asyncio.run(listed(settings))))


def _pause(symbols: list[str], *, paused: bool, as_json: bool) -> None:
    settings = read_settings()
    from backfill.admin.watchlist import pause
    from backfill.cli import arguments

    tickers = arguments.tickers(symbols)
    entries = asyncio.run(pause(settings, tickers, paused=paused))
    _print_watchlist(entries, as_json=as_json)


def _print_watchlist(entries: "list[WatchEntry]", *, as_json: bool) -> None:
    from backfill.present import listings

    print_result(
        listings.watchlist_as_dict(entries),
        as_json=as_json,
        text=lambda: listings.watchlist(entries),
    )
