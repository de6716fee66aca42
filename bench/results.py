"""What a run of the benchmark found: every single measurement, kept as JSON."""

import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal, Self

import msgspec
import psutil

from bench.contestants import Timed
from bench.postgres import Digest, Writes

FOLDER: Final = Path(__file__).parent / "results"

_LIBRARIES: Final = (
    "ohlc-backfill",
    "aiohttp",
    "asyncpg",
    "msgspec",
    "numpy",
    "massive",
    "dlt",
    "polars",
    "adbc-driver-postgresql",
)

Phase = Literal["fresh", "again"]
"""A load into the empty table, or of the very same history once more."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much a run of the benchmark does.

    ``bars`` go to each contestant in each of ``rounds``; ``shallow`` and ``deep`` are tables, in
    bars, that a load of ``probe`` bars is added to; ``kept`` symbols are run without anything new
    to fetch, and ``planned`` symbols are planned from nothing.
    """

    name: str
    bars: int
    series: int
    rounds: int
    shallow: int
    deep: int
    probe: int
    kept: int
    planned: int


@dataclass(frozen=True, slots=True)
class About:
    """Where, when and with what it was measured."""

    taken_at: datetime
    processor: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    postgres: str
    libraries: dict[str, str]

    @classmethod
    def this(cls, taken_at: datetime, postgres: str) -> Self:
        """Describe this machine."""
        return cls(
            taken_at=taken_at,
            processor=_processor(),
            cores=os.cpu_count() or 0,
            memory_bytes=int(psutil.virtual_memory().total),
            system=f"{platform.system()} {platform.release().split('-')[0]}",
            python=platform.python_version(),
            postgres=postgres,
            libraries={name: version(name) for name in _LIBRARIES},
        )


@dataclass(frozen=True, slots=True)
class LoadRun:
    """One contestant's load in one round, and what it left in the table."""

    contestant: str
    phase: Phase
    round: int
    timed: Timed
    writes: Writes
    digest: Digest


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a scenario, measured once a round; ``at_least`` that, if one was cut short."""

    scenario: str
    what: str
    unit: str
    values: tuple[float, ...]
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Results:
    """All that a run of the benchmark found."""

    about: About
    scale: Scale
    loads: list[LoadRun]
    figures: list[Figure]

    def write(self, folder: Path = FOLDER) -> Path:
        """Write the file that `read` reads, named by the scale, and return its path."""
        folder.mkdir(exist_ok=True)
        file = folder / f"{self.scale.name}.json"
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
        return file

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what `write` wrote."""
        return msgspec.json.decode(file.read_bytes(), type=cls)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the least and the most around it."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Return the spread of some values; there must be one."""
        held = sorted(values)
        return cls(statistics.median(held), held[0], held[-1])


def _processor() -> str:
    """Return the processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
