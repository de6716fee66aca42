"""Bars may still change for a while after their end; until then they are never final (R8)."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import Cli, Ended, stored_bars
from tests.integration.truth import asked, assert_same, true_bars

ELEVEN = datetime(2024, 11, 12, 16, tzinfo=UTC)
"""Eleven o'clock of a Tuesday in New York."""


def test_a_correction_within_the_delay_arrives_by_itself_and_a_later_one_by_a_reload(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate(plan="unlimited")
    command = cli(simulator, BACKFILL_PLAN="unlimited")
    day = date(2024, 11, 12)

    def run(at: datetime, *options: str) -> tuple[Ended, list[int]]:
        """Run as of an instant; also from where on each call asked."""
        simulator.set_now(at)
        before = len(simulator.calls)
        minutes = ("--symbol", "AAPL", "-t", "m1", "--from", day.isoformat())
        ended = command("run", *minutes, "--as-of", at.isoformat(), "--json", *options)
        assert ended.code == 0, ended.err
        return ended, [int(call.first) for call in asked(simulator, before)]

    def correct(ts_ms: int, volume: float) -> None:
        simulator.clear_faults()
        simulator.inject(
            Fault(action=Action.EDIT_BARS, span_ms=(ts_ms, ts_ms + 1), bar={"v": volume})
        )

    # The provider says that it holds the newest quarter of an hour back: what comes of it is
    # closed, not final.
    simulator.inject(Fault(action=Action.DELAYED))
    first, _ = run(ELEVEN)
    true = true_bars(market, "AAPL", Timeframe.m1, day, date(2024, 11, 13), ELEVEN)
    true = true[:-1]  # a minute is only asked for once it is a minute old
    assert first.json["bars"]["inserted"] == len(true)
    assert_same(stored_bars(database_url, "AAPL", Timeframe.m1), true)

    at = true[-3][0]
    assert at > ELEVEN.timestamp() * 1000 - 10 * MINUTE_MS
    correct(at, true[-3][5] + 100)
    second, [since] = run(ELEVEN + timedelta(minutes=5))

    assert since == ELEVEN.timestamp() * 1000 - 16 * MINUTE_MS
    assert second.json["bars"] == {
        "inserted": 5,
        "updated": 1,
        "unchanged": 14,
        "rejected": 0,
        "withdrawn": 0,
        "ignored": 0,
    }
    now = ELEVEN + timedelta(minutes=4)
    true = true_bars(market, "AAPL", Timeframe.m1, day, date(2024, 11, 13), now)
    row = next(index for index, bar in enumerate(true) if bar[0] == at)
    true[row] = (*true[row][:5], true[row][5] + 100, *true[row][6:])
    assert_same(stored_bars(database_url, "AAPL", Timeframe.m1), true)

    # That answer was final: what changes now is not asked for again, unless all of it is.
    correct(at, true[row][5] + 100)
    third, calls = run(ELEVEN + timedelta(minutes=10))
    assert calls == [now.timestamp() * 1000]
    assert (third.json["bars"]["inserted"], third.json["bars"]["updated"]) == (5, 0)
    reload, _ = run(ELEVEN + timedelta(minutes=10), "--reload")
    assert (reload.json["bars"]["inserted"], reload.json["bars"]["updated"]) == (0, 1)
    stored = {bar[0]: bar[5] for bar in stored_bars(database_url, "AAPL", Timeframe.m1)}
    assert stored[at] == true[row][5] + 100


def test_each_asset_class_is_read_and_final_as_its_own_plan_has_it(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate(plan="unlimited", now=ELEVEN)
    command = cli(simulator, MASSIVE_PLAN="stocks:advanced,currencies:free")
    ended = command(
        *("run", "--symbols", "AAPL,X:BTCUSD", "-t", "h1", "--from", "2024-11-11"),
        *("--as-of", ELEVEN.isoformat(), "--json"),
    )
    assert ended.code == 0, ended.err
    newest = {
        ticker: stored_bars(database_url, ticker, Timeframe.h1)[-1][0]
        for ticker in ("AAPL", "X:BTCUSD")
    }
    hour_ms = 60 * MINUTE_MS
    noon_ms = round(ELEVEN.timestamp() * 1000)
    assert newest["AAPL"] == noon_ms - 2 * hour_ms  # the hour before isn't a minute old
    assert newest["X:BTCUSD"] == noon_ms - noon_ms % (24 * hour_ms) - hour_ms  # yesterday's last
