"""What the pages of one request prove, page by page, for every series that they feed."""

# Over 300 lines: what a page proves: one argument, made once for the base and once for what is
# rolled up.

from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final

import numpy as np

from backfill.core.bars import NO_STAMPS, Bars, IntColumn, is_among
from backfill.core.calendar import Calendar
from backfill.core.checks import (
    EARLIEST_MS,
    LATEST_MS,
    Checked,
    Reason,
    check_page,
    drop_repeated,
    refuse_coarser_count,
)
from backfill.core.coverage import Span, Spans
from backfill.core.empty import (
    FOREVER_MS,
    EmptyReason,
    EmptySlots,
    Joint,
    empty_slots,
    joints,
    late_from,
    unproven_slots,
)
from backfill.core.listing import SESSIONS_PER_BAR, SILENT_SESSIONS, Closes, Jump
from backfill.core.plan import PlannedRange, final_days_end
from backfill.core.raw import Oddities
from backfill.core.rollup import roll_up
from backfill.core.series import Series, Source
from backfill.core.splits import basis_ends
from backfill.core.suspect import Doubt
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.wire import Page
from backfill.core.work import Target, Work
from backfill.errors import BadAnswer

_IDLE_PAGES: Final = 3
_REMEMBERED: Final = 128
"""How many of a page's bars are held against the next one: a thousand streams wait with as many."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one page brings to one series.

    ``claims`` is the range that it closes; ``rejected`` bars go to quarantine for their
    ``reasons``, ``ignored`` counts those that go nowhere, ``empty`` are the slots of the range that
    hold nothing, ``doubt`` is about sessions among them that may be suspect, ``joints`` are the
    closed hours at its ends. ``provisional`` is the part of the claims whose day isn't final yet.
    ``replaces`` is the other source that the series may hold bars of, all of which leave with this
    page. ``is_all`` tells that a stored bar within the range has to go where ``bars`` has none.
    ``oddities`` tells what came where a bar holds something else than numbers. ``unconfirmed`` is
    the range of an answer that proves nothing by itself; then ``empty`` are its slots. Of one that
    ``lacks_vwap`` a stored bar that is the same but for it stays as it is. ``seam`` are bars of the
    page before, written with it, of which what is rolled up with this page was made as well.
    """

    series: Series
    source: Source
    bars: Bars
    claims: Spans
    empty: list[EmptySlots] = field(default_factory=list)
    rejected: Bars = field(default_factory=Bars.empty)
    oddities: Oddities = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    ignored: int = 0
    replaces: Source | None = None
    joints: list[Joint] = field(default_factory=list)
    doubt: Doubt | None = None
    provisional: Spans = field(default_factory=Spans)
    is_all: bool = False
    unconfirmed: Spans = field(default_factory=Spans)
    lacks_vwap: bool = False
    seam: Bars = field(default_factory=Bars.empty)


class Paging:
    """Reads the pages of one planned range, newest first, into chunks.

    A page proves the range from its oldest bar to where the page before it ended. That oldest bar
    itself waits for the next page and is stored and claimed with it, so that a bar which a provider
    cuts in two is never taken for whole. The last page proves the rest. Bars that the page before
    had as well say nothing new; a page that tells otherwise of one of them, or the third in a row
    that reaches no further back, is refused.

    Series that are rolled up are fed with the slots that are whole so far; what is left over waits
    for the next page, which is the first of the range before if that follows on ``newer``: a week
    in which the name changed has days of both. ``upto_ms`` is where the part begins that is proven
    so far. ``leaves_holes`` once a page has proven less than it was asked for.
    """

    def __init__(
        self, work: Work, planned: PlannedRange, now_ms: int, newer: "Paging | None" = None
    ) -> None:
        self._work = work
        self._planned = planned
        self._now_ms = now_ms
        self._grid = work.calendar.grid(work.base)
        self.upto_ms = planned.span.end_ms
        self.leaves_holes = False
        self._edge = Bars.empty()
        self._before = Bars.empty()
        self._forgets = False
        self._idle = 0
        self._late_ms: int | None = None
        self._quarantined: IntColumn = np.empty(0, np.int64)
        follows = (
            newer is not None
            and planned.span.end_ms <= newer.start_ms
            and not self._grid.count((planned.span.end_ms, newer.start_ms))
        )
        self.oldest: Bars = newer.oldest if newer and follows else Bars.empty()
        if newer and follows and newer.has_bars:
            self._late_ms = FOREVER_MS  # the provider has had what is newer than all of this
        self.rollups: dict[Timeframe, _RollUp] = (
            newer.rollups
            if newer and follows and not newer.leaves_holes
            else {
                target.series.timeframe: _RollUp(target, work, planned.span.end_ms)
                for target in work.fed
                if target.series.timeframe is not work.base
            }
        )

    @property
    def start_ms(self) -> int:
        """Where the range begins."""
        return self._planned.span.start_ms

    @property
    def has_bars(self) -> bool:
        """Whether any page has brought a bar so far, or one of the range that follows had."""
        return self._late_ms not in {None, -FOREVER_MS}

    @property
    def ends_in_silence(self) -> bool:
        """Whether the newest slots of the range have no bars, by its first page."""
        return self._late_ms is not None and self._late_ms < self._planned.span.end_ms

    def leaves_a_question(self, page: Page) -> bool:
        """Whether a page calls for the reference, to tell whose its bars are and since when.

        So it is when the last page leaves a session or more empty at the start of the range, or
        nothing at all comes of a symbol that nobody has confirmed, or any page has a silence of two
        weeks between its bars.
        """
        stamps = self._stamps(page)
        if page.next is None:
            if not len(stamps) and not self._work.symbol.confirmed:
                return True
            oldest = int(stamps[0]) if len(stamps) else self._planned.span.end_ms
            days = self._work.calendar.grid(Timeframe.d1)
            if days.narrow((self._planned.span.start_ms, oldest)) is not None:
                return True
        return self._after_silence(stamps) > 0

    @property
    def is_first(self) -> bool:
        """Whether nothing of the range is proven yet."""
        return self.upto_ms == self._planned.span.end_ms

    def closes(self, page: Page, newer: Bars | None = None) -> Closes:
        """The closes of a page, of what waits of the one before, and of newer bars."""
        bars = [page.bars, self._edge] if newer is None else [page.bars, self._edge, newer]
        return Closes.of(self._work.calendar, self._work.base, Bars.concat(bars))

    def jumps(self, page: Page, newer: Bars) -> list[Jump]:
        """Where the price of a share jumps in a page; a pair is nobody else's before it."""
        close = np.concatenate((page.bars.close, self._edge.close, newer.close))
        # What doesn't double in all has no two closes to look at.
        if not len(close) or 0 < close.max() < 2 * close.min():
            return []
        if not self._work.is_of_shares:
            return []
        return self.closes(page, newer).jumps()

    def of_another(self, page: Page, listed_on: date) -> list[Chunk]:
        """A page of weeks or months as what it brings of another company: all to quarantine.

        That in which the listing lies holds bars of both. The rest is asked for again, as days.
        """
        work, calendar = self._work, self._work.calendar
        asked = Span(self._planned.span.start_ms, self.upto_ms)
        unseen = drop_repeated(calendar, work.base, page.bars, self._before)
        checked = check_page(calendar, work.base, unseen, asked, self._now_ms, work.precision)
        ends_ms = basis_ends(work.base, listed_on, calendar.name)
        older, _ = Bars.concat([checked.bars, self._edge]).parted(ends_ms)
        checked = checked.with_rejected(older, Reason.before_listing)
        target = next((one for one in work.fed if one.series.timeframe is work.base), None)
        if target is None:
            return []
        return [
            Chunk(
                target.series, target.source, Bars.empty(), Spans(),
                rejected=checked.rejected, reasons=checked.reasons,
            )
        ]  # fmt: skip

    def trades_since(self, page: Page) -> date | None:
        """Return the day from which on a page's bars know no silence; None if they can't tell."""
        stamps = self._stamps(page)
        if self._work.base in SESSIONS_PER_BAR or not len(stamps):
            return None
        first_ms = int(stamps[self._after_silence(stamps)])
        # The page has not been checked yet: its stamps may be of another unit.
        if not EARLIEST_MS <= first_ms <= LATEST_MS:
            return None
        return self._work.calendar.trade_date(first_ms)

    def _stamps(self, page: Page) -> IntColumn:
        stamps = np.concatenate((page.bars.ts_ms, self._edge.ts_ms))
        return np.sort(stamps, kind="stable")  # quick for what comes in order, either way

    def _after_silence(self, stamps: IntColumn) -> int:
        """The index of the first stamp after the last silence; 0 if there is none."""
        usual = SESSIONS_PER_BAR.get(self._work.base, 1)
        # A session is a day at least, so that few pages have anything to count.
        long = np.flatnonzero(np.diff(stamps) > SILENT_SESSIONS * DAY_MS)
        before, after = (self._work.calendar.session_of(stamps[at]) for at in (long, long + 1))
        silences = long[after - before > SILENT_SESSIONS + usual]
        return int(silences[-1]) + 1 if len(silences) else 0

    def reaches(self, listed_ms: int | None) -> bool:
        """Whether all is proven that lies after the symbol's listing."""
        return listed_ms is not None and all(
            self.upto_ms
            <= self._work.calendar.grid(timeframe).widen((listed_ms, listed_ms + 1)).start_ms
            for _, timeframe in self._work.series
        )

    def read(self, page: Page, listed_ms: int | None, final_ms: int) -> list[Chunk]:
        """Return what a page brings to each series.

        ``listed_ms`` is when the symbol's life begins, if that is known by now: nothing before it
        is claimed, and what comes of it is another company's and goes to quarantine. ``final_ms``
        is up to where the answer is final.

        Raises
        ------
        BadAnswer
            If the page is not what was asked for, or contradicts the page before.
        """
        work = self._work
        refuse_coarser_count(work.base, page)
        asked = Span(self._planned.span.start_ms, self.upto_ms)
        if page.silent_from_ms is not None:
            final_ms = min(final_ms, page.silent_from_ms)
        if page.unconfirmed and not self._confirms(asked):
            self.leaves_holes = True
            return [self._unproven(target, asked) for target in work.fed]
        unseen = drop_repeated(
            work.calendar, work.base, page.bars, self._before, forgets=self._forgets
        )
        checked = check_page(
            work.calendar,
            work.base,
            unseen,
            asked,
            self._now_ms,
            work.precision,
            among_others=page.among_others,
        )
        if self._late_ms is None and (checked.edge_ms is not None or page.next is None):
            newest_ms, due_ms = self._newest(checked, asked), min(asked.end_ms, final_ms)
            self._late_ms = late_from(work.calendar, work.base, newest_ms, due_ms)
        claim = self._claim(asked, page, checked)
        edge, bars = Bars.concat([checked.bars, self._edge]).parted(claim.start_ms)
        filler_ms = NO_STAMPS
        if work.fills_empty:
            filler_ms = checked.bars.ts_ms[checked.bars.volume == 0]
            edge, bars = (one.take(one.volume > 0) for one in (edge, bars))
        # What is kept for the next page must not hold this one in memory.
        self._edge = edge.oldest(len(edge))
        if len(page.bars):
            self._forgets = len(page.bars) + len(self._edge) > _REMEMBERED
            oldest = Bars.concat([page.bars.oldest(_REMEMBERED), self._edge])
            self._before = oldest.oldest(_REMEMBERED)
        quarantined = np.concatenate((self._slots_of(checked), self._quarantined))
        self._quarantined = quarantined[quarantined < claim.start_ms]
        if listed_ms is not None:
            begins_ms = self._grid.widen((listed_ms, listed_ms + 1)).start_ms
            older, bars = bars.parted(begins_ms)
            oldest, self._edge = self._edge.parted(begins_ms)
            checked = checked.with_rejected(Bars.concat([oldest, older]), Reason.before_listing)
        if len(bars):
            self.oldest = bars.oldest(1)
        chunks = []
        seam = self._seam()
        for target in work.fed:
            proven = self._proven(target, claim, listed_ms, final_ms)
            rollup = self.rollups.get(target.series.timeframe)
            chunks.append(
                rollup.chunk(
                    proven.start_ms,
                    final_ms,
                    bars,
                    self._edge,
                    quarantined,
                    checked,
                    self._late,
                    filler_ms,
                )
                if rollup
                else self._chunk(
                    target,
                    proven,
                    _kept(target, bars, final_ms),
                    quarantined,
                    checked,
                    filler_ms,
                    seam,
                )
            )
        return [replace(chunk, oddities=page.oddities) for chunk in chunks]

    def _seam(self) -> Bars:
        """Return the bars of the page before that are rolled up with this one."""
        waiting = [one.waiting for one in self.rollups.values()]
        return max(waiting, key=len, default=Bars.empty())

    @property
    def _late(self) -> int:
        return FOREVER_MS if self._late_ms is None else self._late_ms

    def _newest(self, checked: Checked, asked: Span) -> int | None:
        """The start of the newest slot that a page has a bar for, good or not."""
        stamps = np.concatenate((checked.bars.ts_ms, self._slots_of(checked)))
        stamps = stamps[(stamps >= asked.start_ms) & (stamps < asked.end_ms)]
        return int(stamps.max()) if len(stamps) else None

    def _claim(self, asked: Span, page: Page, checked: Checked) -> Span:
        """Return what a page proves of the range that was left, and leave the rest."""
        if page.next is None:
            silent = page.silent_before_ms
            start = asked.start_ms if silent is None else max(asked.start_ms, silent)
            self.leaves_holes |= start > asked.start_ms
            return Span(min(start, asked.end_ms), asked.end_ms)
        start = asked.end_ms
        if checked.edge_ms is not None:
            start = self._grid.widen((checked.edge_ms, checked.edge_ms + 1)).end_ms
        self._idle = self._idle + 1 if start >= asked.end_ms else 0
        if self._idle == _IDLE_PAGES:
            raise BadAnswer(f"{_IDLE_PAGES} pages in a row reach no further back")
        self.upto_ms = start
        return Span(start, asked.end_ms)

    def _confirms(self, asked: Span) -> bool:
        """Whether an answer of another day found all empty that is missing of a range."""
        return not any(self._open(one, asked) - one.answered for one in self._work.fed)

    def _open(self, target: Target, asked: Span) -> Spans:
        """The slots that are missing of a target and touch what was asked for."""
        grid = self._work.calendar.grid(target.series.timeframe)
        return Spans.union(map(grid.widen, Spans.of(asked) & target.missing))

    def _unproven(self, target: Target, asked: Span) -> Chunk:
        """What an answer brings that proves nothing by itself: slots that it found empty."""
        spans = self._open(target, asked)
        return Chunk(
            series=target.series,
            source=target.source,
            bars=Bars.empty(),
            claims=Spans(),
            empty=unproven_slots(self._work.calendar, target.series.timeframe, spans),
            replaces=target.replaces,
            unconfirmed=spans,
        )

    def _proven(self, target: Target, claim: Span, listed_ms: int | None, final_ms: int) -> Span:
        """Bound a claim by the symbol's listing, on a whole slot, and by what is final.

        Nothing is there before the listing: once that is reached, so is the start of its week.
        """
        start = claim.start_ms
        if listed_ms is not None:
            grid = self._work.calendar.grid(target.series.timeframe)
            slot = grid.widen((listed_ms, listed_ms + 1)).start_ms
            reached = start <= self._grid.widen((listed_ms, listed_ms + 1)).start_ms
            start = slot if reached else max(start, slot)
        return Span(start, min(claim.end_ms, final_ms))

    def _chunk(
        self,
        target: Target,
        claim: Span,
        bars: Bars,
        quarantined: IntColumn,
        checked: Checked,
        filler_ms: IntColumn,
        seam: Bars,
    ) -> Chunk:
        claims = Spans.of(claim) & target.missing
        # The bar that waits at the edge says that its session traded.
        present = np.concatenate((bars.ts_ms, self._edge.ts_ms, target.known_ms))
        chunk = Chunk(
            series=target.series,
            source=target.source,
            bars=bars,
            claims=claims,
            rejected=checked.rejected,
            reasons=checked.reasons,
            ignored=checked.ignored,
            replaces=target.replaces,
            seam=seam,
        )
        late = _late(target, self._work, self._late)
        return _with_empty(chunk, self._work, present, quarantined, late, filler_ms)

    def _slots_of(self, checked: Checked) -> IntColumn:
        canonical = self._work.calendar.canonical(self._work.base, checked.rejected.ts_ms)
        slots, inside = self._grid.floor(canonical)
        slots = slots[inside]
        return slots[~is_among(slots, checked.bars.ts_ms)]


def _with_empty(
    chunk: Chunk,
    work: Work,
    present_ms: IntColumn,
    quarantined_ms: IntColumn,
    late: Spans,
    filler_ms: IntColumn,
) -> Chunk:
    found = with_empty(
        chunk,
        work.calendar,
        work.base,
        work.day_final_ms,
        present_ms,
        quarantined_ms=quarantined_ms,
        late=late,
        filler_ms=filler_ms,
    )
    # Who says of every slot that nobody traded in it has lost nothing.
    return replace(found, doubt=None) if work.fills_empty else found


def with_empty(
    chunk: Chunk,
    calendar: Calendar,
    base: Timeframe,
    day_final_ms: int,
    present_ms: IntColumn,
    *,
    quarantined_ms: IntColumn,
    late: Spans,
    filler_ms: IntColumn = NO_STAMPS,
) -> Chunk:
    """Return a chunk with what its answer leaves empty, and what of that is not believed yet.

    ``base`` is what its bars are made of, ``day_final_ms`` up to where days are final.
    ``present_ms`` are the starts of its bars, and of those that are known to be there;
    ``quarantined_ms`` of those that were rejected, ``filler_ms`` of those that say that nobody
    traded. The provider may be ``late`` with some.
    """
    timeframe = chunk.series.timeframe
    empty = empty_slots(
        calendar,
        timeframe,
        chunk.claims,
        present_ms,
        quarantined_ms,
        late=late,
        day_final_ms=day_final_ms,
        parts=timeframe is not base or (timeframe.is_intraday and timeframe is not Timeframe.m1),
        filler_ms=filler_ms,
    )
    provisional = Spans()
    if timeframe.is_intraday:
        open_days = Spans.of((final_days_end(calendar, day_final_ms), FOREVER_MS))
        provisional = chunk.claims & open_days
    return replace(
        chunk,
        empty=empty,
        joints=joints(calendar, timeframe, chunk.claims),
        doubt=Doubt.about(
            calendar,
            timeframe,
            Spans.union(
                span for one in empty if one.reason is EmptyReason.no_trades for span in one.slots
            ),
            chunk.claims,
            present_ms,
            day_final_ms,
        ),
        provisional=provisional,
    )


def _late(target: Target, work: Work, late_ms: int) -> Spans:
    """Return what an answer is too old for, but what comes before a stored bar of its session."""
    late = Spans.of((late_ms, FOREVER_MS))
    if late_ms == FOREVER_MS or not len(target.known_ms):
        return late
    sessions = work.calendar.session_of(target.known_ms)
    began = work.calendar.midnight_ms[sessions]
    return late - Spans.union(zip(began.tolist(), (target.known_ms + 1).tolist(), strict=True))


def _kept(target: Target, bars: Bars, final_ms: int) -> Bars:
    """Return the bars that a series should hold; the base may be asked for more, for another."""
    wanted = Spans.of(target.wanted) if target.wanted else Spans()
    held = wanted | target.missing | target.beside
    return bars.take(held.holds(bars.ts_ms) | (bars.ts_ms >= final_ms))


class _RollUp:
    """Feeds one rolled-up series of a range from the pages of its base.

    Base bars that are ``waiting`` lie in a slot of which the older part is still to come.
    """

    def __init__(self, target: Target, work: Work, end_ms: int) -> None:
        self._target = target
        self._work = work
        self._grid = work.calendar.grid(target.series.timeframe)
        self._holds_rejected = work.base not in {one.series.timeframe for one in work.fed}
        # Closed hours hold no bar of the base: a week is whole when its Friday is.
        self._base = work.calendar.grid(work.base)
        self._upto = self._next_start(end_ms)
        self.waiting = Bars.empty()
        self._waiting_bad: IntColumn = np.empty(0, np.int64)

    def chunk(
        self,
        proven_ms: int,
        final_ms: int,
        bars: Bars,
        edge: Bars,
        quarantined: IntColumn,
        checked: Checked,
        late_ms: int,
        filler_ms: IntColumn,
    ) -> Chunk:
        """Roll up the slots that the base is proven for by now, from ``proven_ms`` on."""
        base = Bars.concat([bars, self.waiting])
        bad = np.concatenate((quarantined, self._waiting_bad))
        # On an end-of-day plan what is final ends with a session, and a week after it.
        upto = min(self._upto, self._next_start(self._base.widen((final_ms, final_ms)).start_ms))
        before = self._base.index_from(proven_ms)
        start = self._base.end_of(before - 1) if before else proven_ms
        whole = self._grid.narrow((start, upto)) or Span(upto, upto)
        if not self._base.count((whole.end_ms, upto)):
            whole = Span(whole.start_ms, upto)  # closed hours are proven with what is before them
        self._upto = whole.start_ms
        self.waiting = base.take(base.ts_ms < whole.start_ms)
        self._waiting_bad = bad[bad < whole.start_ms]
        rolled = roll_up(
            base.take((base.ts_ms >= whole.start_ms) & (base.ts_ms < whole.end_ms)), self._grid
        )
        # A bar that lacks one of its parts would look right and be wrong.
        spoiled, _ = self._grid.floor(bad[(bad >= whole.start_ms) & (bad < whole.end_ms)])
        rolled = _kept(self._target, rolled.take(~is_among(rolled.ts_ms, spoiled)), final_ms)
        claims = Spans.of(whole) & self._target.missing
        # What waits here, and the bar at the edge, say that their session traded.
        waiting = (self.waiting.ts_ms, edge.ts_ms)
        present = np.concatenate((rolled.ts_ms, *waiting, self._target.known_ms))
        chunk = Chunk(
            series=self._target.series,
            source=self._target.source,
            bars=rolled,
            claims=claims,
            replaces=self._target.replaces,
        )
        late = _late(self._target, self._work, late_ms)
        chunk = _with_empty(chunk, self._work, present, spoiled, late, filler_ms)
        if self._holds_rejected:
            return replace(
                chunk,
                rejected=checked.rejected,
                reasons=checked.reasons,
                ignored=checked.ignored,
            )
        return chunk

    def _next_start(self, at_ms: int) -> int:
        """Return where the first slot of the base begins from an instant on, or the instant."""
        following = self._base.index_from(at_ms)
        return self._base.start_of(following) if following < len(self._base) else at_ms
