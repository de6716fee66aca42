"""A terminal of 80 columns and 24 rows for commands, and what it shows of them."""

import os
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Final

import pyte

COLUMNS: Final = 80
ROWS: Final = 24
_BLOCK: Final = 16 * 1024
_SCROLLED: Final = 100_000


class Terminal:
    """What a terminal shows, and what has left it upwards.

    ``path`` is the device that commands open. What they print is shown as it comes, by a thread.
    """

    def __init__(self, master: int, path: str) -> None:
        self.path = path
        self._master = master
        self._screen = pyte.HistoryScreen(COLUMNS, ROWS, history=_SCROLLED)
        self._stream = pyte.ByteStream(self._screen)

    def text(self) -> list[str]:
        """Return every line, from the first that was printed, without blanks at its end."""
        lines = [*self._screen.history.top, *(self._screen.buffer[row] for row in range(ROWS))]
        found = ["".join(line[at].data for at in range(COLUMNS)).rstrip() for line in lines]
        while found and not found[-1]:
            del found[-1]
        return found

    def show(self) -> None:
        """Show what commands print, until nothing has the device open any more."""
        while True:
            try:
                printed = os.read(self._master, _BLOCK)
            except OSError:  # what Linux says at the end, where others return nothing
                return
            if not printed:
                return
            self._stream.feed(printed)


@contextmanager
def terminal() -> Iterator[tuple[Terminal, Callable[[], list[str]]]]:
    """Open a terminal; the function closes the device and returns all that was shown on it."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (ROWS, COLUMNS))
    shown = Terminal(master, os.ttyname(slave))
    thread = Thread(target=shown.show, name="terminal")
    thread.start()

    def ended() -> list[str]:
        nonlocal slave
        os.close(slave)
        slave = -1
        thread.join()
        return shown.text()

    try:
        yield shown, ended
    finally:
        if slave >= 0:
            os.close(slave)
            thread.join()
        os.close(master)
