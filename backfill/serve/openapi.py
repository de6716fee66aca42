"""``/openapi.json``: what other programs can ask for, described by OpenAPI 3.1."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec
from aiohttp import web

from backfill.core.timeframe import Timeframe
from backfill.core.udf import RESOLUTIONS
from backfill.present.chart import ChartAnswer
from backfill.serve import asking, bars, chart, looks
from backfill.serve.sending import JSON, sent_json
from backfill.store.recent import RunRow

Schema = Mapping[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_NUMBERS: Final[Schema] = {"type": "array", "items": {"type": "number"}}
_STAMP: Final[Schema] = {"type": "string", "format": "date-time"}
_MAYBE_STAMP: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_WHEN: Final = "A date (the beginning of its session), an instant, or a length back: 1y, 30d."


def _parameter(
    name: str, schema: Schema, description: str, *, required: bool = False
) -> dict[str, Any]:
    found = {"name": name, "in": "query", "schema": schema, "description": description}
    return {**found, "required": True} if required else found


def _limit(default: int, most: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return _parameter("limit", schema, "How many at most.")


_SYMBOL: Final = _parameter("symbol", _TEXT, "A ticker, as AAPL or BTC/USD.", required=True)
_TIMEFRAME: Final = _parameter("timeframe", {"enum": list(Timeframe), "default": "d1"}, "Of bars.")
_FROM: Final = _parameter("from", _TEXT, f"From when on. {_WHEN}")
_TO: Final = _parameter("to", _TEXT, f"Before when. {_WHEN}")
_ADJUSTMENT: Final = _parameter(
    "adjustment", {"enum": list(asking.ADJUSTMENTS)}, "How prices are adjusted; as stored, unless."
)
_SOME_SYMBOL: Final = {**_SYMBOL, "required": False}
_SOME_TIMEFRAME: Final = _parameter("timeframe", {"enum": list(Timeframe)}, "Only this one.")
_UDF_SYMBOL: Final = _parameter("symbol", _TEXT, "As AAPL, or XNYS:AAPL.", required=True)
_SECONDS: Final[Schema] = {"type": "integer", "description": "Seconds of the epoch."}


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required)}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _by_name(of: Schema) -> Schema:
    return {"type": "object", "additionalProperties": of}


_ERROR: Final = _object({"error": _TEXT})
_UDF_ERROR: Final = _object({"s": {"const": "error"}, "errmsg": _TEXT, "error": _TEXT})
_STATUS: Final = _object(
    {
        "symbol": _TEXT,
        "timeframe": {"enum": list(Timeframe)},
        "bars": {"type": "integer"},
        "oldest": _MAYBE_STAMP,
        "newest": _MAYBE_STAMP,
        "coverage": _list({"type": "array", "items": _STAMP, "minItems": 2, "maxItems": 2}),
        "due_until": _MAYBE_STAMP,
        "behind": {"type": "integer"},
        "fresh": {"type": "boolean"},
        "quarantined": {"type": "integer"},
        "source": {"type": ["string", "null"]},
        "missing": {"type": "integer"},
        "share": {"type": ["number", "null"]},
        "state": _TEXT,
        "reloading": {"type": ["array", "null"], "items": _STAMP, "minItems": 2, "maxItems": 2},
    }
)
_GAP: Final = _object(
    {"from": _STAMP, "to": _STAMP, "slots": {"type": "integer"}},
    {"reason": _TEXT, "again": _STAMP},
)
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_MAYBE_SECONDS: Final[Schema] = {"type": ["number", "null"], "description": "In seconds."}
_OF_SECONDS: Final[Schema] = {"type": "number", "description": "In seconds."}
_JOB: Final = {"id": {"type": "integer"}, "name": _TEXT, "provider": _TEXT}
_QUEUE: Final = _object(
    {
        **dict.fromkeys(("queued", "working", "held"), _COUNT),
        "providers": _by_name(
            _object(
                {
                    **dict.fromkeys(("queued", "deferred", "working", "held", "done_1h"), _COUNT),
                    **dict.fromkeys(("oldest_s", "left_s"), _MAYBE_SECONDS),
                    "ended_24h": _by_name(_COUNT),
                }
            )
        ),
        "workers": _list(_object({"worker": _TEXT, "jobs": _list({"type": "integer"})})),
        "jobs_working": _list(
            _object({**_JOB, "worker": _TEXT, **dict.fromkeys(("since_s", "heard_s"), _OF_SECONDS)})
        ),
        "jobs_held": _list(
            _object(
                {
                    **_JOB,
                    "since": _STAMP,
                    "parked": {"type": "boolean"},
                    "why": {"type": ["string", "null"]},
                }
            )
        ),
        "schedule": _object(
            {
                "leader": {"type": ["string", "null"]},
                "timeframes": _by_name(
                    _object({"enqueued_at": _MAYBE_STAMP, "next_at": _MAYBE_STAMP})
                ),
            }
        ),
    }
)
_UDF_INFO: Final = _object(
    {
        **dict.fromkeys(("name", "ticker", "type", "exchange", "session", "timezone"), _TEXT),
        "minmov": {"type": "integer"},
        "pricescale": {"type": "integer"},
        "has_intraday": {"type": "boolean"},
        "has_daily": {"type": "boolean"},
        "has_weekly_and_monthly": {"type": "boolean"},
        "supported_resolutions": _list({"enum": list(RESOLUTIONS)}),
    }
)
_UDF_HISTORY: Final[Schema] = {
    "oneOf": [
        _object({"s": {"const": "ok"}, "t": _list(_SECONDS), **dict.fromkeys("ohlcv", _NUMBERS)}),
        _object({"s": {"const": "no_data"}}, {"nextTime": _SECONDS}),
    ]
}
_UDF_FOUND: Final = _object(
    dict.fromkeys(("symbol", "full_name", "description", "exchange", "ticker", "type"), _TEXT)
)


def _operation(
    summary: str, answer: Mapping[str, Schema], *parameters: Schema, error: str = "Error"
) -> Schema:
    """Return what a path can be asked for, and its answer by content type."""
    refused = {"description": "Why not.", "content": {JSON: {"schema": _ref(error)}}}
    return {
        "get": {
            "summary": summary,
            "parameters": list(parameters),
            "responses": {
                "200": {
                    "description": "What was asked for.",
                    "headers": {"ETag": {"schema": _TEXT, "description": "Which version it is."}},
                    "content": {kind: {"schema": schema} for kind, schema in answer.items()},
                },
                "304": {"description": "It is what If-None-Match names."},
                **dict.fromkeys(("400", "401", "404", "503"), refused),
            },
        }
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def document() -> dict[str, Any]:
    """Return the description."""
    (answer, run), components = msgspec.json.schema_components(
        (ChartAnswer, RunRow), ref_template="#/components/schemas/{name}"
    )
    limits = _limit(chart.DEFAULT_LIMIT, chart.MOST)
    kind = _parameter("format", {"enum": list(bars.CONTENT_TYPES), "default": "arrow"}, "As what.")
    some = (_SOME_SYMBOL, _SOME_TIMEFRAME)
    ranged = (_SYMBOL, _TIMEFRAME, _FROM, _TO)
    binary = {"type": "string", "format": "binary"}
    words = [_parameter(name, _TEXT, "To look for.") for name in ("query", "type", "exchange")]
    seconds = [_parameter(name, _SECONDS, "Of the range.") for name in ("from", "to", "countback")]
    resolution = _parameter("resolution", {"enum": list(RESOLUTIONS)}, "Of bars.", required=True)
    paths = {
        "/chart": _operation(
            "The newest bars of a range", {JSON: answer}, *ranged, limits, _ADJUSTMENT
        ),
        "/bars": _operation(
            "All bars of a range, as a file",
            dict.fromkeys(bars.CONTENT_TYPES.values(), binary),
            *ranged,
            _ADJUSTMENT,
            kind,
        ),
        "/status": _operation(
            "How each series stands", {JSON: _object({"series": _list(_ref("Status"))})}, *some
        ),
        "/gaps": _operation(
            "Due bars that are missing",
            {JSON: _object({"series": _list(_ref("Gaps"))})},
            *some,
            _FROM,
            _TO,
        ),
        "/runs": _operation(
            "The newest runs that did something",
            {JSON: _object({"runs": _list(run)})},
            _limit(looks.DEFAULT_RUNS, looks.MOST_RUNS),
        ),
        "/queue": _operation("What waits for workers, is at work, and is held", {JSON: _QUEUE}),
        "/metrics": _operation(
            "All of that for Prometheus",
            dict.fromkeys(("text/plain", "application/openmetrics-text"), _TEXT),
        ),
        "/healthz": _operation(
            "Whether the database can be read", {JSON: _object({"status": {"const": "ok"}})}
        ),
        "/openapi.json": _operation("This", {JSON: {"type": "object"}}),
        "/udf/config": _operation("What a data feed has", {JSON: {"type": "object"}}),
        "/udf/time": _operation("The server's clock, in seconds", {"text/plain": _TEXT}),
        "/udf/symbols": _operation(
            "What a chart has to know of a symbol",
            {JSON: _UDF_INFO},
            _UDF_SYMBOL,
            error="UdfError",
        ),
        "/udf/search": _operation(
            "Symbols that a word may mean",
            {JSON: _list(_UDF_FOUND)},
            *words,
            _limit(30, 100),
            error="UdfError",
        ),
        "/udf/history": _operation(
            "Bars as columns",
            {JSON: _UDF_HISTORY},
            _UDF_SYMBOL,
            resolution,
            *seconds,
            error="UdfError",
        ),
    }
    gaps = _object({"symbol": _TEXT, "timeframe": {"enum": list(Timeframe)}, "gaps": _list(_GAP)})
    return {
        "openapi": "3.1.0",
        "info": {"title": "backfill", "version": version("ohlc-backfill")},
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                **components,
                "Error": _ERROR,
                "UdfError": {"anyOf": [_UDF_ERROR, _ERROR]},
                "Status": _STATUS,
                "Gaps": gaps,
            },
        },
    }


async def openapi(request: web.Request) -> web.StreamResponse:
    """Answer with the description."""
    return sent_json(request, document())


ROUTES: Final = (web.get("/openapi.json", openapi),)
