"""What became of the watchlist, as people see it: was → is."""

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
        out.print(_told(one))
    for note in result.notes:
        out.print(note)


def added_as_dict(result: "Watched") -> dict[str, Any]:
    """Return the watchlist, and each entry that was named before and after, as JSON's own types."""
    return {
        "watchlist": [watched_as_dict(one) for one in result.entries],
        "changed": [
            {
                "symbol": one.now.symbol.ticker,
                "was": watched_as_dict(one.was) if one.was else None,
                "is": watched_as_dict(one.now),
            }
            for one in result.changed
        ],
        "notes": result.notes,
    }


def _told(one: "Changed") -> str:
    name, now = one.now.symbol.ticker, _parts(one.now)
    if one.was is None:
        return f"{name} is watched now: " + ", ".join(f"{part} {is_}" for part, is_ in now.items())
    was = _parts(one.was)
    changes = [f"{part} {was[part]} → {now[part]}" for part in now if was[part] != now[part]]
    told = f"{name}: {', '.join(changes) or 'nothing changed'}"
    return f"{told}; it stays paused: backfill watch resume {name}" if one.now.paused else told


def _parts(entry: "WatchEntry") -> dict[str, str]:
    return {
        "timeframes": " ".join(entry.timeframes),
        "since": entry.since or "as the plan allows",
        "priority": str(entry.priority),
        "provider": entry.provider or "the default",
    }
