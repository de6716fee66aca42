"""Pages as text: the report's templates, and those of the server that extend them."""

from functools import lru_cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader

from backfill.core.plain import json_text
from backfill.present.tables import time_text
from backfill.report.page import pages
from backfill.serve.drawing import missing_text
from backfill.store.times import to_time

TYPE: Final = "text/html"


def html(template: str, **values: Any) -> str:
    """Return a page made of a template and what it shows."""
    return _templates().get_template(template).render(**values)


@lru_cache(maxsize=1)
def _templates() -> Environment:
    environment = pages(PackageLoader("backfill.serve"))
    environment.filters |= {
        "at": lambda at_ms: time_text(to_time(at_ms)),
        "figure": lambda number: "" if number is None else f"{number:.12g}",
        "missing": missing_text,
        "raw": json_text,
    }
    return environment
