"""Files that pages need: styles and scripts, the same for everybody."""

from pathlib import Path
from typing import Final

from aiohttp import web

from backfill.report.page import sheet

FILES: Final = Path(__file__).parent / "static"


async def _look(_request: web.Request) -> web.Response:
    return web.Response(text=sheet(), content_type="text/css")


ROUTES: Final = (web.get("/static/look.css", _look), web.static("/static", FILES))
