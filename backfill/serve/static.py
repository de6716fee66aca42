"""Files that pages need: styles and scripts, the same for everybody."""

from pathlib import Path
from typing import Final

from aiohttp import web

from backfill.report.page import sheet

FILES: Final = Path(__file__).parent / "static"
_NAMED: Final = {
    one.relative_to(FILES).as_posix(): one for one in FILES.rglob("*") if one.is_file()
}


async def _look(_request: web.Request) -> web.Response:
    return web.Response(text=sheet(), content_type="text/css")


async def _file(request: web.Request) -> web.FileResponse:
    """Answer with a file of the package; whatever is asked for, no other is looked for."""
    found = _NAMED.get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    return web.FileResponse(found)


ROUTES: Final = (web.get("/static/look.css", _look), web.get("/static/{name:.+}", _file))
