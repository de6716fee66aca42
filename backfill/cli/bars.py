"""The command that shows stored bars."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from backfill.cli.edge import AsJson, First, Last, read_settings, say

if TYPE_CHECKING:
    from backfill.audit.bars import Question
    from backfill.settings import Settings

_SHOWN = 10


def bars(
    symbol: Annotated[
        str, typer.Argument(metavar="SYMBOL", help="Such as AAPL, or REUSE@2024-06-28.")
    ],
    *,
    timeframe: Annotated[
        str, typer.Option("--timeframe", "-t", metavar="T", help="m1 m5 m15 m30 h1 h4 d1 w1 mn1.")
    ] = "d1",
    newest: Annotated[
        int | None, typer.Option("--last", metavar="N", min=1, help="Only the newest N.")
    ] = None,
    first: First = None,
    last: Last = None,
    adjusted: Annotated[bool, typer.Option("--adjusted", help="Adjusted for splits.")] = False,
    form: Annotated[
        str | None, typer.Option("--format", metavar="F", help="table, csv or json.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the stored bars of a series, oldest first: as a table the newest 10 unless told.

    As csv and json every bar unless told, and every digit: the doubles of the table, exactly.
    """
    from backfill.audit.bars import Question
    from backfill.cli import arguments
    from backfill.present.bars import FORMATS

    shape = arguments.one_format(form, FORMATS, as_json=as_json)
    kept = arguments.one_timeframe(timeframe)
    scope = arguments.scope(None, None, first, last)
    [ticker] = arguments.tickers([symbol], retired=True)
    all_of_it = newest is not None or scope.first is not None or scope.last is not None
    if shape == "table" and not all_of_it:
        newest = _SHOWN
    question = Question(ticker, kept, scope.first, scope.last, newest, adjusted)
    shown = asyncio.run(_print(read_settings(), question, shape))
    if shape == "table" and not all_of_it and shown == _SHOWN:
        say(f"the newest {_SHOWN}; more: --last N, --from D, or --format csv for all")


async def _print(settings: "Settings", question: "Question", form: str) -> int:
    """Print the bars of a question, a block at a time, and return how many there were."""
    from backfill.audit.bars import looked_up
    from backfill.present.bars import shape_of, table

    shown = 0
    async with looked_up(settings, question) as (symbol, blocks):
        timeframe = str(question.timeframe)
        if form == "table":
            columns, row = table(intraday=question.timeframe.is_intraday)
            async for block in blocks:
                for bar in block:
                    columns.add(*row(bar))
                shown += len(block)
            if shown:
                columns.end()
            else:
                say(f"no bar of {symbol.ticker} {timeframe} is stored there; see: backfill status")
            return shown
        shape = shape_of(form, symbol.ticker, timeframe, adjusted=question.adjusted)
        say(shape.head)
        async for block in blocks:
            text = f"\n{shape.between}".join(map(shape.line, block))
            say(f"{shape.between}{text}" if shown else text)
            shown += len(block)
        if shape.tail:
            say(shape.tail)
    return shown
