"""What decimal columns can hold: a table that was adopted may have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from backfill.core.dataclass import dataclass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backfill.core.bars import Bars

_MILLIONTH: Final = 1e-6


class Decimals(NamedTuple):
    """A decimal column of bars: how many digits it has before the point, and after it."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Precision:
    """The decimal columns of a table of bars; any other holds doubles."""

    columns: tuple[Decimals, ...]

    def loses(self, bars: Bars) -> NDArray[np.bool_]:
        """Whether each bar has a price that would be off by a millionth, or has no room at all.

        A volume is only rounded: the column was chosen for that.
        """
        import numpy as np

        lost = np.zeros(len(bars), bool)
        with np.errstate(invalid="ignore"):  # infinite prices fail another check
            for name, before, after in self.columns:
                values = getattr(bars, name)
                lost |= values >= 10.0**before
                if name != "volume":
                    lost |= np.abs(np.round(values, after) - values) > _MILLIONTH * np.abs(values)
        return lost

    def rounds(self, name: str) -> float:
        """By how much a column may change a value that it holds."""
        return max((0.5 * 10.0**-one.after for one in self.columns if one.name == name), default=0)


EXACT: Final = Precision(())
"""Every column holds what a provider sends, to the last bit."""
