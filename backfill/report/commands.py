"""The words of the commands that a page names."""

from collections.abc import Sequence
from typing import Final

from backfill.core.plain import argument

RUN_ALL: Final = "backfill run --all"
_NAMED: Final = 50


def named(symbols: Sequence[str], timeframes: Sequence[str]) -> str:
    """Return the words of a command that name series: of many symbols the first."""
    return f"{words(symbols)} -t {argument(','.join(timeframes))}"


def words(symbols: Sequence[str]) -> str:
    """Return symbols as words of a command, of many the first."""
    return " ".join(map(argument, symbols[:_NAMED]))
