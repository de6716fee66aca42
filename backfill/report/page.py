"""The pages: templates that are given facts, and make text that every browser reads as text.

Whatever a template prints passes one place on its way: what can't be printed becomes a space, and
what is markup is escaped. The templates and the sheet ship with the package; jinja2 is loaded where
a page is made.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from backfill.core.plain import printable
from backfill.present.tables import duration_text, percent_text, time_text
from backfill.report import drawing
from backfill.report.facts import Cell

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from backfill.report.facts import Facts

_MOST_WORKING: Final = 50
"""How many jobs at work have a line of their own."""


def render(facts: Facts, link: Callable[[str, str], str] | None = None) -> str:
    """Return the report as one page that needs no other file, no script and no network.

    ``link`` returns the address of a series' own page, by its symbol and timeframe, where there is
    one.
    """
    return pages().get_template("report.html").render(facts=facts, css=sheet(), link=link)


@lru_cache(maxsize=1)
def sheet() -> Markup:
    """Return the style sheet that all pages share."""
    return Markup(files("backfill.report").joinpath("look.css").read_text("utf-8"))  # noqa: S704


def pages(*more: BaseLoader) -> Environment:
    """Return the templates of the report, and ``more`` that extend or replace them."""
    environment = Environment(
        loader=ChoiceLoader([*more, PackageLoader("backfill.report")]),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["most_working"] = _MOST_WORKING
    environment.filters |= {
        "cell": lambda name: Cell[name].value,
        "columns": drawing.columns,
        "day": _day,
        "duration": _duration,
        "line": drawing.line,
        "minute": time_text,
        "mix": drawing.mix,
        "number": _number,
        "percent": percent_text,
        "price": _price,
        "strip": drawing.strip,
    }
    return environment


def _finalize(value: Any) -> Any:
    """Return what a template is about to print: no text in it that can't be printed."""
    return value if isinstance(value, Markup) else printable(str(value))


def _number(number: int) -> str:
    return f"{number:,}"


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"


def _duration(seconds: float | None) -> str:
    return duration_text(seconds) if seconds is not None else ""


def _price(value: float) -> str:
    return f"{value:.6g}"
