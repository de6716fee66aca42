"""The commands by which a user says what is right where the provider's lists aren't.

Splits that are listed wrong, and former names that the provider's events have wrong.
"""

import asyncio
from typing import Annotated

import typer

from backfill.cli.edge import AsJson, Named, Symbols, print_result, read_settings
from backfill.cli.quick import App

actions_app = App(
    help="The splits of the symbols that are kept: which apply, and what you know better.",
    no_args_is_help=True,
)
alias_app = App(
    help="The former names of a symbol, where the provider's events have them wrong.",
    no_args_is_help=True,
)

_Symbol = Annotated[str, typer.Argument(metavar="SYMBOL", help="Such as AAPL.")]
_Day = Annotated[str, typer.Argument(metavar="DATE", help="Its execution date, 2020-08-31.")]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The former ticker, such as FB.")]


@actions_app.command("list")
def actions_list(
    named: Named = None,
    *,
    symbol: Symbols = None,
    as_json: AsJson = False,
) -> None:
    """List splits, those that apply and those that don't, under every name of a symbol."""
    settings = read_settings()
    from backfill.admin import actions
    from backfill.cli import arguments
    from backfill.present import listings

    symbols = arguments.symbols_named(named, symbol)
    tickers = arguments.tickers(symbols, retired=True) if symbols else None
    found = asyncio.run(actions.listed(settings, tickers))
    print_result(
        listings.splits_as_dict(found), as_json=as_json, text=lambda: listings.splits(found)
    )


@actions_app.command("set")
def actions_set(
    symbol: _Symbol,
    day: _Day,
    ratio: Annotated[
        str | None,
        typer.Argument(metavar="NEW:OLD", help="4:1 makes four shares of one, 1:10 one of ten."),
    ] = None,
    *,
    moved_to: Annotated[
        str | None, typer.Option("--date", metavar="D", help="The day on which it really was.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set a split's ratio or date by hand, or add one that nobody lists.

    `set AAPL 2020-08-31 4:1`, or `set AAPL 2020-08-30 --date 2020-08-31` for one that is listed for
    the wrong day. It counts whatever the prices say, and no listing changes it any more.
    """
    settings = read_settings()
    from backfill.admin import actions
    from backfill.cli import arguments
    from backfill.core.splits import parse_ratio
    from backfill.core.when import parse_day
    from backfill.present import listings

    [ticker] = arguments.tickers([symbol], retired=True)
    correction = actions.Correction(
        ticker,
        parse_day(day),
        parse_ratio(ratio) if ratio is not None else None,
        parse_day(moved_to) if moved_to is not None else None,
    )
    found = asyncio.run(actions.correct(settings, correction))
    print_result(
        listings.splits_as_dict(found), as_json=as_json, text=lambda: listings.splits(found)
    )


@actions_app.command("drop")
def actions_drop(symbol: _Symbol, day: _Day, *, as_json: AsJson = False) -> None:
    """Say that there was no such split: it applies no longer, whatever a listing says."""
    settings = read_settings()
    from backfill.admin import actions
    from backfill.cli import arguments
    from backfill.core.when import parse_day
    from backfill.present import listings

    [ticker] = arguments.tickers([symbol], retired=True)
    found = asyncio.run(actions.drop(settings, ticker, parse_day(day)))
    print_result(
        listings.splits_as_dict(found), as_json=as_json, text=lambda: listings.splits(found)
    )


@alias_app.command("add")
def alias_add(
    symbol: _Symbol,
    name: _Name,
    *,
    until: Annotated[
        str, typer.Option("--until", metavar="D", help="The first day on which it had it no more.")
    ],
    since: Annotated[
        str | None, typer.Option("--from", metavar="D", help="The first day on which it had it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say under which name a symbol traded before; from then on its events are read no more.

    What is stored from under another name goes to quarantine, and the next run fetches it anew.
    """
    settings = read_settings()
    from backfill.admin import names
    from backfill.cli import arguments
    from backfill.core.when import parse_day
    from backfill.present import listings

    [ticker] = arguments.tickers([symbol])
    [former] = arguments.tickers([name])
    began = parse_day(since) if since is not None else None
    renamed = asyncio.run(names.add(settings, ticker, former, began, parse_day(until)))
    print_result(
        listings.renamed_as_dict(renamed), as_json=as_json, text=lambda: listings.renamed(renamed)
    )


@alias_app.command("drop")
def alias_drop(symbol: _Symbol, name: _Name, *, as_json: AsJson = False) -> None:
    """Say that a symbol never had a name; from then on its events are read no more."""
    settings = read_settings()
    from backfill.admin import names
    from backfill.cli import arguments
    from backfill.present import listings

    [ticker] = arguments.tickers([symbol])
    [former] = arguments.tickers([name])
    renamed = asyncio.run(names.drop(settings, ticker, former))
    print_result(
        listings.renamed_as_dict(renamed), as_json=as_json, text=lambda: listings.renamed(renamed)
    )
