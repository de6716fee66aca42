"""The real command, watched: its log as it comes, its signals, its memory."""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from tests.conftest import NOW, Cli, Ended

if TYPE_CHECKING:
    import subprocess

KEY = "k3y+of/these=tests"


@dataclass
class Kept:
    """The commands of a test: what those that ended have said, and those that go on."""

    ended: list[Ended] = field(default_factory=list)
    going: list["Going"] = field(default_factory=list)


@dataclass(frozen=True)
class Over(Ended):
    """A command that has ended, how long it took after it was told to, and its largest size."""

    max_rss_mb: float = 0.0
    lasted_s: float = 0.0


class Going:
    """A command under way."""

    def __init__(self, process: "subprocess.Popen[str]", kept: Kept) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self._kept = kept
        kept.going.append(self)
        self._began = monotonic()
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._err: list[str] = []
        self._out: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_err, args=(process.stderr,)),
            threading.Thread(target=lambda: self._out.append(process.stdout.read())),  # type: ignore[union-attr]  # asserted above
        ]
        for reader in self._readers:
            reader.start()

    def _read_err(self, stream: Any) -> None:
        for line in stream:
            self._err.append(line)
            self._lines.put(line)
        self._lines.put(None)

    def next_line(self, timeout: float = 60) -> str | None:
        """Return the next line of the log; None after the last one."""
        try:
            return self._lines.get(timeout=timeout)
        except Empty:
            raise AssertionError(f"silent for {timeout} s after: {''.join(self._err)}") from None

    def read_lines(self, number: int) -> None:
        """Read so many lines of the log, or all there are."""
        for _ in range(number):
            if self.next_line() is None:
                return

    def wait_for(self, event: str, timeout: float = 60, **values: Any) -> dict[str, Any]:
        """Read the log up to an event of this name that has these values."""
        while (line := self.next_line(timeout)) is not None:
            if line.startswith("{"):
                said: dict[str, Any] = msgspec.json.decode(line)
                if said.get("event") == event and values.items() <= said.items():
                    return said
        raise AssertionError(f"{event} never came: {''.join(self._err)}")

    def send(self, number: int) -> None:
        """Send a signal."""
        self._began = monotonic()
        # Not through Popen, which would reap a process that has just ended.
        os.kill(self.process.pid, number)

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def end(self, timeout: float = 100) -> Over:
        """Wait for the end."""
        for reader in self._readers:
            reader.join(timeout)
            assert not reader.is_alive(), f"still running after {timeout} s: {''.join(self._err)}"
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        over = Over(
            self.process.returncode,
            "".join(self._out),
            "".join(self._err),
            usage.ru_maxrss / 1024,
            monotonic() - self._began,
        )
        self._kept.ended.append(over)
        self._kept.going.remove(self)
        return over

    def kill(self) -> Over:
        """Kill it as a power cut would."""
        self.send(signal.SIGKILL)
        return self.end()


@dataclass(frozen=True)
class Command:
    """The command ``backfill run`` by a clock that stands still, with the environment of a test."""

    environment: dict[str, str]
    kept: Kept
    now: datetime = NOW

    def start(self, *arguments: str, **environment: str) -> Going:
        """Start ``backfill run``."""
        cli = Cli(self.environment | environment)
        as_of = ("--as-of", self.now.isoformat())
        return Going(cli.start("run", *arguments, *as_of, "--json"), self.kept)

    def __call__(self, *arguments: str, timeout: float = 100, **environment: str) -> Over:
        """Run ``backfill run`` to its end, forked; its size is told by who starts it."""
        as_of = ("--as-of", self.now.isoformat())
        began = monotonic()
        ended = Cli(self.environment)(
            *("run", *arguments, *as_of, "--json"), timeout=timeout, **environment
        )
        over = Over(ended.code, ended.out, ended.err, lasted_s=monotonic() - began)
        self.kept.ended.append(over)
        return over


def eventually(holds: Callable[[], object], timeout: float = 30, every_s: float = 0.02) -> None:
    """Wait until something holds, which is looked at ``every_s``."""
    until = monotonic() + timeout
    pause = threading.Event()
    while not holds():
        assert monotonic() < until, "it never came to hold"
        pause.wait(every_s)
