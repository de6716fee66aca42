"""The command that holds what is stored against what another provider says."""

from typing import Annotated

import typer

from backfill.cli import edge
from backfill.cli.edge import AsJson, First, JudgedAsOf, Last, Named, Symbols, Timeframes


def verify(
    named: Named = None,
    *,
    against: Annotated[
        str, typer.Option("--against", metavar="P", help="The provider to compare with.")
    ],
    symbol: Symbols = None,
    timeframe: Timeframes = None,
    first: First = None,
    last: Last = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance", metavar="F=P", help="Such as close=0.5%, or volume=any; repeatable."
        ),
    ] = None,
    max_calls: Annotated[
        int, typer.Option("--max-calls", metavar="N", min=1, help="How many it may cost.")
    ] = 10,
    as_of: JudgedAsOf = None,
    as_json: AsJson = False,
) -> None:
    """Compare a sample of what is stored with another provider's bars. Exits 4 if some differ.

    Pages chosen at random from what is covered are asked of the other provider, under its own
    quota, and nothing is stored. A slot differs if one of the two has a bar and the other none, or
    a field lies further apart than its tolerance, which the output names.
    """
    from backfill.cli import arguments
    from backfill.core.tolerance import Tolerances
    from backfill.core.when import parse_clock

    now = parse_clock(as_of) if as_of else None
    scope = arguments.scope(arguments.symbols_named(named, symbol), timeframe, first, last, now)
    tolerances = Tolerances.parse(tolerance or ())
    settings = edge.read_settings()
    from backfill.cli import foreground
    from backfill.present import against as present

    found = foreground.verify(
        settings, against, now, scope, tolerances=tolerances, max_calls=max_calls
    )
    edge.print_result(found.as_dict(), as_json=as_json, text=lambda: present.compared(found))
    edge.end(found.exit_code, str(found.error) if found.error else None)
