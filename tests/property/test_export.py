"""Which months of an export are written again: those that are another now, and no others."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backfill.core.coverage import Spans
from backfill.core.export import (
    Changed,
    Factor,
    File,
    Mark,
    Part,
    Partition,
    RunBars,
    Written,
    batches,
    digests,
    months_of,
    outdated,
)
from backfill.core.series import Series, Symbol
from backfill.core.timeframe import DAY_MS, Timeframe

FILE = File(1_000, 1)
BEGINS_MS = Partition(Timeframe.d1, date(2023, 11, 1)).span.start_ms
DAYS = st.integers(0, 200).map(lambda day: BEGINS_MS + day * DAY_MS // 2)
COVERED = st.lists(st.tuples(DAYS, DAYS), max_size=4).map(Spans.union)
SERIES = [
    Series(Symbol(number, ticker, "stock", "XNYS"), timeframe)
    for number, ticker in enumerate(("A", "B"))
    for timeframe in (Timeframe.h1, Timeframe.d1)
]
SOURCES = st.sampled_from(["massive/sip/raw", "yahoo/sip/split"])
PARTS = st.tuples(
    *(st.builds(Part, st.just(one), SOURCES, COVERED) for one in SERIES),
)


def months(part: Part) -> dict[Partition, tuple[str, Spans]]:
    """What each month holds of a part, found slot by slot of half a day."""
    found: dict[Partition, tuple[str, Spans]] = {}
    for start_ms, end_ms in part.spans:
        for at_ms in range(start_ms, end_ms, DAY_MS // 2):
            day = date.fromordinal(date(1970, 1, 1).toordinal() + at_ms // DAY_MS)
            partition = Partition(part.series.timeframe, day.replace(day=1))
            _, spans = found.get(partition, ("", Spans()))
            found[partition] = part.source, spans | Spans.of((at_ms, at_ms + DAY_MS // 2))
    return found


def held(parts: tuple[Part, ...]) -> dict[Partition, list[object]]:
    found: dict[Partition, list[object]] = {}
    for part in parts:
        for partition, of in months(part).items():
            found.setdefault(partition, []).append((part.series.symbol.ticker, *of))
    return found


@given(before=PARTS, after=PARTS, changed=st.sampled_from(SERIES), first=DAYS, last=DAYS)
def test_a_month_is_written_again_if_it_holds_something_else_or_a_run_changed_bars_of_it(
    before: tuple[Part, ...], after: tuple[Part, ...], changed: Series, first: int, last: int
) -> None:
    written = {one.folder: Written(7, digest, FILE) for one, digest in digests(before).items()}
    change = Changed(changed, min(first, last), max(first, last))
    was, now = held(before), held(after)
    assert set(digests(after)) == set(now)
    expected = {
        one
        for one in now
        if now[one] != was.get(one)
        or (
            one.timeframe is changed.timeframe
            and one.span.start_ms <= change.last_ms
            and change.first_ms < one.span.end_ms
        )
    }
    found = outdated(digests(after), written, dict.fromkeys(written, FILE), [change])
    assert len(found) == len(set(found))
    assert set(found) == expected
    # What isn't there is written anyhow, but for what had no bars.
    assert set(outdated(digests(before), written, {}, ())) == set(was)
    others = dict.fromkeys(written, File(FILE.size, FILE.modified_ns + 1))
    assert set(outdated(digests(before), written, others, ())) == set(was)


@given(parts=PARTS, most=st.integers(1, 2_000))
def test_batches_hold_each_part_of_a_month_once_in_order_and_no_more_than_fit(
    parts: tuple[Part, ...], most: int
) -> None:
    month = Partition(Timeframe.d1, date(2023, 12, 1)).span
    cut = list(batches(parts, month, most))
    assert [one for batch in cut for one in batch] == [one for one in parts if one.within(month)]
    for batch in cut:
        assert len(batch) == 1 or sum(one.most_bars(month) for one in batch) <= most


@given(covered=COVERED)
def test_the_months_of_spans_are_named_once_and_in_order(covered: Spans) -> None:
    found = list(months_of(covered))
    assert found == sorted(set(found))


def test_a_split_makes_the_months_before_it_others_and_leaves_those_after_it() -> None:
    month = Partition(Timeframe.d1, date(2023, 12, 1)).span
    covered = Spans.of((BEGINS_MS, BEGINS_MS + 150 * DAY_MS))
    raw = Part(SERIES[1], "massive/sip/raw", covered)
    split = Factor(0, month.start_ms + 10 * DAY_MS, 2.0)
    adjusted = Part(SERIES[1], "massive/sip/raw", covered, (split,))
    before, after = digests([raw]), digests([adjusted])
    assert [one.month.month for one in before if before[one] != after[one]] == [11, 12]


def test_a_mark_tells_what_changed_since_unless_a_run_has_gone() -> None:
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    runs = {
        "old": RunBars(noon - timedelta(days=2), 5),
        "late": RunBars(noon - timedelta(hours=3), 4),
        "last": RunBars(noon, 3),
        "running": RunBars(None, 2),
    }
    mark = Mark.of(runs)
    assert mark == Mark(noon, {"late": 4, "last": 3, "running": 2})
    later = runs | {"running": RunBars(noon, 9), "new": RunBars(None, 1)}
    assert mark.changing(later) == ["old", "running", "new"]
    assert mark.is_trusted(later, noon + timedelta(days=59))
    assert not mark.is_trusted(later, noon + timedelta(days=60))
    del later["late"]
    assert not mark.is_trusted(later, noon)
