"""Whether what is known of a symbol says that its ticker has come to an end."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from backfill.core.series import Symbol

_SILENCE: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a symbol that somebody wants to set aside, as days of its exchange.

    ``newest`` is the day of its newest bar, ``answered`` the last day that the provider has
    answered for.
    """

    symbol: Symbol
    newest: date
    answered: date | None

    @property
    def has_ended(self) -> bool:
        """Whether another company has the ticker, its life under it has ended, or its trade has."""
        symbol = self.symbol
        silent = self.answered is not None and self.answered - self.newest >= _SILENCE
        return symbol.successor_figi is not None or symbol.last_day is not None or silent

    def __str__(self) -> str:
        """Return what speaks for its life, in one sentence."""
        answered = f", and was answered for up to {self.answered}" if self.answered else ""
        company = f"its company (FIGI {self.symbol.figi})" if self.symbol.figi else "its company"
        return (
            f"{self.symbol.ticker} looks alive: it has bars up to {self.newest}{answered}; neither "
            f"an end of its listing nor another owner of the ticker than {company} is known"
        )
