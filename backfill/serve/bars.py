"""``/bars``: all bars of a series, as Arrow, Parquet or CSV, sent as they are read."""

import asyncio
from typing import Any, Final

from aiohttp import hdrs, web

from backfill.audit.excerpt import blocks, whole_excerpt
from backfill.files.columnar import Rows, batch_of, schema, see_installed, writer_of
from backfill.serve import asking, passing
from backfill.serve.answers import READER
from backfill.serve.chart import asked_of
from backfill.serve.sending import is_held, pack, tag, unchanged

CONTENT_TYPES: Final = {
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
}


class _Outgoing:
    """A stream that a writer writes to, and whose bytes are taken out as they come."""

    closed = False

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._sent = 0

    def write(self, data: Any) -> int:
        """Take bytes."""
        self._bytes += data
        return len(data)

    def tell(self) -> int:
        """Return how many bytes were written in all."""
        return self._sent + len(self._bytes)

    def flush(self) -> None:
        """Do nothing: who sends takes what there is."""

    def taken(self) -> bytes:
        """Return what was written since it was last asked."""
        found = bytes(self._bytes)
        self._sent += len(found)
        self._bytes.clear()
        return found


async def bars(request: web.Request) -> web.StreamResponse:
    """Answer with all bars of a range, oldest first."""
    asking.see_known(request, "symbol", "timeframe", "from", "to", "adjustment", "format")
    form = asking.choice(request, "format", list(CONTENT_TYPES)) or "arrow"
    asked = asked_of(request)
    see_installed(f"/bars?format={form}")
    database = await request.app[READER].database()
    seen = await database.run(lambda connection: whole_excerpt(connection, asked))
    version = f"{seen.version}-{form}"
    if is_held(request, version):
        return unchanged(version)
    response = web.StreamResponse()
    response.content_type = CONTENT_TYPES[form]
    tag(response, version)
    name = f"{_file_name(seen.series.symbol.ticker)}-{asked.timeframe}.{form}"
    response.headers[hdrs.CONTENT_DISPOSITION] = f'attachment; filename="{name}"'
    if request.method == hdrs.METH_HEAD:
        return response  # not packed: aiohttp (3.14.5) would send the end of what is packed
    if form != "parquet":  # which is packed by itself
        pack(response)
    await response.prepare(request)
    outgoing = _Outgoing()
    rows = Rows(writer_of(form, outgoing, schema(names_symbol=False)))
    async for block in blocks(database, seen):
        await asyncio.to_thread(rows.add, batch_of(block))
        if piece := outgoing.taken():
            await response.write(piece)
        passing.goes_on(request)
    await asyncio.to_thread(rows.close)
    await response.write(outgoing.taken())
    await response.write_eof()
    return response


def _file_name(ticker: str) -> str:
    return "".join(
        one if one.isascii() and (one.isalnum() or one in ".-@") else "_" for one in ticker
    )


ROUTES: Final = (web.get("/bars", bars),)
