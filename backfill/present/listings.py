"""What is kept, as people see it: symbols, the watchlist, quarantine, tables taken over."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from backfill.core.plain import argument
from backfill.core.series import ListingVerdict, Symbol
from backfill.present.symbol_events import told
from backfill.present.tables import console, table_of
from backfill.run.symbol_events import events_of
from backfill.store.universe import WatchEntry

if TYPE_CHECKING:
    from backfill.admin.adopt import Adopted
    from backfill.admin.names import Renamed
    from backfill.audit.quarantine import Reopened
    from backfill.store.adopt import Adoption
    from backfill.store.by_hand import SplitRow


def symbols(found: Iterable[Symbol]) -> None:
    """Print symbols."""
    table = table_of(
        "symbol", "type", "calendar", "listed", "delisted", "confirmed", "retired", "was", "now"
    )
    for one in found:
        table.add_row(
            one.ticker,
            one.asset_type,
            one.calendar,
            _listed_text(one),
            str(one.delisted_on or ""),
            "yes" if one.confirmed else "not yet",
            str(one.retired_on or ""),
            ", ".join(f"{alias.ticker} until {alias.valid_until}" for alias in one.aliases),
            _now_text(one),
        )
    console().print(table)


def _now_text(one: Symbol) -> str:
    """What became of a symbol that still bears its name, in a few words."""
    if one.retired_on is not None:
        return ""
    told = []
    if one.renamed_to is not None:
        told.append(f"{one.renamed_to} since {one.renamed_on}")
    if one.successor_figi is not None:
        told.append(f"the ticker is another company's, FIGI {one.successor_figi}")
    if one.gone_on is not None:
        told.append(f"not in the reference as of {one.gone_on}")
    if one.is_unknown:
        told.append(f"set aside: unknown in {one.unknown_runs} runs")
    return "; ".join(told)


def _listed_text(one: Symbol) -> str:
    """Where the life of a symbol begins, and what the bars say of it."""
    if one.listing is ListingVerdict.doubted:
        return f"{one.listed_on}, though listed {one.reference_listed_on}"
    listed = f"{one.listed_on}, another's before" if one.cut_on else str(one.listed_on or "")
    return f"{listed}; kept from {one.kept_from} on".lstrip("; ") if one.kept_from else listed


def symbols_as_dict(found: Iterable[Symbol]) -> dict[str, Any]:
    """Return symbols as JSON's own types."""
    return {
        "symbols": [
            {
                "ticker": one.ticker,
                "asset_type": one.asset_type,
                "calendar": one.calendar,
                "listed_on": one.listed_on.isoformat() if one.listed_on else None,
                "reference_listed_on": one.reference_listed_on.isoformat()
                if one.reference_listed_on
                else None,
                "listing": str(one.listing) if one.listing else None,
                "delisted_on": one.delisted_on.isoformat() if one.delisted_on else None,
                "confirmed": one.confirmed,
                "retired_on": one.retired_on.isoformat() if one.retired_on else None,
                "kept_from": one.kept_from.isoformat() if one.kept_from else None,
                "renamed_to": one.renamed_to,
                "renamed_on": one.renamed_on.isoformat() if one.renamed_on else None,
                "successor_figi": one.successor_figi,
                "gone_on": one.gone_on.isoformat() if one.gone_on else None,
                "unknown_runs": one.unknown_runs,
                "aliases": [
                    {
                        "ticker": alias.ticker,
                        "from": alias.valid_from.isoformat(),
                        "until": alias.valid_until.isoformat(),
                    }
                    for alias in one.aliases
                ],
            }
            for one in found
        ]
    }


def watchlist(entries: Iterable[WatchEntry]) -> None:
    """Print the watchlist."""
    entries = list(entries)
    named = any(entry.provider for entry in entries)
    table = table_of(
        "symbol", "timeframes", "since", "priority", "paused", *(["provider"] if named else [])
    )
    for entry in entries:
        table.add_row(
            entry.symbol.ticker,
            " ".join(entry.timeframes),
            entry.since or "as the plan allows",
            str(entry.priority or ""),
            "yes" if entry.paused else "unknown" if entry.symbol.is_unknown else "",
            *([entry.provider or "the default"] if named else []),
        )
    console().print(table)
    told(events_of(entries))


def watchlist_as_dict(entries: Iterable[WatchEntry]) -> dict[str, Any]:
    """Return the watchlist as JSON's own types."""
    return {"watchlist": [watched_as_dict(entry) for entry in entries]}


def watched_as_dict(entry: WatchEntry) -> dict[str, Any]:
    """Return an entry of the watchlist as JSON's own types."""
    return {
        "symbol": entry.symbol.ticker,
        "timeframes": [str(one) for one in entry.timeframes],
        "since": entry.since,
        "paused": entry.paused,
        "priority": entry.priority,
        "provider": entry.provider,
        **({"set_aside": "unknown_symbol"} if entry.symbol.is_unknown else {}),
    }


def retried(series: "list[Reopened]") -> None:
    """Print the series that the next run asks again, and what to do for that."""
    out = console()
    if not series:
        out.print(
            "nothing to ask again for: none of these bars lies in a covered slot that lacks one"
        )
        return
    for one in series:
        out.print(f"{one.symbol} {one.timeframe}: {one.slots:,} slots are to be asked for again")
    tickers = argument(",".join(dict.fromkeys(one.symbol for one in series)))
    flags = "".join(f" -t {name}" for name in sorted({str(one.timeframe) for one in series}))
    out.print(f"The next run does it: backfill run --symbols {tickers}{flags} --incremental")


def adoption(planned: "Adoption") -> None:
    """Print what taking over another system's tables will do."""
    out = console()
    out.print("Every row stays. To do:")
    for step in planned.steps:
        out.print(f"  {step}")


def adopted(result: "Adopted") -> None:
    """Print what became of another system's tables."""
    out = console()
    out.print(f"adopted {result.bars:,} bars; none of them says what is complete, so runs ask anew")
    if result.set_aside:
        table = table_of("set aside", "why")
        for ticker, why in result.set_aside.items():
            table.add_row(ticker, why)
        out.print(table)
    if result.off_grid:
        table = table_of("symbol", "timeframe", "off the grid", "stored twice", "first")
        for one in result.off_grid:
            table.add_row(
                one.series.symbol.ticker,
                str(one.series.timeframe),
                f"{one.bars:,}",
                f"{one.twins:,}",
                one.first.isoformat(),
            )
        out.print(table)
        if result.cleaned:
            out.print(
                f"{result.cleaned:,} of them went to quarantine; see: backfill quarantine list"
            )
        else:
            out.print("They stay; bars of the same sessions will come beside them, on the grid.")


def splits(found: "list[SplitRow]") -> None:
    """Print splits, with whether they apply."""
    out = console()
    if not found:
        out.print("no split is listed")
        return
    table = table_of("symbol", "date", "new:old", "status", "by prices", "by hand", "listed as")
    for one in found:
        table.add_row(
            one.symbol,
            str(one.execution_date),
            str(one.ratio),
            one.status,
            "yes" if one.tested and not one.manual else "",
            "yes" if one.manual else "",
            one.listed_as if one.listed_as != one.symbol else "",
        )
    out.print(table)


def splits_as_dict(found: "Iterable[SplitRow]") -> dict[str, Any]:
    """Return splits as JSON's own types."""
    return {
        "splits": [
            {
                "symbol": one.symbol,
                "listed_as": one.listed_as,
                "execution_date": one.execution_date.isoformat(),
                "split_from": one.ratio.old,
                "split_to": one.ratio.new,
                "status": one.status,
                "tested": one.tested,
                "manual": one.manual,
            }
            for one in found
        ]
    }


def renamed(result: "Renamed") -> None:
    """Print the former names of a symbol as they are set, and what left for that."""
    was = ", ".join(f"{one.ticker} until {one.valid_until}" for one in result.symbol.aliases)
    left = f"; {result.expelled:,} bars went to quarantine" if result.expelled else ""
    console().print(f"{result.symbol.ticker} was {was or 'never called otherwise'}{left}")


def renamed_as_dict(result: "Renamed") -> dict[str, Any]:
    """Return the former names of a symbol as JSON's own types."""
    [symbol] = symbols_as_dict([result.symbol])["symbols"]
    return {"symbol": symbol, "expelled": result.expelled}
