"""The commands of the symbols: which are known, and what becomes of one."""

import asyncio
from typing import Annotated

import typer

from backfill.cli.actions import alias_app
from backfill.cli.edge import AsJson, Tickers, print_result, read_settings, say
from backfill.cli.quick import App

symbols_app = App(help="The symbols that are known.", no_args_is_help=True)
symbols_app.add_typer(alias_app, name="alias")


@symbols_app.command("add")
def symbols_add(symbols: Tickers, *, as_json: AsJson = False) -> None:
    """Register symbols, without watching them."""
    settings = read_settings()
    from backfill.cli import arguments, commands
    from backfill.present import listings

    added = asyncio.run(commands.add_symbols(settings, arguments.tickers(symbols)))
    print_result(
        listings.symbols_as_dict(added), as_json=as_json, text=lambda: listings.symbols(added)
    )


@symbols_app.command("list")
def symbols_list(*, as_json: AsJson = False) -> None:
    """List the symbols that are confirmed or watched."""
    settings = read_settings()
    from backfill.cli import commands
    from backfill.present import listings

    known = asyncio.run(commands.list_symbols(settings))
    print_result(
        listings.symbols_as_dict(known), as_json=as_json, text=lambda: listings.symbols(known)
    )


@symbols_app.command("retire")
def symbols_retire(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="Such as REUSE.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Set a symbol aside whose ticker belongs to another company now.

    Its rows stay, under a dated name such as REUSE@2024-06-28; nothing more is fetched for them.
    The ticker is free for the other company: the watchlist goes on with that.
    """
    settings = read_settings()
    from backfill.cli import arguments, commands

    [ticker] = arguments.tickers([symbol])
    retired = asyncio.run(commands.retire_symbol(settings, ticker))
    watched = f"; {retired.ticker} is watched on, as another symbol" if retired.watched else ""
    print_result(
        {"ticker": retired.ticker, "retired_as": retired.name, "watched": retired.watched},
        as_json=as_json,
        text=lambda: say(f"{retired.ticker} is {retired.name} now{watched}"),
    )
