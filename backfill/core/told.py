"""What people are told of once for each change: how a matter stood when they last heard of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Trouble(StrEnum):
    """What people are told of a matter that isn't well."""

    failing = "failing"
    """It was asked for and failed; of a command: it ended before its work did."""
    quarantined = "quarantined"
    """Bars of it failed a check and wait in quarantine."""
    refused = "refused"
    """The provider let no call through: its quota is used up, or the plan has no such data."""
    stale = "stale"
    """Its newest bar is older than it usually is by now."""


class Matter(NamedTuple):
    """What is told of: a series by its symbol and timeframe, or a command, which has none."""

    name: str
    timeframe: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a matter stands as one has seen it, None for well.

    Of one that was not ``tried`` only the stored bars were looked at: they tell whether it is
    stale, and nothing of what else was wrong with it.
    """

    trouble: Trouble | None
    tried: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """A matter that stands otherwise than people were told; None for well."""

    matter: Matter
    was: Trouble | None
    now: Trouble | None


def changes(told: Mapping[Matter, Trouble], seen: Mapping[Matter, Standing]) -> list[Change]:
    """Return what is to be told, in the order in which it was seen.

    Whatever was not seen says nothing: neither is it well, nor is it told of again.
    """
    found = []
    for matter, standing in seen.items():
        was = told.get(matter)
        now = _stands(was, standing)
        if now is not was:
            found.append(Change(matter, was, now))
    return found


def _stands(was: Trouble | None, seen: Standing) -> Trouble | None:
    """Return how a matter stands, by what was told of it and what was seen since."""
    if seen.tried or was in {None, Trouble.stale}:
        return seen.trouble
    return was
