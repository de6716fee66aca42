"""The commands about bars in quarantine; what they do is elsewhere.

Modules are imported by the commands that use them.
"""

import asyncio
from typing import Annotated

import typer

from backfill.cli.edge import AsJson, Named, Symbols, Timeframes, print_result, read_settings, say
from backfill.cli.quick import App

quarantine_app = App(
    help="The bars that failed a check. They never reach ohlc_bars; docs/validation.md tells why.",
    no_args_is_help=True,
)

_LISTED = 100

Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", "-r", metavar="R", help="Such as high_low; repeatable."),
]
Everything = Annotated[bool, typer.Option("--all", help="Every bar that `list` shows.")]


@quarantine_app.command("list")
def quarantine_list(
    named: Named = None,
    *,
    symbol: Symbols = None,
    timeframe: Timeframes = None,
    reason: Reasons = None,
    accepted: Annotated[
        bool, typer.Option("--accepted", help="Show the accepted ones too.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=0, help="List N bars: 100, with --json all."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count the bars in quarantine, and list them by series with their reasons and raw values."""
    settings = read_settings()
    from backfill.audit.quarantine import show, show_json
    from backfill.cli import arguments
    from backfill.present.quarantine import JsonListing, TextListing

    choice = arguments.filters(arguments.symbols_named(named, symbol), timeframe, reason)
    if as_json:
        asyncio.run(show_json(settings, choice, JsonListing(), accepted=accepted, limit=limit))
    else:
        shown = _LISTED if limit is None else limit
        asyncio.run(show(settings, choice, TextListing(), accepted=accepted, limit=shown))


@quarantine_app.command("retry")
def quarantine_retry(
    named: Named = None,
    *,
    symbol: Symbols = None,
    timeframe: Timeframes = None,
    reason: Reasons = None,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """Have the next run ask again for bars in quarantine.

    This calls nobody: it takes their slots out of the coverage. Then run the series, for instance
    `backfill run AAPL --incremental`. A bar that passes is stored; one that comes as it
    came before is rejected again. Either way `quarantine list` shows it until you accept it.
    """
    settings = read_settings()
    from backfill.audit.quarantine import retry
    from backfill.cli import arguments
    from backfill.present import listings

    symbols = arguments.symbols_named(named, symbol)
    choice = arguments.choice(symbols, timeframe, reason, everything=everything)
    series = asyncio.run(retry(settings, choice))
    print_result(
        {"series": [one.as_dict() for one in series]},
        as_json=as_json,
        text=lambda: listings.retried(series),
    )


@quarantine_app.command("accept")
def quarantine_accept(
    named: Named = None,
    *,
    symbol: Symbols = None,
    timeframe: Timeframes = None,
    reason: Reasons = None,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """Mark bars in quarantine as looked at: no longer listed, nor counted by `status`.

    They stay where they are, with their values; `ohlc_bars` doesn't change.
    """
    settings = read_settings()
    from backfill.audit.quarantine import accept
    from backfill.cli import arguments

    symbols = arguments.symbols_named(named, symbol)
    choice = arguments.choice(symbols, timeframe, reason, everything=everything)
    accepted = asyncio.run(accept(settings, choice))
    print_result(
        {"accepted": accepted},
        as_json=as_json,
        text=lambda: say(f"{accepted} bars accepted"),
    )
