"""A plot as SVG: one bar per contestant, with the spread of its rounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from bench.results import Spread

_WIDTH: Final = 860
_LABELS: Final = 330
_VALUES: Final = 90
_ROW: Final = 34
_BAR: Final = 20
_HEAD: Final = 44
_SCALE: Final = _WIDTH - _LABELS - _VALUES


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the plot."""

    label: str
    value: Spread
    ours: bool = False


def draw(title: str, bars: Sequence[Bar]) -> str:
    """Return the plot; the longest bar fills its width."""
    height = _HEAD + _ROW * len(bars) + 10
    scale = _SCALE / max(bar.value.most for bar in bars)
    rows = "".join(_row(bar, _HEAD + _ROW * number, scale) for number, bar in enumerate(bars))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"
    width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="13" fill="#222">
<title>{escape(title)}</title>
<rect width="100%" height="100%" fill="#fff"/>
<text x="10" y="26" font-size="15" font-weight="bold">{escape(title)}</text>
{rows}</svg>
"""


def _row(bar: Bar, top: int, scale: float) -> str:
    weight, colour = ("bold", "#1f77b4") if bar.ours else ("normal", "#b8c4ce")
    middle, baseline = top + _BAR / 2, top + _BAR / 2 + 4
    length, least, most = (
        value * scale for value in (bar.value.median, bar.value.least, bar.value.most)
    )
    label, value = escape(bar.label), f"{bar.value.median:,.0f}"
    return f"""\
<text x="{_LABELS - 8}" y="{baseline}" text-anchor="end" font-weight="{weight}">{label}</text>
<rect x="{_LABELS}" y="{top}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>
<path d="M{_LABELS + least:.1f} {middle}H{_LABELS + most:.1f}" stroke="#222"/>
<text x="{_LABELS + most + 6:.1f}" y="{baseline}">{value}</text>
"""
