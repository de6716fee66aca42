"""Which timeframe is fetched for which, and what stored bars answer for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.core.coverage import Spans
from backfill.core.derive import choose_bases
from backfill.core.empty import FOREVER_MS
from backfill.core.local import Base, roll_up_stored
from backfill.core.series import Progress, Series, Source, Symbol
from backfill.core.timeframe import MINUTE_MS, Timeframe
from tests.property.oracle import Case

SOURCE = Source("massive", "sip", "raw")
ORDER = list(Timeframe)
DAYS = {Timeframe.d1, Timeframe.w1, Timeframe.mn1}


def native(timeframe: Timeframe) -> Timeframe:
    """What is fetched for a stock's series that stands alone."""
    return Timeframe.h1 if timeframe is Timeframe.h4 else timeframe


def finer(timeframe: Timeframe) -> list[Timeframe]:
    """What a timeframe can be rolled up from."""
    if timeframe in DAYS:
        return [] if timeframe is Timeframe.d1 else [Timeframe.d1]
    return ORDER[: ORDER.index(timeframe)]


@st.composite
def held(draw: st.DrawFn) -> dict[Timeframe, Progress]:
    found = {}
    for timeframe in draw(st.sets(st.sampled_from(ORDER))):
        base = draw(st.sampled_from([None, *finer(timeframe)]))
        provider = draw(st.sampled_from(["massive", "massive", "another"]))
        source = draw(st.sampled_from([None, Source(provider, "sip", "raw", base)]))
        found[timeframe] = Progress(source=source)
    return found


@given(st.sets(st.sampled_from(ORDER), min_size=1), held())
def test_new_series_share_the_finest_base_and_old_ones_keep_theirs(
    wanted: set[Timeframe], known: dict[Timeframe, Progress]
) -> None:
    bases = choose_bases({one: native(one) for one in wanted}, known, lambda _: SOURCE)
    assert bases.keys() == wanted
    fetched = set(bases.values())
    for timeframe, base in bases.items():
        source = known.get(timeframe, Progress()).source
        if source is not None and source.provider == SOURCE.provider:
            assert base == (source.derived_from or timeframe)
            continue
        # From itself or what it can be rolled up from; a day is never made of minutes.
        assert base in {timeframe, *finer(timeframe)}
        # Nothing that is fetched anyway is finer and could have served.
        better = [
            one for one in fetched & set(finer(timeframe)) if ORDER.index(one) < ORDER.index(base)
        ]
        assert not better
    family = [one for one in wanted if one not in DAYS]
    new = [one for one in family if known.get(one, Progress()).source is None]
    # No call is spent on a second intraday timeframe for the sake of new series.
    if len(new) == len(family) > 0:
        assert len({bases[one] for one in family}) == 1


def test_a_bar_rejected_at_night_leaves_what_would_be_rolled_up_without_it_to_be_fetched() -> None:
    case = Case("XNYS", "Thanksgiving", Timeframe.m5)
    night = case.slots[0]
    assert not night.regular
    minutes = [night.start + one * MINUTE_MS for one in range(5)]
    stored = Bars.of(
        [(ms, 1.0, 1.0, 1.0, 1.0, 1.0, None, None) for ms in minutes if ms != minutes[3]]
    )
    series = Series(Symbol(1, "AAPL", "stock", "XNYS"), Timeframe.m5)
    slots = Spans.of((night.start, case.slots[1].end))
    for rejected, left in (([], Spans()), ([minutes[3]], Spans.of((night.start, night.end)))):
        base = Base(Timeframe.m1, slots, stored, rejected_ms=np.array(rejected, np.int64))
        chunk, found = roll_up_stored(case.calendar, series, SOURCE, slots, base, FOREVER_MS)
        assert found == left
        assert chunk.claims == slots - left
        assert chunk.bars.ts_ms.tolist() == ([] if left else [night.start])


def test_weeks_and_months_share_days_and_one_of_them_alone_is_fetched_as_it_is() -> None:
    both = choose_bases(
        {Timeframe.w1: Timeframe.w1, Timeframe.mn1: Timeframe.mn1}, {}, lambda _: SOURCE
    )
    assert set(both.values()) == {Timeframe.d1}
    alone = choose_bases({Timeframe.w1: Timeframe.w1}, {}, lambda _: SOURCE)
    assert alone == {Timeframe.w1: Timeframe.w1}
