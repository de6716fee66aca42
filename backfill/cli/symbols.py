"""The commands of the symbols: which are known, and what becomes of one."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from backfill.cli.actions import alias_app
from backfill.cli.edge import AsJson, Tickers, print_result, read_settings, say
from backfill.cli.quick import App

Sure = Annotated[bool, typer.Option("--yes", help="Do it, whatever speaks against it.")]
_Symbol = Annotated[str, typer.Argument(metavar="SYMBOL", help="Such as REUSE.")]
_Dated = Annotated[
    str, typer.Argument(metavar="SYMBOL", help="Such as REUSE, or REUSE@2024-06-28.")
]

symbols_app = App(help="The symbols that are known.", no_args_is_help=True)
symbols_app.add_typer(alias_app, name="alias")


@symbols_app.command("add")
def symbols_add(symbols: Tickers, *, as_json: AsJson = False) -> None:
    """Register symbols, without watching them."""
    settings = read_settings()
    from backfill.admin.symbols import add
    from backfill.cli import arguments
    from backfill.present import listings

    added = asyncio.run(add(settings, arguments.tickers(symbols)))
    print_result(
        listings.symbols_as_dict(added), as_json=as_json, text=lambda: listings.symbols(added)
    )


@symbols_app.command("list")
def symbols_list(*, as_json: AsJson = False) -> None:
    """List the symbols that are confirmed or watched, and what became of them."""
    settings = read_settings()
    from backfill.admin.symbols import listed_with_events
    from backfill.present import listings, symbol_events

    known, events = asyncio.run(listed_with_events(settings))

    def text() -> None:
        listings.symbols(known)
        symbol_events.told(events)

    values = listings.symbols_as_dict(known) | symbol_events.as_dict(events)
    print_result(values, as_json=as_json, text=text)


@symbols_app.command("prefer")
def symbols_prefer(symbols: Tickers, *, as_json: AsJson = False) -> None:
    """Say whose bars come first of a symbol and its listings (TICKER@provider).

    The view ohlc_bars_composed takes of each slot the bar of the first that has one: those named
    here, in this order, then the plain symbol, then the others by ticker. To go back to that, name
    the plain one alone.
    """
    settings = read_settings()
    from backfill.admin.symbols import prefer
    from backfill.cli import arguments

    order = asyncio.run(prefer(settings, arguments.tickers(symbols, retired=True)))
    print_result({"sources": order}, as_json=as_json, text=lambda: say(", then ".join(order)))


@symbols_app.command("retire")
def symbols_retire(symbol: _Symbol, *, sure: Sure = False, as_json: AsJson = False) -> None:
    """Set a symbol aside whose ticker belongs to another company now.

    Its rows stay, under a dated name such as REUSE@2024-06-28; nothing more is fetched for them.
    The ticker is free for the other company: the watchlist goes on with that. A symbol that looks
    alive is retired only with --yes.
    """
    settings = read_settings()
    from backfill.admin import symbols
    from backfill.cli import arguments

    [ticker] = arguments.tickers([symbol])
    retired = asyncio.run(symbols.retire(settings, ticker, sure=sure))
    watched = f"; {retired.ticker} is watched on, as another symbol" if retired.watched else ""
    print_result(
        {"ticker": retired.ticker, "retired_as": retired.name, "watched": retired.watched},
        as_json=as_json,
        text=lambda: say(f"{retired.ticker} is {retired.name} now{watched}"),
    )


@symbols_app.command("restore")
def symbols_restore(symbol: _Dated, *, as_json: AsJson = False) -> None:
    """Take back that a symbol was retired: REUSE@2024-06-28 is REUSE again.

    Its ticker must have no bars of its own by now; the watchlist's entry for it goes along.
    """
    settings = read_settings()
    from backfill.admin import symbols
    from backfill.cli import arguments

    [name] = arguments.tickers([symbol], retired=True)
    restored = asyncio.run(symbols.restore(settings, name))
    ticker, figi = restored.symbol.ticker, restored.symbol.successor_figi
    refused = f"; its series are refused: the ticker belongs to FIGI {figi}" if figi else ""
    print_result(
        {"ticker": ticker, "was": restored.name},
        as_json=as_json,
        text=lambda: say(f"{restored.name} is {ticker} again{refused}"),
    )


@symbols_app.command("delete")
def symbols_delete(symbol: _Dated, *, sure: Sure = False, as_json: AsJson = False) -> None:
    """Remove a symbol with all its bars, those in quarantine too, for good.

    Without --yes it says what would go, and removes nothing. What was ended half-way is gone on
    with by the same command; until then nothing is fetched for the symbol.
    """
    settings = read_settings()
    from backfill.admin import symbols
    from backfill.cli import arguments

    [name] = arguments.tickers([symbol], retired=True)
    deleted = asyncio.run(symbols.delete(settings, name, sure=sure))
    print_result(
        asdict(deleted),
        as_json=as_json,
        text=lambda: say(
            f"{deleted.ticker} is gone, with {deleted.bars:,} bars, and {deleted.quarantined:,} "
            "in quarantine"
        ),
    )


@symbols_app.command("trim")
def symbols_trim(
    symbol: _Dated,
    *,
    before: Annotated[
        str,
        typer.Option("--before", metavar="D", help="The first that is kept: a session, or 2y."),
    ],
    as_json: AsJson = False,
) -> None:
    """Remove what is stored of a symbol from before a day, for good.

    Runs don't ask for it again by themselves; `run --from` and `watch add --since` do.
    """
    settings = read_settings()
    from backfill.admin import symbols
    from backfill.cli import arguments
    from backfill.core.when import parse_since

    [name] = arguments.tickers([symbol], retired=True)
    trimmed = asyncio.run(symbols.trim(settings, name, parse_since(before, arguments.today())))
    print_result(
        asdict(trimmed) | {"kept_from": trimmed.kept_from.isoformat()},
        as_json=as_json,
        text=lambda: say(
            f"{trimmed.ticker} begins with {trimmed.kept_from}: {trimmed.bars:,} bars are gone, "
            f"and {trimmed.quarantined:,} in quarantine"
        ),
    )
