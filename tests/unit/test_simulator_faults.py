import gzip
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import pytest

from backfill.simulator import Action, Call, Fault, mangle
from backfill.simulator.faults import Faults
from backfill.simulator.mangle import mangled
from backfill.simulator.wire.base import Ask, Lack, epoch_ms
from backfill.simulator.wire.massive.wire import MassiveWire
from tests.conftest import MARKET

PATH: Final = "/v2/aggs/ticker/AAPL/range/1/day/2024-07-01/2024-07-19"
WIRE: Final = MassiveWire()
NOW: Final = datetime(2025, 3, 5, tzinfo=UTC)


def ask(path: str = PATH, *lacks: Lack, now: datetime = NOW, **query: str) -> Ask:
    now_ms = epoch_ms(now)
    return Ask(path, query, MARKET, now_ms, "unlimited", "http://sim", "id", lacks)


def body(asked: Ask | None = None) -> dict[str, Any]:
    true: dict[str, Any] = WIRE.answer("GET", asked or ask()).body
    return true


def mangle_body(fault: Fault, asked: Ask, true: dict[str, Any]) -> dict[str, Any]:
    false: dict[str, Any] = mangle.mangle_body(fault, WIRE, asked, true)
    return false


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    bars: list[dict[str, Any]] = msgspec.to_builtins(found.get("results", []))
    assert found["resultsCount"] == found["count"] == len(bars)
    return bars


def call(path: str = PATH, **query: str) -> Call:
    seen = WIRE.see(path, query)
    return Call(0.0, datetime.now(UTC), "GET", path, query, seen.kind, about=seen.about)


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ({}, True),
        ({"ticker": "AAPL"}, True),
        ({"ticker": "AAP"}, False),
        ({"kind": "bars"}, True),
        ({"kind": "lookup"}, False),
        ({"path": r"/range/1/day/"}, True),
        ({"path": r"/range/1/minute/"}, False),
        ({"path": r"sort=desc"}, True),
        ({"path": r"cursor="}, False),
    ],
)
def test_a_rule_hits_the_calls_that_match_all_of_it(match: dict[str, Any], hit: bool) -> None:
    faults = Faults()
    faults.inject(Fault(action=Action.HTML, **match))
    assert (faults.hit(call(sort="desc"), NOW) is not None) is hit


def test_a_rule_about_a_ticker_hits_its_look_ups_too() -> None:
    assert Fault(action=Action.HTML, ticker="AAPL").matches(call("/v3/reference/tickers/AAPL"))


def test_skip_and_times_count_matching_calls() -> None:
    faults = Faults()
    faults.inject(Fault(action=Action.HTML, kind="bars", skip=2, times=3))
    found = []
    for _ in range(8):
        faults.hit(call("/v3/reference/splits"), NOW)
        found.append(faults.hit(call(), NOW) is not None)
    assert found == [False, False, True, True, True, False, False, False]


def test_probability_is_repeatable() -> None:
    def draw() -> list[bool]:
        faults = Faults()
        faults.inject(Fault(action=Action.HTML, probability=0.3, seed=5))
        return [faults.hit(call(), NOW) is not None for _ in range(1000)]

    assert draw() == draw()
    assert 250 < sum(draw()) < 350


def test_the_first_rule_that_hits_has_the_call() -> None:
    faults = Faults()
    faults.inject(Fault(action=Action.HTML, times=1))
    faults.inject(Fault(action=Action.RESET))
    hits = [faults.hit(call(), NOW) for _ in range(2)]
    assert [hit and hit.action for hit in hits] == [Action.HTML, Action.RESET]
    faults.clear()
    assert faults.hit(call(), NOW) is None


@pytest.mark.parametrize(
    ("action", "key", "value"),
    [
        (Action.WRONG_TICKER, "ticker", "OTHER"),
        (Action.WRONG_ADJUSTED, "adjusted", False),
        (Action.DELAYED, "status", "DELAYED"),
    ],
)
def test_a_body_says_what_is_not_so(action: Action, key: str, value: object) -> None:
    true = body()
    false = mangle_body(Fault(action=action), ask(), true)
    assert {name for name in true if true[name] != false[name]} == {key}
    assert false[key] == value


def test_seconds_and_microseconds() -> None:
    true = [bar["t"] for bar in rows(body())]
    seconds = rows(mangle_body(Fault(action=Action.SECONDS), ask(), body()))
    micros = rows(mangle_body(Fault(action=Action.MICROSECONDS), ask(), body()))
    assert [bar["t"] * 1000 for bar in seconds] == true
    assert [bar["t"] // 1000 for bar in micros] == true


def test_duplicates_and_shuffled_keep_every_bar() -> None:
    true = rows(body())
    twice = rows(mangle_body(Fault(action=Action.DUPLICATES), ask(), body()))
    assert twice == [bar for bar in true for _ in range(2)]
    shuffled = rows(mangle_body(Fault(action=Action.SHUFFLED), ask(), body()))
    assert shuffled != true
    assert sorted(shuffled, key=lambda bar: bar["t"]) == true


def test_bars_are_edited_contradicted_and_dropped_in_a_span_or_in_the_middle() -> None:
    true = rows(body())
    middle = len(true) // 2
    edited = rows(mangle_body(Fault(action=Action.EDIT_BARS, bar={"h": 0.01}), ask(), body()))
    assert [n for n, bar in enumerate(edited) if bar != true[n]] == [middle]
    assert edited[middle] == true[middle] | {"h": 0.01}
    span = (true[2]["t"], true[4]["t"])
    conflict = Fault(action=Action.CONFLICT, span_ms=span, bar={"v": 7.0})
    doubled = rows(mangle_body(conflict, ask(), body()))
    assert len(doubled) == len(true) + 2
    assert doubled[2:6] == [true[2], true[2] | {"v": 7.0}, true[3], true[3] | {"v": 7.0}]
    dropped = rows(mangle_body(Fault(action=Action.DROP_BARS, span_ms=span), ask(), body()))
    assert dropped == true[:2] + true[4:]


def test_a_page_whose_bars_are_all_dropped_has_no_results() -> None:
    empty = mangle_body(Fault(action=Action.DROP_BARS, span_ms=(0, 2**60)), ask(), body())
    assert rows(empty) == []
    assert "results" not in empty


def test_one_bar_is_added_on_a_saturday() -> None:
    true = rows(body())
    more = rows(mangle_body(Fault(action=Action.SATURDAY_BAR), ask(), body()))
    (added,) = [bar for bar in more if bar not in true]
    assert datetime.fromtimestamp(added["t"] / 1000, UTC).strftime("%A") == "Saturday"
    assert len(more) == len(true) + 1


@pytest.mark.parametrize(
    ("asked", "served"),
    [("1/minute", "1/day"), ("4/hour", "1/day"), ("1/day", "1/month"), ("1/week", "1/month")],
)
def test_a_coarser_bar_is_served(asked: str, served: str) -> None:
    path = PATH.replace("1/day", asked)
    false = mangled(Fault(action=Action.WRONG_GRANULARITY), WIRE, "GET", ask(path)).body
    assert rows(false) == rows(body(ask(PATH.replace("1/day", served))))
    assert mangled(Fault(action=Action.HTML), WIRE, "GET", ask(path)).body == body(ask(path))


def test_next_pages_repeat_never_end_or_lead_elsewhere() -> None:
    def follow(action: Action) -> list[str]:
        urls, asked = [], ask(limit="5000")
        for _ in range(3):
            urls.append(mangle_body(Fault(action=action), asked, body(asked))["next_url"])
            asked = ask(cursor=urls[-1].partition("cursor=")[2])
        return urls

    repeated, endless = follow(Action.REPEATED_NEXT), follow(Action.ENDLESS_PAGES)
    assert len(set(repeated)) == 1
    assert len(set(endless)) == 3
    assert all(url.startswith("http://sim" + PATH) for url in repeated + endless)
    assert follow(Action.FOREIGN_NEXT)[0].startswith("https://elsewhere.example" + PATH)


def test_bars_faults_leave_look_ups_alone() -> None:
    asked = ask("/v3/reference/splits")
    for action in (Action.SECONDS, Action.EDIT_BARS, Action.SATURDAY_BAR):
        assert mangle_body(Fault(action=action), asked, body(asked)) == body(asked)


def test_garbage_is_unreadable_in_its_own_way() -> None:
    data = msgspec.json.encode(body())
    garbage = (
        *(Action.STATUS, Action.HTML, Action.NAN, Action.BAD_GZIP),
        *(Action.RANDOM_BYTES, Action.CHARSET, Action.NESTED),
    )
    made = {action: mangle.mangle_bytes(Fault(action=action), WIRE, data) for action in garbage}
    assert made[Action.STATUS] == (data, {})
    assert made[Action.HTML][0].startswith(b"<!DOCTYPE html>")
    assert made[Action.HTML][1]["Content-Type"].startswith("text/html")
    assert made[Action.NAN][0].count(b"NaN") == 1
    assert b'"c":NaN,' in made[Action.NAN][0]
    assert made[Action.BAD_GZIP][1] == {"Content-Encoding": "gzip"}
    with pytest.raises((EOFError, OSError)):
        gzip.decompress(made[Action.BAD_GZIP][0])
    for action in (Action.HTML, Action.RANDOM_BYTES, Action.NAN, Action.CHARSET):
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(made[action][0])
    with pytest.raises(RecursionError):
        msgspec.json.decode(made[Action.NESTED][0])


def test_the_delays_of_a_call_are_the_sum_of_all_late_rules_and_repeatable() -> None:
    def draw() -> list[tuple[float, float]]:
        faults = Faults()
        faults.inject(Fault(action=Action.LATE, in_s=(0.2, 1.5), back_s=(0.1, 0.1), seed=3))
        faults.inject(Fault(action=Action.LATE, in_s=(5.0, 5.0), skip=1, times=1))
        faults.inject(Fault(action=Action.HTML))
        ways = [faults.way(call(), NOW) for _ in range(20)]
        assert all(way.fault is None for way in ways)
        hit = faults.hit(call(), NOW)
        assert hit is not None
        assert hit.action is Action.HTML
        return [(way.in_s, way.back_s) for way in ways]

    drawn = draw()
    assert drawn == draw()
    assert len({in_s for in_s, _ in drawn}) == 20
    assert {back_s for _, back_s in drawn} == {0.1}
    assert 5.2 <= drawn[1][0] <= 6.5
    assert all(0.2 <= in_s <= 1.5 for in_s, _ in drawn[:1] + drawn[2:])


def test_what_stops_a_call_on_its_way_is_none_of_the_provider_s_faults() -> None:
    faults = Faults()
    faults.inject(Fault(action=Action.STATUS, status=504, counted="never", times=1))
    faults.inject(Fault(action=Action.STATUS, status=400))
    ways = [faults.way(call(), NOW).fault for _ in range(2)]
    assert [way and way.status for way in ways] == [504, None]
    hit = faults.hit(call(), NOW)
    assert hit is not None
    assert hit.status == 400
    with pytest.raises(ValueError, match="counts the call before"):
        Fault(action=Action.HTML, counted="never")


def test_a_fault_begins_and_heals_by_the_market_s_clock() -> None:
    faults = Faults()
    faults.inject(Fault(action=Action.HTML, since=NOW, until=NOW + timedelta(hours=1)))
    minutes = (-1, 0, 59, 60)
    hits = [faults.hit(call(), NOW + timedelta(minutes=late)) for late in minutes]
    assert [hit is not None for hit in hits] == [False, True, True, False]


MINUTES: Final = "/v2/aggs/ticker/AAPL/range/1/minute/2024-07-02/2024-07-03"
HOURS: Final = MINUTES.replace("1/minute", "1/hour")
OPEN_MS: Final = epoch_ms(datetime(2024, 7, 2, 13, 30, tzinfo=UTC))


def test_a_provider_that_is_behind_serves_what_there_was_then() -> None:
    now = datetime(2024, 7, 2, 18, 40, tzinfo=UTC)
    behind = Lack("AAPL", behind_ms=12 * 60_000)
    for path in (MINUTES, HOURS, MINUTES.replace("1/minute", "1/day")):
        late = rows(body(ask(path, behind, now=now, limit="50000")))
        then = rows(body(ask(path, now=now - timedelta(minutes=12), limit="50000")))
        assert late == then
    other = ask(MINUTES, Lack("MSFT", behind_ms=12 * 60_000), now=now, limit="50000")
    last = rows(body(other))[-1]["t"]
    assert last == epoch_ms(now) - 60_000


def test_a_truncated_session_lacks_its_minutes_from_an_instant_on_in_coarser_bars_too() -> None:
    cut_ms, end_ms = OPEN_MS + 63 * 60_000, OPEN_MS + 12 * 3_600_000
    lack = Lack(None, span_ms=(cut_ms, end_ms))
    true = rows(body(ask(MINUTES, limit="50000")))
    left = rows(body(ask(MINUTES, lack, limit="50000")))
    assert left == [bar for bar in true if not cut_ms <= bar["t"] < end_ms]
    volumes = {bar["t"] // 3_600_000: 0.0 for bar in left}
    for bar in left:
        volumes[bar["t"] // 3_600_000] += bar["v"]
    hours = {bar["t"] // 3_600_000: bar["v"] for bar in rows(body(ask(HOURS, lack, limit="50000")))}
    assert hours == pytest.approx(volumes)


@pytest.mark.parametrize("limit", ["200", "50000"])
def test_an_absent_session_is_in_no_page(limit: str) -> None:
    day_ms = epoch_ms(datetime(2024, 7, 2, 4, tzinfo=UTC))
    lack = Lack(None, span_ms=(day_ms, day_ms + 86_400_000))
    for unit in ("minute", "day"):
        asked = ask(
            f"/v2/aggs/ticker/AAPL/range/1/{unit}/2024-07-01/2024-07-05",
            lack,
            limit=limit,
            sort="desc",
        )
        stamps = [bar["t"] for bar in every_row(asked)]
        true = [bar["t"] for bar in every_row(replace(asked, lacks=()))]
        assert stamps == [ts for ts in true if not day_ms <= ts < day_ms + 86_400_000] != true


def every_row(asked: Ask) -> list[dict[str, Any]]:
    found = body(asked)
    more = rows(found)
    while "next_url" in found:
        path, _, cursor = found["next_url"].removeprefix("http://sim").partition("?cursor=")
        found = body(replace(asked, path=path, query={"cursor": cursor}))
        more += rows(found)
    return more


def test_a_grouped_day_lacks_the_bar_of_the_ticker_only() -> None:
    path = "/v2/aggs/grouped/locale/us/market/stocks/2024-07-02"
    day_ms = epoch_ms(datetime(2024, 7, 2, 4, tzinfo=UTC))
    faults = Faults()
    faults.inject(Fault(action=Action.LACKING, ticker="AAPL", span_ms=(day_ms, day_ms + 1)))
    faults.inject(Fault(action=Action.BEHIND, ticker="MSFT", behind_s=2 * 86_400))
    now = datetime(2024, 7, 4, tzinfo=UTC)
    lacks = faults.lacks(call(path), now)
    true, less = (
        {bar["T"] for bar in rows(body(ask(path, *found, now=now)))} for found in ((), lacks)
    )
    assert true - less == {"AAPL", "MSFT"}


def test_lacks_are_those_of_every_rule_that_is_in_force() -> None:
    faults = Faults()
    for start_ms in (0, 10):
        faults.inject(Fault(action=Action.LACKING, span_ms=(start_ms, start_ms + 5), until=NOW))
    faults.inject(Fault(action=Action.BEHIND, behind_s=60))
    before = faults.lacks(call(), NOW - timedelta(seconds=1))
    assert [lack.span_ms for lack in before] == [(0, 5), (10, 15), None]
    assert faults.lacks(call(), NOW) == (Lack(None, behind_ms=60_000),)
    with pytest.raises(ValueError, match="span_ms"):
        Fault(action=Action.LACKING)
