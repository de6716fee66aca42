"""What people are told of: each change once, whatever runs see, miss, or can't send."""

from hypothesis import given
from hypothesis import strategies as st

from backfill.core.told import Change, Matter, Standing, Trouble, changes

MATTERS = [Matter("AAPL", "d1"), Matter("AAPL", "m1"), Matter("MSFT", "d1"), Matter("run --all")]
troubles = st.sampled_from([None, *Trouble])
tried = st.builds(Standing, troubles)
looked_at = st.builds(Standing, st.sampled_from([None, Trouble.stale]), tried=st.just(False))
runs = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(MATTERS), tried | looked_at),
        st.booleans(),  # whether the message gets there
    ),
    max_size=12,
)


def told_by(runs_: list[tuple[dict[Matter, Standing], bool]]) -> list[list[Change]]:
    """The messages that got there, of runs that follow one another."""
    told: dict[Matter, Trouble] = {}
    messages = []
    for seen, gets_there in runs_:
        found = changes(told, seen)
        if gets_there:
            messages.append(found)
            for one in found:
                told.pop(one.matter, None)
                if one.now is not None:
                    told[one.matter] = one.now
    return messages


@given(runs)
def test_each_change_is_told_once_and_nothing_else_is(
    seen: list[tuple[dict[Matter, Standing], bool]],
) -> None:
    """Against one matter walked through by itself: what is told of it and when."""
    messages = told_by(seen)
    for matter in MATTERS:
        heard: Trouble | None = None
        wanted = []
        for standings, gets_there in seen:
            standing = standings.get(matter)
            if standing is None:
                now = heard
            elif standing.tried:
                now = standing.trouble
            else:  # only staleness shows in the bars
                now = standing.trouble if heard in (None, Trouble.stale) else heard
            if now != heard and gets_there:
                wanted.append((heard, now))
                heard = now
        found = [(one.was, one.now) for said in messages for one in said if one.matter == matter]
        assert found == wanted


@given(runs)
def test_what_one_heard_last_is_how_it_was_when_it_was_tried_last(
    seen: list[tuple[dict[Matter, Standing], bool]],
) -> None:
    everything = dict.fromkeys(MATTERS, Standing(None))
    messages = told_by([*seen, (everything, True), (everything, True)])
    assert messages[-1] == []
    last = {one.matter: one.now for said in messages for one in said}
    assert set(last.values()) <= {None}
