"""Dataclasses that are made quickly are what those of Python's own are."""

import copy
import dataclasses
import inspect
import pickle
from dataclasses import FrozenInstanceError, asdict, field, fields, replace
from typing import Any

import pytest

from backfill.core.dataclass import dataclass


def made_by(maker: Any, **options: Any) -> Any:
    """Return a class with everything that ours use of dataclasses."""

    @maker(**options)
    class Made:
        """A class."""

        first: int
        second: str = "two"
        third: list[int] = field(default_factory=list, compare=False)
        fourth: str | None = field(default=None, repr=False)
        fifth: int = field(default=5, kw_only=True)

    return Made


ways = pytest.mark.parametrize(
    "options",
    [
        {"frozen": True, "slots": True},
        {"frozen": True},
        {"slots": True},
        {"frozen": True, "slots": True, "eq": False},
        {"frozen": True, "slots": True, "kw_only": True},
    ],
)


@ways
def test_they_take_what_others_take_and_say_the_same_of_themselves(options: dict[str, Any]) -> None:
    ours, others = made_by(dataclass, **options), made_by(dataclasses.dataclass, **options)
    for given in ({"first": 1}, {"first": 2, "third": [3], "fourth": "x", "fifth": 6}):
        mine, theirs = ours(**given), others(**given)
        assert repr(mine) == repr(theirs)
        assert asdict(mine) == asdict(theirs)
        assert asdict(replace(mine, second="ii")) == asdict(replace(theirs, second="ii"))
        assert asdict(copy.deepcopy(mine)) == asdict(theirs)
        assert hasattr(mine, "__dict__") == hasattr(theirs, "__dict__")
    assert ours.__match_args__ == others.__match_args__
    assert [one.name for one in fields(ours)] == [one.name for one in fields(others)]
    assert [
        (one.name, one.kind, one.annotation) for one in inspect.signature(ours).parameters.values()
    ] == [
        (one.name, one.kind, one.annotation)
        for one in inspect.signature(others).parameters.values()
    ]
    with pytest.raises(TypeError):
        ours()


@ways
def test_they_are_equal_and_found_where_others_are(options: dict[str, Any]) -> None:
    ours, others = made_by(dataclass, **options), made_by(dataclasses.dataclass, **options)

    def compared(cls: Any) -> list[object]:
        one, same, other = cls(first=1), cls(first=1, third=[9]), cls(first=1, fourth="x")
        can_be_found = cls.__hash__ is not None
        return [
            one == same,
            one == other,
            one == (1, "two", None, 5),
            can_be_found and hash(one) == hash(same),
            can_be_found and len({one, same, other}),
            can_be_found,
        ]

    assert compared(ours) == compared(others)


@dataclass(frozen=True, slots=True)
class Kept:
    """A value that sees to itself."""

    at: int

    def __post_init__(self) -> None:
        if self.at < 0:
            raise ValueError("below zero")

    def __repr__(self) -> str:
        return f"<{self.at}>"


def test_a_frozen_one_can_not_be_changed_and_keeps_the_methods_of_its_own() -> None:
    kept = Kept(3)
    with pytest.raises(FrozenInstanceError):
        kept.at = 4  # type: ignore[misc]  # what is tried
    with pytest.raises(FrozenInstanceError):
        del kept.at
    with pytest.raises(ValueError, match="below zero"):
        Kept(-1)
    assert repr(kept) == "<3>"
    assert pickle.loads(pickle.dumps(kept)) == kept == Kept(3)


def test_what_is_not_frozen_can_be_changed() -> None:
    @dataclass(slots=True)
    class Count:
        """A count."""

        so_far: int = 0

    count = Count()
    count.so_far += 1
    assert count == Count(1)
