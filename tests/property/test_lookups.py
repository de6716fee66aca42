"""What is looked up in one pass is what is found one by one."""

from bisect import bisect_right

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.bars import is_among
from backfill.core.column import last_not_after

STAMPS = st.lists(st.integers(-5, 30), max_size=60)


@given(edges=STAMPS.map(sorted), values=STAMPS | STAMPS.map(sorted))
def test_the_last_edge_not_after_each_value_is_found(edges: list[int], values: list[int]) -> None:
    found = last_not_after(np.array(edges, np.int64), np.array(values, np.int64))
    assert found.tolist() == [bisect_right(edges, value) - 1 for value in values]


@given(data=st.data(), others=STAMPS)
def test_each_value_is_found_that_is_among_others(data: st.DataObject, others: list[int]) -> None:
    values = data.draw(STAMPS | st.just(sorted(set(others))))
    found = is_among(np.array(values, np.int64), np.array(others, np.int64))
    assert found.tolist() == [value in others for value in values]
