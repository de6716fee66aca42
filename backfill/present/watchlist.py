"""What became of the watchlist, as people see it: was → is."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from backfill.present.listings import watched_as_dict
from backfill.present.tables import console

if TYPE_CHECKING:
    from backfill.admin.watchlist import Changed, Watched
    from backfill.store.universe import WatchEntry


def added(result: "Watched") -> None:
    """Print what became of each entry that was named."""
    out = console()
    for one in result.changed:
        out.print(told(one))
    for note in result.notes:
        out.print(note)


def added_as_dict(result: "Watched") -> dict[str, Any]:
    """Return the watchlist, and each entry that was named before and after, as JSON's own types."""
    return {
        "watchlist": [watched_as_dict(one) for one in result.entries],
        "changed": changes_as_dicts(result.changed),
        "notes": result.notes,
    }


def changes_as_dicts(changes: Iterable["Changed"]) -> list[dict[str, Any]]:
    """Return entries before and after as JSON's own types."""
    return [
        {
            "symbol": one.now.symbol.ticker,
            "was": watched_as_dict(one.was) if one.was else None,
            "is": watched_as_dict(one.now),
        }
        for one in changes
    ]


def told(one: "Changed") -> str:
    """Return what became of an entry, in a line."""
    name, now = one.now.symbol.ticker, _parts(one.now)
    if one.was is None:
        if not one.now.paused:
            del now["paused"]
        return f"{name} is watched now: " + ", ".join(f"{part} {is_}" for part, is_ in now.items())
    was = _parts(one.was)
    changes = [f"{part} {was[part]} → {now[part]}" for part in now if was[part] != now[part]]
    line = f"{name}: {', '.join(changes) or 'nothing changed'}"
    stays = one.was.paused and one.now.paused
    return f"{line}; it stays paused: backfill watch resume {name}" if stays else line


def _parts(entry: "WatchEntry") -> dict[str, str]:
    return {
        "timeframes": " ".join(entry.timeframes),
        "since": entry.since or "as the plan allows",
        "priority": str(entry.priority),
        "provider": entry.provider or "the default",
        "paused": "yes" if entry.paused else "no",
    }
