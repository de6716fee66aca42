from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backfill.core.coverage import Span, Spans

Pairs = list[tuple[int, int]]
pairs = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8)


def instants(spans: Pairs | Spans) -> set[int]:
    return {instant for start, end in spans for instant in range(start, end)}


def is_canonical(spans: Spans) -> bool:
    return all(start < end for start, end in spans) and all(
        one.end_ms < other.start_ms for one, other in pairwise(spans)
    )


@given(pairs)
def test_a_union_holds_the_instants_of_its_spans_in_canonical_form(some: Pairs) -> None:
    spans = Spans.of(*some)
    assert instants(spans) == instants(some)
    assert is_canonical(spans)


@given(pairs, pairs)
def test_set_operations_agree_with_sets_of_instants(some: Pairs, others: Pairs) -> None:
    a, b = Spans.of(*some), Spans.of(*others)
    for result, expected in (
        (a | b, instants(some) | instants(others)),
        (a & b, instants(some) & instants(others)),
        (a - b, instants(some) - instants(others)),
    ):
        assert instants(result) == expected
        assert is_canonical(result)


@given(pairs, pairs)
def test_sets_of_the_same_instants_are_equal_and_hash_alike(some: Pairs, others: Pairs) -> None:
    a, b = Spans.of(*some), Spans.of(*others)
    assert (a == b) is (instants(some) == instants(others))
    assert hash((a - b) | (a & b)) == hash(a)


@given(pairs, st.integers(0, 30), st.integers(0, 30))
def test_covers_means_that_no_instant_of_the_range_is_outside(
    some: Pairs, start: int, end: int
) -> None:
    assert Spans.of(*some).covers(start, end) is (set(range(start, end)) <= instants(some))


@given(pairs)
def test_hull_length_and_truth_describe_the_set(some: Pairs) -> None:
    spans, held = Spans.of(*some), instants(some)
    assert spans.hull == (Span(min(held), max(held) + 1) if held else None)
    assert bool(spans) is bool(held)
    assert len(spans) == sum(instant - 1 not in held for instant in held)
