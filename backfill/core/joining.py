"""What several answers bring to the same series, as one of them would: to be written together."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import or_

from backfill.core.bars import Bars
from backfill.core.coverage import Spans
from backfill.core.paging import Chunk


def may_join(newer: Sequence[Chunk], older: Sequence[Chunk]) -> bool:
    """Whether what two answers bring says the same when it is written as one.

    They are of the same series, one lies before the other, and neither has anything to tell but
    bars and empty slots.
    """
    return len(newer) == len(older) and all(map(_may_join, newer, older))


def joined(pages: Sequence[Sequence[Chunk]]) -> list[Chunk]:
    """Return what some pages bring to each series, the newest given first, as what one brings.

    `may_join` holds for each two that follow one another.
    """
    return [_joined(chunks) for chunks in zip(*reversed(pages), strict=True)]


def _may_join(newer: Chunk, older: Chunk) -> bool:
    same = (newer.series, newer.source, newer.replaces) == (
        older.series, older.source, older.replaces
    )  # fmt: skip
    follows = not (len(older.bars) and len(newer.bars)) or (
        older.bars.ts_ms[-1] < newer.bars.ts_ms[0]
    )
    return same and bool(follows) and _is_plain(newer) and _is_plain(older)


def _is_plain(chunk: Chunk) -> bool:
    """Whether a chunk is of its own range alone: no rows set aside, no closed hours at its ends."""
    says_more = chunk.is_all or chunk.lacks_vwap or chunk.unconfirmed or chunk.joints
    return not (says_more or len(chunk.rejected))


def _joined(chunks: Sequence[Chunk]) -> Chunk:
    """Return chunks of one series, the oldest first, as one."""
    doubts = [one.doubt for one in chunks if one.doubt is not None]
    return replace(
        chunks[0],
        bars=Bars.concat([one.bars for one in chunks]),
        claims=Spans.union(span for one in chunks for span in one.claims),
        empty=[slots for one in chunks for slots in one.empty],
        ignored=sum(one.ignored for one in chunks),
        doubt=reduce(or_, doubts) if doubts else None,
        provisional=Spans.union(span for one in chunks for span in one.provisional),
        seam=chunks[-1].seam,  # the others' are among the bars
    )
