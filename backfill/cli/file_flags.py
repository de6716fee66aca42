"""From the flags of ``import`` to what they say of a file; every fault in them is a usage error."""

import re
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from backfill.cli import arguments
from backfill.core.filed import Reading
from backfill.core.headings import FIELDS
from backfill.core.when import parse_bound
from backfill.errors import UsageError
from backfill.run.file_job import ADJUSTMENTS, FileJob

_FEED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


def file_job(
    path: Path,
    *,
    symbol: list[str] | None,
    timeframe: list[str] | None,
    source: str | None,
    adjustment: str | None,
    covers: tuple[str, str] | None,
    zone: str | None,
    column: list[str] | None,
) -> FileJob:
    """Return what the flags of ``import`` say of a file.

    Raises
    ------
    UsageError
        If one can't be read.
    """
    if source is not None and not _FEED.fullmatch(source):
        raise UsageError(f"--source {source!r} is no name: letters, digits and . _ - of them")
    if adjustment is not None and adjustment not in ADJUSTMENTS:
        raise UsageError(f"--adjustment {adjustment!r} is not one of: {' '.join(ADJUSTMENTS)}")
    reading = Reading(
        symbols=tuple(arguments.tickers(arguments.symbols_named(symbol, None))),
        timeframes=arguments.timeframes(timeframe, all_timeframes=False) or (),
        columns=dict(map(_column, column or ())),
        zone=_zone(zone) if zone is not None else None,
    )
    bounds = None
    if covers is not None:
        first, last = (parse_bound(one, arguments.today()) for one in covers)
        if first.is_after(last):
            raise UsageError(f"--covers {first.at} is after {last.at}")
        bounds = first, last
    return FileJob(path, reading, source, adjustment, bounds)


def _column(text: str) -> tuple[str, str]:
    field, equals, name = text.partition("=")
    if not equals or field not in FIELDS:
        raise UsageError(f"--column {text!r} is no FIELD=NAME, with one of: {' '.join(FIELDS)}")
    return field, name


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"--timezone {name!r} is no time zone: name one as America/New_York or UTC"
        ) from None
