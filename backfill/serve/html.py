"""Pages as text: the report's templates, and those of the server that extend them."""

import hashlib
from functools import lru_cache
from typing import Any, Final

from aiohttp import web
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


def tagged(request: web.Request, text: str, kind: str, *beside: str) -> web.Response:
    """Return a text with a tag by which one who has it need not be sent it again."""
    tag = hashlib.sha256("".join((text, *beside)).encode()).hexdigest()[:32]
    if f'"{tag}"' in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers={"ETag": f'"{tag}"'})
    answer = web.Response(text=text, content_type=kind, headers={"ETag": f'"{tag}"'})
    answer.enable_compression()
    return answer


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
