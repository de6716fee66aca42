"""What is rolled up follows its base, in the transaction that changes that."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from backfill.core.calendar import Calendar
from backfill.core.coverage import Spans
from backfill.core.empty import EmptyReason
from backfill.core.local import Base, BaseChange, outdated_slots, roll_up_stored
from backfill.core.paging import Chunk
from backfill.core.series import Series, Source
from backfill.core.timeframe import Timeframe
from backfill.store.changes import Change
from backfill.store.empty import KnownEmpty, emptiness, read_empty
from backfill.store.pool import Connection
from backfill.store.progress import Known
from backfill.store.quarantine import read_rejected, rejecting
from backfill.store.read import read_bars, reading

# By this clock all that an answer had no bar for counts, to be asked for again by now or not.
_EVER: Final = datetime.min.replace(tzinfo=UTC)


def outdated_series(
    calendar: Calendar, chunks: Sequence[Chunk], changes: Mapping[Series, Change], known: Known
) -> dict[Series, Spans]:
    """Return the slots of derived series that no longer follow from what was written of their base.

    ``known`` is what the ledger knew before of all series that are locked.
    """
    own = {chunk.series: chunk for chunk in chunks}
    outdated: dict[Series, Spans] = {}
    for chunk in chunks:
        base, change = chunk.series, changes[chunk.series]
        found = BaseChange(change.changed_ms, change.apart_ms, chunk.claims)
        for series in _derived_from(base, chunk.source, own, known):
            grid = calendar.grid(series.timeframe)
            slots = outdated_slots(grid, known[series.key], found, own.get(series))
            if slots:
                outdated[series] = slots
    return outdated


def _derived_from(
    base: Series, source: Source, own: Mapping[Series, Chunk], known: Known
) -> list[Series]:
    """Return the series that are rolled up from a base of this source."""
    found = []
    of_symbol = (Series(base.symbol, timeframe) for timeframe in Timeframe)
    for series in (one for one in of_symbol if one.key in known):
        held = own[series].source if series in own else known[series.key].source
        if (
            held is not None
            and held.derived_from is base.timeframe
            and held.origin == source.origin
        ):
            found.append(series)
    return found


async def rolled_up_again(
    connection: Connection,
    calendar: Calendar,
    day_final_ms: int,
    outdated: Mapping[Series, Spans],
    known: Known,
) -> tuple[list[Chunk], dict[Series, Spans]]:
    """Return what stored bars of the base say now of derived series, and what they leave open."""
    sources = {one: source for one in outdated if (source := known[one.key].source) is not None}
    wanted = {
        one: (Series(one.symbol, source.derived_from), outdated[one])
        for one, source in sources.items()
        if source.derived_from is not None
    }
    bases = await stored_bases(connection, calendar, wanted, known)
    chunks, left = [], {}
    for one in wanted:
        chunk, rest = roll_up_stored(
            calendar, one, sources[one], outdated[one], bases[one], day_final_ms
        )
        if chunk.claims:
            chunks.append(chunk)
        if rest & known[one.key].coverage:
            left[one] = rest
    return chunks, left


async def stored_bases(
    connection: Connection,
    calendar: Calendar,
    wanted: Mapping[Series, tuple[Series, Spans]],
    known: Known,
    now: datetime = _EVER,
) -> dict[Series, Base]:
    """Return what is stored of the base of each series on the days that its spans touch.

    What was found empty and may be asked for again by ``now`` is not taken for empty.
    """
    if not wanted:
        return {}
    days = calendar.grid(Timeframe.d1)
    touched: dict[Series, Spans] = {}
    for base, spans in wanted.values():
        touched[base] = touched.get(base, Spans()) | Spans.union(map(days.widen, spans))
    hulls = {base: hull for base, spans in touched.items() if (hull := spans.hull) is not None}
    sent, emptied, failed = await connection.ask(
        reading(touched), emptiness(touched), rejecting(hulls)
    )
    bars, empty = read_bars(touched, sent), read_empty(emptied, now)
    rejected = read_rejected(hulls, failed)
    return {
        series: Base(
            base.timeframe,
            known[base.key].coverage,
            bars[base],
            _answered(empty.get(base.key, KnownEmpty())),
            empty.get(base.key, KnownEmpty()).unconfirmed,
            rejected[base],
        )
        for series, (base, _) in wanted.items()
    }


def _answered(empty: KnownEmpty) -> Spans:
    """Return the slots of which an answer has said that there is no bar, and isn't asked again."""
    said = (spans for reason, spans in empty.held.items() if reason is not EmptyReason.quarantined)
    return Spans.union(span for spans in (empty.settled, *said) for span in spans) - empty.askable
