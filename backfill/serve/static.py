"""Files that pages need: styles and scripts, the same for everybody."""

from pathlib import Path
from typing import Final

from aiohttp import web

FILES: Final = Path(__file__).parent / "static"

ROUTES: Final = (web.static("/static", FILES),)
