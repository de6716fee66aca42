"""The watchlist as a file of TOML that `watch apply` reads, and what became of one."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from backfill.admin.watchfile import kept_of
from backfill.core.watchfile import Kept
from backfill.present.listings import watched_as_dict
from backfill.present.tables import amount, console
from backfill.present.watchlist import changes_as_dicts, told

if TYPE_CHECKING:
    from backfill.admin.watchfile import Applied
    from backfill.store.universe import WatchEntry


def exported(entries: Iterable["WatchEntry"]) -> str:
    """Return the watchlist as TOML: a group for all that is kept alike, in the order of runs."""
    groups: dict[Kept, list[str]] = {}
    for one in entries:
        groups.setdefault(kept_of(one), []).append(one.symbol.ticker)
    numbered = enumerate(groups.items(), 1)
    if not groups:
        return "# nothing is watched"
    return "\n".join(
        line for number, (kept, tickers) in numbered for line in _group(number, kept, tickers)
    ).rstrip("\n")


def _group(number: int, kept: Kept, tickers: list[str]) -> list[str]:
    """Return the lines of a group, without what is as it is by default."""
    lines = [f"[groups.{number}-{'-'.join(kept.timeframes)}]"]
    lines += ["symbols = [", *(f"    {json.dumps(one)}," for one in tickers), "]"]
    lines.append(f"timeframes = {json.dumps(list(map(str, kept.timeframes)))}")
    if kept.since is not None:
        lines.append(f"since = {json.dumps(kept.since)}")
    if kept.priority:
        lines.append(f"priority = {kept.priority}")
    if kept.provider is not None:
        lines.append(f"provider = {json.dumps(kept.provider)}")
    if kept.paused:
        lines.append("paused = true")
    return [*lines, ""]


def applied(result: "Applied", *, dry_run: bool) -> None:
    """Print what a file has made of the watchlist, or would."""
    out = console()
    for one in result.changed:
        out.print(told(one))
    for entry in result.removed:
        out.print(f"{entry.symbol.ticker} is watched no longer; its bars stay")
    for entry in result.unlisted:
        out.print(f"{entry.symbol.ticker} isn't in the file, and stays (--prune removes it)")
    for note in result.notes:
        out.print(note)
    counts = (
        amount(len(result.changed), "change"),
        f"{len(result.removed)} removed",
        f"{result.unchanged} unchanged",
    )
    tail = "; nothing was done (--dry-run)" if dry_run else ""
    out.print(f"{', '.join(counts)}{tail}")


def applied_as_dict(result: "Applied", *, dry_run: bool) -> dict[str, Any]:
    """Return the same as JSON's own types."""
    return {
        "dry_run": dry_run,
        "changed": changes_as_dicts(result.changed),
        "removed": [watched_as_dict(one) for one in result.removed],
        "unlisted": [watched_as_dict(one) for one in result.unlisted],
        "unchanged": result.unchanged,
        "notes": result.notes,
    }
