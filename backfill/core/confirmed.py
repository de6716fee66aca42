"""Known-empty slots as they are kept: when a second answer confirms a first, and when it can't."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from backfill.core.coverage import Spans
from backfill.core.dataclass import dataclass
from backfill.core.empty import EmptyReason, EmptySlots

BELIEVED_AFTER: Final = timedelta(hours=12)
"""How long after the first answer a second one confirms that slots are empty."""
_NEXT_DAY: Final = timedelta(days=1)
_HELD: Final = timedelta(days=30)
_NO_LONGER: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Entry:
    """Empty slots as they are kept: since when, until when, and whether two answers agree.

    ``asked_on`` is the day on which they were first asked for, of slots that nobody traded in the
    first of the month. ``expires_at`` is when they may be asked for again, of unconfirmed ones
    when a second answer is believed; None for never. ``confirmed_on`` is the day of the answer that
    confirmed an absent session, ``asked_on`` that of the first to do so from then on.
    """

    month: date
    reason: EmptyReason
    asked_on: date
    slots: Spans
    expires_at: datetime | None = None
    confirmed_on: date | None = None

    def is_expired(self, now: datetime) -> bool:
        """Whether it may be asked for again by now."""
        return self.expires_at is not None and self.expires_at <= now

    def is_believed(self, now: datetime) -> bool:
        """Whether another answer that finds it empty by now is believed, or one was."""
        return self.confirmed_on is not None or now - _first_answer(self) >= BELIEVED_AFTER


def entries(empty: Iterable[EmptySlots], before: Sequence[Entry], now: datetime) -> list[Entry]:
    """Return what is to be kept of what an answer left empty, given what was kept of that before.

    Of what nobody traded in ``before`` holds the closed hours that such a slot lies beyond.
    A second answer confirms what is unconfirmed 12 hours after the first or later, once the day is
    final. An absent session that is confirmed is asked for again after 30 days, and after twice as
    long each time that it is still absent, but never after a year.
    """
    found: list[Entry] = []
    for one in empty:
        match one.reason:
            case EmptyReason.no_trades:
                found.append(_no_trades(one.month, one.slots, before))
            case EmptyReason.quarantined:
                found.append(Entry(one.month, one.reason, now.date(), one.slots, now + _HELD))
            case EmptyReason.unconfirmed:
                found += _unconfirmed(one, before, now)
            case EmptyReason.absent:
                found += _absent(one, before, now)
    return found


def _no_trades(month: date, slots: Spans, before: Sequence[Entry]) -> Entry:
    """Return what nobody traded in, with the closed hours that part it from more of the kind."""
    hours = (
        span
        for entry in before
        if entry.reason is EmptyReason.no_trades and entry.month == month
        for span in entry.slots
    )
    ends = {bound for span in slots for bound in span}
    joined = (span for span in hours if ends & set(span))
    return Entry(month, EmptyReason.no_trades, month, slots | Spans.union(joined))


def _unconfirmed(one: EmptySlots, before: Sequence[Entry], now: datetime) -> list[Entry]:
    found = []
    left = one.slots
    for entry in _of_month(one.month, before):
        if entry.confirmed_on or not (known := left & entry.slots):
            continue
        left -= known
        if one.is_final and entry.is_believed(now):
            found.append(_no_trades(one.month, known, before))
        else:
            expires_at = _first_answer(entry) + BELIEVED_AFTER
            found.append(
                Entry(one.month, EmptyReason.unconfirmed, entry.asked_on, known, expires_at)
            )
    if left:
        expires_at = now + BELIEVED_AFTER
        found.append(Entry(one.month, EmptyReason.unconfirmed, now.date(), left, expires_at))
    return found


def _absent(one: EmptySlots, before: Sequence[Entry], now: datetime) -> list[Entry]:
    found = []
    left = one.slots
    for entry in _of_month(one.month, before):
        if not (known := left & entry.slots):
            continue
        left -= known
        kept = Entry(one.month, one.reason, entry.asked_on, known)
        if entry.confirmed_on is not None:
            if entry.expires_at is None or now < entry.expires_at:
                kept = replace(entry, slots=known)
            else:
                again = 2 * (entry.expires_at.date() - entry.confirmed_on)
                kept = _confirmed(kept, now, again)
        elif entry.is_believed(now):
            # A row of its own: what another page of this answer confirms meets none that isn't.
            kept = _confirmed(replace(kept, asked_on=now.date()), now, _HELD)
        else:
            kept = replace(kept, expires_at=_first_answer(entry) + _NEXT_DAY)
        found.append(kept)
    if left:
        found.append(Entry(one.month, one.reason, now.date(), left, now + _NEXT_DAY))
    return found


def _of_month(month: date, before: Sequence[Entry]) -> list[Entry]:
    """Return what was held open of a month."""
    return [one for one in before if one.month == month and one.reason is not EmptyReason.no_trades]


def _confirmed(entry: Entry, now: datetime, again: timedelta) -> Entry:
    """Hold an absent session for a while, for good once a year has passed by then."""
    expires_at = now + again
    ends = expires_at.date() - entry.asked_on > _NO_LONGER
    return replace(entry, expires_at=None if ends else expires_at, confirmed_on=now.date())


def _first_answer(entry: Entry) -> datetime:
    """When the first answer came of an entry that no second one has confirmed."""
    if entry.expires_at is None:
        return datetime.combine(entry.asked_on, time(), UTC)
    wait = BELIEVED_AFTER if entry.reason is EmptyReason.unconfirmed else _NEXT_DAY
    return entry.expires_at - wait
