"""What a file holds, as people see it before it is imported."""

from typing import TYPE_CHECKING

from backfill.present.columns import print_table
from backfill.present.tables import amount, bytes_text, console

if TYPE_CHECKING:
    from backfill.api import FilePlan


def plan(result: "FilePlan") -> None:
    """Print what an import would write."""
    print_table(
        ("symbol", "timeframe", "bars", "first", "last", "all of", ""),
        (
            (
                one.symbol,
                one.timeframe,
                f"{one.bars:,}",
                one.first,
                one.last,
                " to ".join(one.covers) if one.covers else "nothing is proven",
                one.refusal or one.source,
            )
            for one in result.series
        ),
        giving_way=("all of", "last", "first"),
    )
    console().print_wrapped(
        f"{result.file}: {result.format}, {bytes_text(result.bytes)}, "
        f"{amount(result.bars, 'bar')} of {len(result.series):,} series. Nothing was written."
    )
