"""What a process costs: seconds, CPU of it and of Postgres, and peak memory.

Its CPU time and memory are looked at from outside, five times a second, so that a command needs no
change to be measured, and so that the time before its first request can be told apart.
"""

import math
import os
import re
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import psutil

_EVERY_S: Final = 0.2
_KEEP_OUT: Final = (
    "BACKFILL_",
    "DATABASE_URL",
    "MASSIVE_API_KEY",
    "POLYGON_API_KEY",
    "CI",
    "GITHUB",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """CPU seconds used until an instant, in seconds of the epoch."""

    at: float
    process_s: float
    postgres_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended, and what it took; at least that, if it was ``cut`` short.

    ``began_at`` and ``ended_at`` are in seconds of the epoch; ``peak_bytes`` is the most memory
    that it and its children held at once, pages shared among them counted for each.
    """

    out: str
    err: str
    began_at: float
    ended_at: float
    peak_bytes: int
    samples: tuple[Sample, ...]
    cut: bool = False

    @property
    def seconds(self) -> float:
        """How long it ran, start-up included."""
        return self.ended_at - self.began_at

    @property
    def cpu(self) -> tuple[float, float]:
        """The CPU seconds of the process and of Postgres, from its start to its end."""
        return self.cpu_between(self.began_at, self.ended_at)

    def cpu_between(self, first: float, last: float) -> tuple[float, float]:
        """Return the CPU seconds of the process and of Postgres between two instants."""
        at = [sample.at for sample in self.samples]
        process_s = [sample.process_s for sample in self.samples]
        postgres_s = [sample.postgres_s for sample in self.samples]
        return _used_s(first, last, at, process_s), _used_s(first, last, at, postgres_s)


def run_measured(
    command: Sequence[str],
    environment: Mapping[str, str],
    postmaster: int,
    *,
    folder: Path | None = None,
    codes: Sequence[int] = (0,),
    most_cpu_s: float = math.inf,
) -> Ended:
    """Run a command to its end; ``environment`` comes on top of a clean one.

    One that has used ``most_cpu_s`` with Postgres is ended then.

    Raises
    ------
    RuntimeError
        If it exits with another of the ``codes``.
    """
    postgres = tree_of(postmaster)
    children_before_s, postgres_before_s = _children_s(), postgres.cpu_s()
    began_at = time.time()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=clean_environment() | dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watch = _Watch(tree_of(process.pid), postgres, process.kill, most_cpu_s)
    watch.samples.append(Sample(began_at, 0.0, postgres_before_s))
    watch.start()
    out, err = process.communicate()
    ended_at = time.time()
    watch.stop()
    watch.samples.append(Sample(ended_at, _children_s() - children_before_s, postgres.cpu_s()))
    if process.returncode not in codes and not watch.cut:
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}:\n{err[-3000:]}")
    peak_bytes, samples = watch.peak_bytes, tuple(watch.samples)
    return Ended(out, err, began_at, ended_at, peak_bytes, samples, watch.cut)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what a command would take for its settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_KEEP_OUT)}


class Tree:
    """A process and its descendants."""

    def __init__(self, root: psutil.Process) -> None:
        self._root = root

    def alive(self) -> list[psutil.Process]:
        """Return those that have not ended; none once the first of them has."""
        with suppress(psutil.NoSuchProcess):
            return [self._root, *self._root.children(recursive=True)]
        return []

    def cpu_s(self) -> float:
        """Return the CPU seconds that they have used, those that have ended included."""
        return sum(map(_cpu_s, self.alive()))


def tree_of(pid: int) -> Tree:
    """Return a process and its descendants."""
    return Tree(psutil.Process(pid))


class _Watch(threading.Thread):
    """Takes a sample of a process and of Postgres at each beat, and ends what has used enough."""

    def __init__(
        self, process: Tree, postgres: Tree, end: Callable[[], None], most_cpu_s: float
    ) -> None:
        super().__init__(name="watch")
        self.cut = False
        self._end = end
        self._most_cpu_s = most_cpu_s
        self.samples: list[Sample] = []
        self.peak_bytes = 0
        self._process = process
        self._postgres = postgres
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            alive = self._process.alive()
            used_s = sum(map(_cpu_s, alive))
            postgres_s = self._postgres.cpu_s()
            self.samples.append(Sample(time.time(), used_s, postgres_s))
            self.peak_bytes = max(self.peak_bytes, sum(map(_peak_bytes, alive)))
            if used_s + postgres_s - self.samples[0].postgres_s > self._most_cpu_s:
                self.cut = True
                self._end()
                return

    def stop(self) -> None:
        """Stop looking, once the process has ended."""
        self._ended.set()
        self.join()


def _used_s(first: float, last: float, at: list[float], until: list[float]) -> float:
    """Return what was used between two instants, from what had been used at those looked at.

    A child that ended while it was looked at may be missing from one of them.
    """
    before, after = np.interp((first, last), at, np.maximum.accumulate(until))
    return float(after - before)


def _cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and of the children that it has waited for."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0


def _peak_bytes(process: psutil.Process) -> int:
    """Return the most memory that a process has held; what it holds now where that isn't told."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
        said = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(said[1]) * 1024 if said else 0
    except FileNotFoundError:
        with suppress(psutil.NoSuchProcess):
            return int(process.memory_info().rss)
        return 0


def _children_s() -> float:
    """Return the CPU seconds of every child that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
