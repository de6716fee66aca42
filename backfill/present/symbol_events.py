"""What became of symbols, as people see it: a line each, with the command to type."""

from typing import TYPE_CHECKING, Any, Final

from backfill.core.plain import one_line
from backfill.present import markdown as md
from backfill.present.tables import console, on_screen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backfill.run.symbol_events import SymbolEvent

_SHOWN: Final = 20


def event_lines(events: "Sequence[SymbolEvent]") -> list[str]:
    """Return a line for each event, the first twenty; the last says how many more there are."""
    lines = [one_line(str(one)) for one in events[:_SHOWN]]
    if len(events) > _SHOWN:
        lines.append(f"… and {len(events) - _SHOWN:,} more symbols; backfill status lists them")
    return lines


def told(events: "Iterable[SymbolEvent]", *, markdown: bool = False) -> None:
    """Print what became of symbols, all of it; as a list of a page if ``markdown``."""
    out = console()
    if markdown:
        text = md.readable if on_screen() else md.text
        out.print("\n".join(["", *(f"- {text(str(one))}" for one in events)]))
        return
    for one in events:
        out.print(one_line(str(one)))


def as_dict(events: "Iterable[SymbolEvent]") -> dict[str, Any]:
    """Return what became of symbols as JSON's own types; nothing where nothing did."""
    found = [one.as_dict() for one in events]
    return {"symbol_events": found} if found else {}
