"""What the server tells other programs: charts, TradingView's data feed, bars, how it stands."""

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import ClientSession
from jsonschema import Draft202012Validator

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.serve import bars, chart, looks, openapi, udf
from backfill.settings import AccountSettings, Secret, Settings
from backfill.simulator import Simulator, run_in_thread
from tests.conftest import KEY, MARKET, NOW, _fresh, blocking, query, stored_bars
from tests.integration.serve_kit import serving

COLUMNS: Final = ("open", "high", "low", "close", "volume")


@pytest.fixture(scope="module")
def url(server: str, with_calendars: str) -> Iterator[str]:
    """A database with some series, which the tests of this file only read."""
    for name in _fresh(server, with_calendars):
        with run_in_thread(Simulator(market=MARKET, key=KEY, now=NOW, plan="unlimited")) as one:
            account = AccountSettings(url=one.url, plan="unlimited", keys=(Secret(KEY),))
            settings = Settings(database_url=Secret(name), accounts={"massive": account})
            for symbol, first, frames in (
                ("SPLT", date(2023, 6, 1), (Timeframe.d1, Timeframe.w1)),
                ("AAPL", date(2024, 10, 28), (Timeframe.m15, Timeframe.h1, Timeframe.d1)),
                ("X:BTCUSD", date(2024, 11, 8), (Timeframe.h1, Timeframe.d1)),
            ):
                job = api.Job((symbol,), frames, first=api.Bound(first), as_of=NOW)
                assert blocking(api.run(settings, job)).exit_code == 0
        query(name, "DELETE FROM ohlc_bars WHERE timeframe = 'h1' AND ts = '2024-11-10 03:00Z'")
        yield name


async def got(client: ClientSession, path: str, status: int = 200) -> Any:
    async with client.get(path) as answer:
        assert answer.status == status, await answer.text()
        return json.loads(await answer.read())


async def test_a_chart_has_the_newest_bars_of_a_range_in_the_old_shape(url: str) -> None:
    stored = await asyncio.to_thread(stored_bars, url, "AAPL", Timeframe.m15)
    settings = Settings(database_url=Secret(url))
    every = await asyncio.to_thread(lambda: blocking(api.status(settings, NOW)))
    fresh = {(one.symbol, one.timeframe): one.fresh for one in every}
    async with serving(url) as client:
        for (ticker, timeframe), is_fresh in fresh.items():
            own = await got(client, f"/chart?symbol={ticker}&timeframe={timeframe}&limit=1")
            assert own["fresh"] is is_fresh
        whole = await got(client, "/chart?symbol=AAPL&timeframe=m15&limit=7")
        assert list(whole) == [
            "symbol", "assetType", "timeframe", "bars", "from", "to", "limit", "has_more",
            "provider", "adjustment", "fresh",
        ]  # fmt: skip
        assert [list(bar) for bar in whole["bars"]] == [["ts", *COLUMNS]] * 7
        assert rows_of(whole) == [row[:6] for row in stored[-7:]]
        assert {name: one for name, one in whole.items() if name != "bars"} == {
            "symbol": "AAPL", "assetType": "stock", "timeframe": "m15", "from": None, "to": None,
            "limit": 7, "has_more": True, "provider": "massive", "adjustment": "raw",
            "fresh": True,
        }  # fmt: skip

        # From is in it, to is not.
        first, last = (iso(stored[at][0]) for at in (10, 20))
        path = f"/chart?symbol=AAPL&timeframe=m15&from={first}&to={last}"
        for limit, expected, more in ((10, stored[10:20], False), (9, stored[11:20], True)):
            part = await got(client, f"{path}&limit={limit}")
            assert (rows_of(part), part["has_more"]) == ([row[:6] for row in expected], more)
            assert (part["from"], part["to"]) == (first, last)

        assert (await got(client, "/chart?symbol=AAPL&timeframe=w1"))["bars"] == []
        assert len((await got(client, "/chart?symbol=AAPL&timeframe=m15"))["bars"]) == 500
        for path, status, told in (
            ("/chart?symbol=NOSUCH", 404, "NOSUCH"),
            ("/chart", 400, "symbol="),
            ("/chart?symbol=AAPL&timeframe=2h", 400, "m1 m5"),
            ("/chart?symbol=AAPL&limit=0", 400, "from 1 to 10,000"),
            ("/chart?symbol=AAPL&limit=10001", 400, "from 1 to 10,000"),
            ("/chart?symbol=AAPL&limit=many", 400, "no whole number"),
            ("/chart?symbol=AAPL&from=yesterday", 400, "yesterday"),
            ("/chart?symbol=AAPL&from=2024-02-02&to=2024-02-01", 400, "is after"),
            ("/chart?symbol=AAPL&adjustment=both", 400, "raw split"),
            ("/chart?symbol=AAPL&symbol=MSFT", 400, "once"),
            ("/chart?symbol=AAPL&tf=m1", 400, "'tf'"),
        ):
            error = await got(client, path, status)
            assert list(error) == ["error"]
            assert told in error["error"]
            assert "\n" not in error["error"]


async def test_an_adjusted_chart_is_what_the_adjusted_view_shows(url: str) -> None:
    shown = await asyncio.to_thread(
        query,
        url,
        "SELECT (extract(epoch FROM ts) * 1000)::bigint, open, high, low, close, volume"
        " FROM ohlc_bars_adjusted AS b JOIN symbols AS s ON s.id = b.symbol_id"
        " WHERE ticker = 'SPLT' AND timeframe = 'd1' ORDER BY ts",
    )
    async with serving(url) as client:
        path = "/chart?symbol=SPLT&timeframe=d1&limit=10000"
        raw, adjusted = await got(client, path), await got(client, f"{path}&adjustment=split")
    assert rows_of(adjusted) == [tuple(row) for row in shown]
    assert rows_of(adjusted) != rows_of(raw)
    assert (raw["adjustment"], adjusted["adjustment"]) == ("raw", "split")


async def test_an_answer_that_somebody_has_is_not_sent_again_until_it_is_another(
    url: str, settings_now: Callable[[], Settings]
) -> None:
    async with serving(url) as client:
        for path in (
            "/chart?symbol=AAPL&timeframe=d1",
            "/bars?symbol=AAPL&timeframe=d1",
            "/udf/history?symbol=AAPL&resolution=15&from=0&to=4000000000",
            "/status",
        ):
            async with client.get(path) as answer:
                version = answer.headers["ETag"]
                assert answer.headers["Content-Encoding"] in {"gzip", "deflate"}
            async with client.get(path, headers={"If-None-Match": version}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
            async with client.get(path, headers={"If-None-Match": '"another"'}) as answer:
                assert answer.status == 200
            async with client.head(path) as answer:
                assert (answer.status, answer.headers["ETag"]) == (200, version)
        held = {}
        for path in ("/chart?symbol=X:BTCUSD", "/bars?symbol=X:BTCUSD"):
            async with client.get(path) as answer:
                held[path] = answer.headers["ETag"]
        job = api.Job(("X:BTCUSD",), (Timeframe.d1,), first=api.Bound(date(2024, 11, 1)), as_of=NOW)
        await asyncio.to_thread(lambda: blocking(api.run(settings_now(), job)))
        for path, version in held.items():
            async with client.get(path, headers={"If-None-Match": version}) as answer:
                assert answer.status == 200


@pytest.fixture
def settings_now(url: str, simulate: Callable[..., Simulator]) -> Callable[[], Settings]:
    """The settings of a run into the database of this file."""

    def load() -> Settings:
        account = AccountSettings(
            url=simulate(plan="unlimited").url, plan="unlimited", keys=(Secret(KEY),)
        )
        return Settings(database_url=Secret(url), accounts={"massive": account})

    return load


async def test_all_bars_of_a_series_come_as_arrow_parquet_and_csv(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backfill.audit.excerpt._BLOCK", 97)
    stored = await asyncio.to_thread(stored_bars, url, "AAPL", Timeframe.m15)
    async with serving(url) as client:
        read = {}
        for form in ("arrow", "parquet", "csv"):
            async with client.get(f"/bars?symbol=AAPL&timeframe=m15&format={form}") as answer:
                assert answer.status == 200
                assert f'filename="AAPL-m15.{form}"' in answer.headers["Content-Disposition"]
                read[form] = await answer.read()
        empty = await client.get("/bars?symbol=AAPL&timeframe=w1&format=csv")
        assert await empty.text() == "ts,open,high,low,close,volume,vwap,trade_count\n"
        await got(client, "/bars?symbol=AAPL&format=json", 400)
        await got(client, "/bars?symbol=NOSUCH", 404)
    arrow = pa.ipc.open_stream(read["arrow"]).read_all()
    parquet = pq.read_table(io.BytesIO(read["parquet"]))
    assert arrow.schema.field("ts").type == parquet.schema.field("ts").type
    assert arrow.schema.field("ts").type == pa.timestamp("us", "UTC")
    for table in (arrow, parquet):
        assert [
            (round(row["ts"].timestamp() * 1000), *list(row.values())[1:])
            for row in table.to_pylist()
        ] == stored
    lines = read["csv"].decode().splitlines()[1:]
    assert [float(line.split(",")[1]) for line in lines] == [row[1] for row in stored]


# The requests that TradingView's page on UDF documents, each with what its answer has to be.
UDF: Final[dict[str, Callable[[Any], bool]]] = {
    "/udf/config": lambda a: (
        a["supports_search"]
        and not a["supports_group_request"]
        and a["supported_resolutions"] == ["1", "5", "15", "30", "60", "240", "1D", "1W", "1M"]
        and not a["supports_marks"]
        and a["supports_time"]
    ),
    "/udf/time": lambda a: abs(a - datetime.now(UTC).timestamp()) < 60,
    "/udf/symbols?symbol=AAPL": lambda a: (
        a["ticker"] == a["name"] == "AAPL"
        and a["type"] == "stock"
        and (a["timezone"], a["session"]) == ("America/New_York", "0400-2000")
        and a["has_intraday"]
        and a["intraday_multipliers"] == ["15", "60"]
        and a["has_daily"]
        and not a["has_weekly_and_monthly"]
        and a["supported_resolutions"] == ["15", "60", "1D"]
        and a["pricescale"] == 10_000
        and a["minmov"] == 1
    ),
    "/udf/symbols?symbol=XNYS:AAPL": lambda a: a["ticker"] == "AAPL",
    "/udf/symbols?symbol=X:BTCUSD": lambda a: (
        (a["type"], a["timezone"], a["session"]) == ("crypto", "Etc/UTC", "24x7")
    ),
    "/udf/symbols?symbol=NOSUCH": lambda a: (a["s"], a["errmsg"]) == ("error", "unknown_symbol"),
    "/udf/search?query=PL&type=&exchange=&limit=30": lambda a: (
        [one["symbol"] for one in a] == ["SPLT", "AAPL"]
    ),
    "/udf/search?query=&type=crypto&exchange=&limit=30": lambda a: (
        [(one["ticker"], one["type"]) for one in a] == [("X:BTCUSD", "crypto")]
    ),
    "/udf/search?query=&type=&exchange=XNYS&limit=1": lambda a: len(a) == 1,
    "/udf/history?symbol=AAPL&resolution=1D&from=1731024000&to=1731283200": lambda a: (
        # 8 November, a Friday, as the midnight of its date; the 11th is where it ends.
        (a["s"], a["t"]) == ("ok", [1731024000]) and {len(a[one]) for one in "ohlcv"} == {1}
    ),
    "/udf/history?symbol=AAPL&resolution=D&from=0&to=4000000000&countback=2": lambda a: (
        a["t"] == [1731024000, 1731283200]
    ),
    "/udf/history?symbol=AAPL&resolution=60&from=1731074400&to=1731081600": lambda a: (
        a["t"] == [1731074400, 1731078000]
    ),
    "/udf/history?symbol=AAPL&resolution=1D&from=1731110400&to=1731196800": lambda a: (
        a == {"s": "no_data", "nextTime": 1731024000}
    ),
    "/udf/history?symbol=AAPL&resolution=1D&from=0&to=86400": lambda a: a == {"s": "no_data"},
    "/udf/history?symbol=SPLT&resolution=1W&from=0&to=4000000000&countback=1": lambda a: (
        a["s"] == "ok" and datetime.fromtimestamp(a["t"][0], UTC).weekday() == 0
    ),
    "/udf/history?symbol=NOSUCH&resolution=1D&from=0&to=1": lambda a: a["s"] == "error",
    "/udf/history?symbol=AAPL&resolution=2D&from=0&to=1": lambda a: (
        a["s"] == "error" and "2D" in a["errmsg"]
    ),
    "/udf/history?symbol=AAPL&resolution=1D&from=x&to=1": lambda a: a["s"] == "error",
}


async def test_each_documented_request_of_a_data_feed_is_answered(url: str) -> None:
    async with serving(url) as client:
        for path, expected in UDF.items():
            async with client.get(path) as answer:
                found = json.loads(await answer.read())
                assert expected(found), (path, found)
                refused = isinstance(found, dict) and found.get("s") == "error"
                assert (answer.status == 200) == (not refused), path


async def test_a_range_of_more_bars_than_an_answer_has_is_refused_and_never_cut(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/udf/history?symbol=AAPL&resolution=60&from=0&to=4000000000"
    async with serving(url) as client:
        whole = (await got(client, path))["t"]
        monkeypatch.setattr("backfill.serve.udf.MOST", len(whole))
        assert (await got(client, path))["t"] == whole
        monkeypatch.setattr("backfill.serve.udf.MOST", len(whole) - 1)
        refused = await got(client, path, 400)
        assert (refused["s"], "name a shorter one" in refused["errmsg"]) == ("error", True)
        assert (await got(client, f"{path}&countback=100000"))["t"] == whole[1:]


async def test_how_it_stands_is_told_as_the_commands_tell_it(url: str) -> None:
    settings = Settings(database_url=Secret(url))
    status = await asyncio.to_thread(lambda: blocking(api.status(settings, NOW)))
    async with serving(url, token="a-long-random-token") as client:
        client.headers["Authorization"] = "Bearer a-long-random-token"
        told = await got(client, "/status")
        assert [(one["symbol"], one["timeframe"], one["bars"]) for one in told["series"]] == [
            (one.symbol, one.timeframe, one.bars) for one in status
        ]
        part = await got(client, "/status?symbol=AAPL&timeframe=h1")
        assert [one["timeframe"] for one in part["series"]] == ["h1"]
        await got(client, "/status?symbol=NOSUCH", 404)
        found = await got(client, "/gaps?from=2024-11-01")
        assert found["series"] == [
            {
                "symbol": "X:BTCUSD",
                "timeframe": "h1",
                "gaps": [
                    {
                        "from": "2024-11-10T03:00:00+00:00",
                        "to": "2024-11-10T04:00:00+00:00",
                        "slots": 1,
                    }
                ],
            }
        ]
        assert await got(client, "/gaps?symbol=AAPL") == {"series": []}
        runs = (await got(client, "/runs?limit=2"))["runs"]
        assert len(runs) <= 2
        async with client.get("/metrics") as answer:
            assert 'backfill_bars{symbol="AAPL",timeframe="h1"}' in await answer.text()
        del client.headers["Authorization"]
        assert await got(client, "/healthz") == {"status": "ok"}
        await got(client, "/status", 401)


async def test_metrics_come_in_the_format_that_who_asks_takes_more_gladly(url: str) -> None:
    older, newer = "text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"
    prometheus = (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
        "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    )
    told: dict[str, str] = {}
    async with serving(url) as client:
        for accept, form in (
            ("*/*", older),
            (prometheus, newer),
            ("text/plain, application/openmetrics-text;q=0.5", older),
            ("Application/OpenMetrics-Text ; q=1 , text/plain;q=1", newer),
            ("application/openmetrics-text;q=0", older),
        ):
            async with client.get("/metrics", headers={"Accept": accept}) as answer:
                assert answer.headers["Content-Type"] == f"{form}; charset=utf-8", accept
                assert "Accept" in answer.headers.getall("Vary")
                told[form] = await answer.text()
                held = {"Accept": accept, "If-None-Match": answer.headers["ETag"]}
            async with client.get("/metrics", headers=held) as answer:
                assert answer.status == 304
    # Read by Prometheus' own clients, they say the same; the newer one tells units besides.
    found = [
        list(parser.text_string_to_metric_families(told[form]))
        for form, parser in (
            (older, pytest.importorskip("prometheus_client.parser")),
            (newer, pytest.importorskip("prometheus_client.openmetrics.parser")),
        )
    ]
    assert [one.samples for one in found[0]] == [one.samples for one in found[1]]
    assert len(found[0]) > 10
    assert {one.type for one in found[1]} == {"gauge"}
    units = {one.name: one.unit for one in found[1]}
    assert units["backfill_freshness_seconds"] == "seconds"
    assert units["backfill_covered_ratio"] == "ratio"
    assert units["backfill_bars"] == ""
    assert told[newer].endswith("\n# EOF\n")


async def test_the_description_names_every_route_and_parameter_and_answers_are_as_it_says(
    url: str,
) -> None:
    async with serving(url) as client:
        described = await got(client, "/openapi.json")
        Draft202012Validator.check_schema(described["components"]["schemas"])
        own = [
            route.path for module in (chart, bars, udf, looks, openapi) for route in module.ROUTES
        ]
        assert set(described["paths"]) == set(own)
        for path, operation in described["paths"].items():
            named = {one["name"] for one in operation["get"]["parameters"]}
            if not path.startswith(("/udf", "/healthz", "/openapi")):
                refused = await got(client, f"{path}?nothing=1", 400)
                assert set(refused["error"].partition("takes: ")[2].split()) == named, path
        asked = (
            "/chart?symbol=AAPL&timeframe=h1&limit=3", "/chart?symbol=AAPL&timeframe=w1",
            "/chart?symbol=NOSUCH", "/chart?symbol=AAPL&limit=x", "/status", "/gaps", "/runs",
            "/queue", "/healthz", "/openapi.json", *(path for path in UDF if path != "/udf/time"),
        )  # fmt: skip
        for path in asked:
            async with client.get(path) as answer:
                operation = described["paths"][path.partition("?")[0]]["get"]
                content = operation["responses"][str(answer.status)]["content"]
                schema = content["application/json"]["schema"]
                whole = {**schema, "components": described["components"]}
                Draft202012Validator(whole).validate(json.loads(await answer.read()))


@pytest.mark.soak
async def test_two_hundred_at_once_are_answered_while_a_run_writes(
    url: str, simulate: Callable[..., Simulator]
) -> None:
    provider = simulate(plan="unlimited", quota="5/1s")
    account = AccountSettings(url=provider.url, plan="unlimited", quota="5/1s", keys=(Secret(KEY),))
    settings = Settings(database_url=Secret(url), accounts={"massive": account})
    frames = (Timeframe.m1, Timeframe.m5, Timeframe.h1, Timeframe.d1)
    job = api.Job(
        ("AAPL", "MSFT", "NVDA", "TSLA"), frames, mode=api.Mode.reload,
        first=api.Bound(date(2024, 9, 2)), as_of=NOW,
    )  # fmt: skip
    running = asyncio.create_task(asyncio.to_thread(lambda: blocking(api.run(settings, job))))
    answered = 0

    async def ask(client: ClientSession, number: int) -> None:
        nonlocal answered
        symbol = ("AAPL", "SPLT", "X:BTCUSD")[number % 3]
        while not running.done():
            found = await got(client, f"/chart?symbol={symbol}&timeframe=d1&limit=50")
            stamps = [bar["ts"] for bar in found["bars"]]
            assert stamps == sorted(set(stamps))
            assert stamps
            answered += 1

    async with serving(url) as client, asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(ask(client, number))
    assert (await running).exit_code == 0
    assert answered >= 200


def rows_of(one: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (
            round(datetime.fromisoformat(bar["ts"]).timestamp() * 1000),
            *(bar[name] for name in COLUMNS),
        )
        for bar in one["bars"]
    ]


def iso(ts_ms: int) -> str:
    return f"{datetime.fromtimestamp(ts_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
