"""Errors raised on purpose hold nothing but what they say."""

import gc
import weakref

import pytest

from backfill.errors import BackfillError, BadAnswer


class Answer:
    """Something large that the frame of whoever reads it holds."""


def read(seen: list[weakref.ref[Answer]]) -> None:
    answer = Answer()
    seen.append(weakref.ref(answer))
    try:
        float("no number")
    except ValueError:
        raise BadAnswer("it can't be read") from None


def test_an_error_that_lets_go_holds_nothing_of_what_raised_it() -> None:
    seen: list[weakref.ref[Answer]] = []
    with pytest.raises(BackfillError) as raised:
        read(seen)
    error = raised.value
    del raised
    gc.disable()
    try:
        assert seen[0]() is not None
        error.let_go()
        assert seen[0]() is None
    finally:
        gc.enable()
    assert str(error) == "it can't be read"
