"""What a contestant is told, and what it tells when it is done."""

import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Final, Self

from bench.workload import Load

VARIABLE: Final = "BENCH_JOB"


@dataclass(frozen=True, slots=True)
class Job:
    """The series to load, from which provider, into which database."""

    database: str
    provider: str
    loads: tuple[Load, ...]

    @classmethod
    def given(cls) -> Self:
        """Read the job from the environment."""
        told = json.loads(os.environ[VARIABLE])
        return cls(
            told["database"], told["provider"], tuple(Load(**load) for load in told["loads"])
        )

    def as_environment(self) -> dict[str, str]:
        """Return the variable that `given` reads."""
        return {VARIABLE: json.dumps(asdict(self))}


@dataclass(frozen=True, slots=True)
class Done:
    """When the last bar was committed, in seconds of the epoch.

    ``began_at`` is set by who asks no provider: the clock starts there.
    """

    finished_at: float
    began_at: float | None = None


def done(began_at: float | None = None) -> None:
    """Say that all is committed."""
    print(json.dumps(asdict(Done(time.time(), began_at))))
