"""What a worker is asked to do, and what it did."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Duties:
    """What a worker does.

    Parameters
    ----------
    providers
        Whose fetches it takes.
    concurrency
        How many it works at.
    schedule
        Whether it also enqueues what becomes due, in turn with other workers that do.
    drain
        Whether it ends when nothing is queued any more, for it to take.
    """

    providers: tuple[str, ...]
    concurrency: int = 4
    schedule: bool = False
    drain: bool = False


@dataclass(slots=True)
class Worked:
    """What a worker did, and how it ended."""

    done: int = 0
    handed_back: int = 0
    held: int = 0
    exit_code: int = 0
    error: str | None = None
