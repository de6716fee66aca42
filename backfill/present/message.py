"""What a message says of what has changed: short, a paragraph for each cause, in plain text."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from backfill.core.plain import chat
from backfill.core.told import Change, Matter, Trouble
from backfill.present.failures import Block, blocks, remedy
from backfill.run.outcomes import QUARANTINED, Failure

_MOST_CHARACTERS: Final = 1500
"""A message fits into one of any chat's; Discord's may have 2,000."""
_WHY_CHARACTERS: Final = 250
_NAMED: Final = 8
_LOUD: Final = {Trouble.failing, Trouble.quarantined}
_CALLED: Final = {"everyone", "here", "channel", "all"}
_PLAIN: Final = re.compile(
    r"[\w.:/^=+-]+(?:@[\d-]+)?(?:@(?P<venue>[a-z][a-z0-9]*)(?:-[a-z0-9]+)*)?"
)

_COUNTED: Final = {
    Trouble.failing: "failing",
    Trouble.quarantined: "with bars in quarantine",
    Trouble.refused: "refused by quota or plan",
    Trouble.stale: "stale",
}
_TITLES: Final = {
    Trouble.failing: "Failing",
    Trouble.quarantined: "In quarantine",
    Trouble.refused: "Refused by quota or plan",
    Trouble.stale: "Stale",
}

Reasons = Mapping[Matter, Failure]
"""Why matters aren't well, where somebody has said so."""


@dataclass(frozen=True, slots=True)
class Message:
    """What people are told at once."""

    title: str
    text: str
    severity: Literal["failure", "warning", "success"]


def message(changes: Sequence[Change], reasons: Reasons) -> Message:
    """Return what people are told of some changes; there is one at least.

    The title counts them all, the text begins with the worst and leaves out what is too much.
    """
    commands = [one for one in changes if not one.matter.timeframe]
    series = [one for one in changes if one.matter.timeframe]
    paragraphs = [_command(one, reasons) for one in commands]
    for trouble in Trouble:
        paragraphs += _troubled(trouble, series, reasons)
    paragraphs += _recovered(series)
    return Message(
        f"backfill: {', '.join(_counts(commands, series))}",
        _fitting(paragraphs),
        _severity(changes),
    )


def _severity(changes: Iterable[Change]) -> Literal["failure", "warning", "success"]:
    now = {one.now for one in changes}
    if now & _LOUD:
        return "failure"
    return "success" if now == {None} else "warning"


def _counts(commands: Iterable[Change], series: Sequence[Change]) -> Iterator[str]:
    """Yield what the title says of each kind of change."""
    for one in commands:
        yield f"{one.matter.name} {'works again' if one.now is None else 'failed'}"
    for trouble in Trouble:
        if count := sum(one.now is trouble for one in series):
            yield f"{count:,} series {_COUNTED[trouble]}"
    if count := sum(one.now is None for one in series):
        yield f"{count:,} series well again"


def _command(change: Change, reasons: Reasons) -> str:
    if change.now is None:
        return f"{change.matter.name} works again."
    why = reasons.get(change.matter)
    return f"{change.matter.name} ended before its work did: {_cut(why.message if why else '')}"


def _troubled(trouble: Trouble, series: Iterable[Change], reasons: Reasons) -> Iterator[str]:
    """Yield a paragraph for each cause of a trouble."""
    said = {} if trouble is Trouble.stale else reasons
    outcome = QUARANTINED if trouble is Trouble.quarantined else ""
    found = [_failure(one.matter, said, outcome) for one in series if one.now is trouble]
    for block in blocks(found):
        first = f"{_TITLES[trouble]}: {_counted(block)}"
        yield "\n".join(filter(None, [first, _cut(block.why), *_mended(trouble, block)]))


def _failure(matter: Matter, reasons: Reasons, outcome: str = "") -> Failure:
    why = reasons.get(matter)
    return why or Failure(matter.name, matter.timeframe, outcome, "")


def _recovered(series: Iterable[Change]) -> Iterator[str]:
    for block in blocks(_failure(one.matter, {}) for one in series if one.now is None):
        yield "\n".join([f"Well again: {_counted(block)}", *_named(block)])


def _counted(block: Block) -> str:
    whose = f" of {block.provider}" if block.provider else ""
    return f"{chat(block.counted)}{whose}"


def _named(block: Block) -> list[str]:
    """Return the line that names the first symbols, where there are several."""
    if len(block.symbols) == 1:
        return []
    more = len(block.symbols) - _NAMED
    named = " ".join(map(_name, block.symbols[:_NAMED]))
    return [f"{named} and {more:,} more" if more > 0 else named]


def _mended(trouble: Trouble, block: Block) -> list[str]:
    lines = _named(block)
    if trouble is Trouble.stale:
        return [*lines, "see: backfill status --stale"]
    if (found := remedy(block, _NAMED)) is not None:
        is_plain = all(one == _name(one) for one in block.symbols[:_NAMED])
        what = found.what if is_plain else chat(found.what)
        lines.append(f"mend: {found.before}{what}{found.after}")
    return lines


def _name(ticker: str) -> str:
    """Return a ticker as it is, so that it can be copied, unless it might mean more in a chat."""
    plain = _PLAIN.fullmatch(ticker)
    return ticker if plain and plain["venue"] not in _CALLED else chat(ticker)


def _cut(why: str) -> str:
    text = chat(why)
    return text if len(text) <= _WHY_CHARACTERS else f"{text[: _WHY_CHARACTERS - 1]}…"


def _fitting(paragraphs: Sequence[str]) -> str:
    """Join as many paragraphs as a message may hold, and say how many were left out."""
    kept: list[str] = []
    room = _MOST_CHARACTERS
    for one in paragraphs:
        room -= len(one) + 2
        if room < 0 and kept:
            break
        kept.append(one[:_MOST_CHARACTERS])
    if left := len(paragraphs) - len(kept):
        kept.append(f"… and {left:,} more causes: backfill status, and the log, have them all.")
    return "\n\n".join(kept)
