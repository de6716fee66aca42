"""How stored bars and another provider's compare, as people read it."""

from typing import TYPE_CHECKING, Final

from backfill.core.compare import Kind
from backfill.core.plain import one_line
from backfill.present.tables import amount, console, table_of, time_text
from backfill.store.times import to_time

if TYPE_CHECKING:
    from backfill.audit.against import Against, Comparison

_DIFFER: Final = ("slot differs", "slots differ")


def compared(result: "Against") -> None:
    """Print the tolerances, a line for each series and one for each of its fields."""
    out = console()
    out.print(f"agreed is what differs by no more than: {_tolerances(result)}")
    slots = table_of(
        "symbol", "timeframe", "stored", "other", "both", "differ", "only stored", "only other",
        "rejected",
    )  # fmt: skip
    table = table_of("symbol", "timeframe", "field", "compared", "differ", "largest", "at")
    for one in result.series.values():
        kinds = Kind.changed, Kind.gone, Kind.not_stored, Kind.rejected
        counts = [one.both, *map(one.only, kinds)]
        slots.add_row(*_named(one), one.stored, one.provider, *(f"{each:,}" for each in counts))
        for name, apart in one.fields.items():
            at = None if apart.largest_ms is None else to_time(apart.largest_ms)
            largest = f"{apart.largest:.3%}" if apart.compared else ""
            table.add_row(
                *_named(one), name, f"{apart.compared:,}", f"{apart.differ:,}", largest,
                time_text(at),
            )  # fmt: skip
    if result.series:
        out.print(slots)
        out.print(table)
    different = sum(len(one.differences) for one in result.series.values())
    told = f"{amount(different, *_DIFFER)}; --json lists them" if different else "they agree"
    out.print(
        f"compared {amount(result.bars, 'bar')} of {len(result.series)} series with "
        f"{result.against}'s in {amount(result.tally.calls, 'call')}: {result.nothing or told}"
    )
    for failure in result.failures:
        out.print(
            f"not compared: {failure.symbol} {failure.timeframe}: {one_line(failure.message)}"
        )


def _tolerances(result: "Against") -> str:
    told = {
        name: "any" if share is None else f"{100 * share:g}%"
        for name, share in result.tolerances.shares.items()
    }
    by_share: dict[str, list[str]] = {}
    for name, share in told.items():
        by_share.setdefault(share, []).append(name)
    return "; ".join(f"{' '.join(names)} {share}" for share, names in by_share.items())


def _named(one: "Comparison") -> tuple[str, str]:
    return one.series.symbol.ticker, str(one.series.timeframe)
