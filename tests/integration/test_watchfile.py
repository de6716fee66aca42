"""`watch apply`, `watch export`: the watchlist is what the last file says, all of it or nothing."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.admin.watchfile import Applied, apply
from backfill.admin.watchlist import listed
from backfill.core.timeframe import Timeframe
from backfill.errors import UsageError
from backfill.present.watchfile import exported
from backfill.settings import Settings
from backfill.simulator import Simulator, run_in_thread
from tests.conftest import KEY, Cli, blocking, query

pytestmark = pytest.mark.one_database

ENTRIES = """
    SELECT s.ticker, w.timeframes::text[], w.since, w.priority, w.provider, w.paused
    FROM watchlist AS w
    JOIN symbols AS s ON s.id = w.symbol_id
"""
Kept = tuple[tuple[Timeframe, ...], str | None, int, str | None, bool]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """A provider whose reference is asked about tickers."""
    with run_in_thread(Simulator(key=KEY)) as running:
        yield running


@pytest.fixture
def given_file(settings_here: Callable[..., Settings], tmp_path: Path) -> Callable[..., Applied]:
    """Apply the text of a file, in this process."""

    def once(text: str, **flags: bool) -> Applied:
        path = tmp_path / "watchlist.toml"
        path.write_text(text, encoding="utf-8")
        asked = {"prune": False, "dry_run": False, "offline": True} | flags
        return blocking(apply(settings_here(), path, **asked))

    return once


def stored(url: str) -> dict[str, tuple[Any, ...]]:
    """The rows of the watchlist by ticker."""
    return {row[0]: (set(row[1]), *row[2:]) for row in query(url, ENTRIES)}


def holding(url: str, ticker: str, kind: str, calendar: str, provider: str) -> None:
    """Store a bar of a symbol as if a provider had filled it."""
    query(
        url,
        "WITH s AS (INSERT INTO symbols (ticker, asset_type, calendar, confirmed_at) "
        "VALUES ($1, $2, $3, now()) RETURNING id), "
        "p AS (INSERT INTO backfill_progress (symbol_id, timeframe, provider, feed, adjustment) "
        "SELECT id, 'd1', $4, 'x', 'raw' FROM s) "
        "INSERT INTO ohlc_bars (symbol_id, timeframe, ts, open, high, low, close, volume) "
        "SELECT id, 'd1', '2024-11-08 00:00Z', 1, 2, 1, 2, 3 FROM s",
        ticker,
        kind,
        calendar,
        provider,
    )


KEPT = st.tuples(
    st.sets(st.sampled_from(list(Timeframe)), min_size=1).map(
        lambda some: tuple(one for one in Timeframe if one in some)
    ),
    st.sampled_from([None, "2y", "2020-01-02"]),
    st.integers(-1000, 1000),
    st.sampled_from([None, "default", "massive", "kraken"]),
    st.booleans(),
)
TICKERS = st.sampled_from(["AAPL", "MSFT", "BRK.B", "BTC/USD", "BTC/USDT", "X:ETHUSD", "C:EURUSD"])
FILES = st.lists(st.dictionaries(TICKERS, KEPT, min_size=1, max_size=5), min_size=1, max_size=3)


def written(wanted: dict[str, Kept]) -> str:
    """A file of a group for each symbol."""
    lines = []
    for number, (ticker, (timeframes, since, priority, provider, paused)) in enumerate(
        wanted.items()
    ):
        lines += [f"[groups.{number}]", f"symbols = [{json.dumps(ticker)}]"]
        lines += [f"timeframes = {json.dumps(list(map(str, timeframes)))}"]
        lines += [f"since = '{since}'"] if since else []
        lines += [f"provider = '{provider}'"] if provider else []
        lines += [f"priority = {priority}", f"paused = {json.dumps(paused)}"]
    return "\n".join(lines)


@settings(max_examples=8)
@given(files=FILES)
def test_any_sequence_of_files_ends_in_the_last_ones_watchlist_and_touches_no_bar(
    files: list[dict[str, Kept]], given_file: Callable[..., Applied], database_url: str
) -> None:
    if not query(database_url, "SELECT FROM symbols LIMIT 1"):
        holding(database_url, "AAPL", "stock", "XNYS", "massive")
    bars = query(database_url, "SELECT o::text FROM ohlc_bars AS o")
    assert bars
    # AAPL is massive's by its bars: another provider of it is refused, which is another test's.
    wanted = [
        {
            one: (*kept[:3], None if one == "AAPL" else kept[3], kept[4])
            for one, kept in file.items()
        }
        for file in files
    ]

    for file in wanted:
        given_file(written(file), prune=True)

    assert stored(database_url) == {
        ticker: (
            set(map(str, timeframes)),
            since,
            priority,
            None if provider == "default" else provider,
            paused,
        )
        for ticker, (timeframes, since, priority, provider, paused) in wanted[-1].items()
    }
    again = given_file(written(wanted[-1]), prune=True)
    assert (again.changed, again.removed, again.unchanged) == ([], [], len(wanted[-1]))
    assert query(database_url, "SELECT o::text FROM ohlc_bars AS o") == bars


def test_what_is_exported_applies_to_no_change(
    given_file: Callable[..., Applied],
    settings_here: Callable[..., Settings],
    database_url: str,
) -> None:
    assert exported(blocking(listed(settings_here()))) == "# nothing is watched"
    holding(database_url, "X:BTCUSD", "crypto", "24/7", "kraken")
    given_file(
        "[groups.a]\nsymbols = ['AAPL', 'BTC/USD@coinbase']\ntimeframes = ['m1', 'd1']\n"
        "since = 2020-01-02\n"
        "[groups.b]\nsymbols = ['BTC/USD']\nprovider = 'default'\npriority = -3\npaused = true\n"
        "[groups.c]\nsymbols = ['MSFT', 'GOOG']\nprovider = 'massive'"
    )
    before = stored(database_url)
    assert before["X:BTCUSD"] == ({"d1"}, None, -3, None, True)

    text = exported(blocking(listed(settings_here())))
    again = given_file(text, prune=True)

    assert (again.changed, again.removed, again.unchanged) == ([], [], 5)
    assert stored(database_url) == before


def test_a_symbol_without_a_provider_in_the_file_is_whoevers_filled_it(
    given_file: Callable[..., Applied], database_url: str
) -> None:
    holding(database_url, "X:BTCUSD", "crypto", "24/7", "kraken")
    given_file("[groups.a]\nsymbols = ['BTC/USD', 'X:ETHUSD']")
    assert {one: row[3] for one, row in stored(database_url).items()} == {
        "X:BTCUSD": "kraken",
        "X:ETHUSD": None,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("symbols = ['MSFT',\n'BTC/USD']\nprovider = 'coinbase'", "line 3: X:BTCUSD holds the bar"),
        ("symbols = ['MSFT', 'O\"BRIEN']", "line 2: "),
        ("symbols = ['MSFT', 'AAPL@kraken']\nprovider = 'massive'", "line 2: AAPL@kraken is krak"),
        ("symbols = ['MSFT']\nprovider = 'krakn'", "line 2: provider 'krakn' is not known"),
        ("symbols = ['MSFT']\nsince = 2999-01-01", "line 2: "),
        ("symbols = ['MSFT']\nfile = 'none.txt'", "line 1: "),
        (
            "symbols = ['MSFT']\nquery = 'SELECT tickr FROM symbols'",
            "line 1: the query was refused",
        ),
        ("query = 'DELETE FROM symbols RETURNING ticker'", "line 1: the query was refused: cannot"),
        ("query = 'SELECT ticker, id FROM symbols'", "line 1: the query is to give one column"),
        ("query = 'SELECT id FROM symbols'", "line 1: the query is to give tickers, and not"),
        ("query = 'SELECT ticker FROM watchlist, symbols'", "line 1: the group a names no symbol"),
        ("query = 'COMMIT'", "line 1: the query is to give one column"),
        ("query = 'SELECT $1::text'", "line 1: the query is to take no parameters"),
        (
            "query = 'SELECT pg_cancel_backend(pg_backend_pid()) || pg_sleep(60)::text'",
            "line 1: the query was refused: canceling statement",  # as one that takes too long
        ),
        ('file = "a\\u0000b"', "line 1: '/"),
    ],
)
def test_a_bad_line_is_refused_whole_with_its_place(
    text: str, said: str, given_file: Callable[..., Applied], database_url: str
) -> None:
    holding(database_url, "X:BTCUSD", "crypto", "24/7", "kraken")
    with pytest.raises(UsageError) as refused:
        given_file(f"[groups.a]\n{text}")
    assert str(refused.value).startswith(f"watchlist.toml {said}")
    assert query(database_url, "SELECT ticker FROM symbols") == [("X:BTCUSD",)]
    assert stored(database_url) == {}


def test_symbols_come_from_a_file_beside_it_and_from_a_query(
    given_file: Callable[..., Applied], tmp_path: Path, database_url: str
) -> None:
    holding(database_url, "X:BTCUSD", "crypto", "24/7", "kraken")
    tmp_path.joinpath("tech.txt").write_text("# tech\nAAPL\n\nMSFT  # too\n", encoding="utf-8")
    both = "[groups.tech]\nfile = 'tech.txt'\nsince = '2y'\n[groups.held]\nquery = '''\n%s'''"
    given_file(both % "SELECT ticker FROM symbols WHERE asset_type = 'crypto'")
    assert {one: row[1] for one, row in stored(database_url).items()} == {
        "AAPL": "2y",
        "MSFT": "2y",
        "X:BTCUSD": None,
    }
    with pytest.raises(UsageError, match=r"^tech.txt line 4: MSFT is named twice, also at "):
        given_file("[groups.a]\nsymbols = ['MSFT']\n[groups.tech]\nfile = 'tech.txt'")


def test_new_tickers_are_looked_up_once_and_an_unknown_one_is_refused_with_its_place(
    simulator: Simulator, given_file: Callable[..., Applied], database_url: str
) -> None:
    simulator.calls.clear()
    with pytest.raises(UsageError, match=r"knows no APPL \(did you mean .*\(watchlist.toml line 3"):
        given_file("[groups.a]\nsymbols = ['AAPL',\n'APPL']", offline=False)
    assert stored(database_url) == {}
    with pytest.raises(UsageError, match=r"^watchlist.toml line 2: tickers are written in capital"):
        given_file("[groups.a]\nsymbols = ['aapl']", offline=False, dry_run=True)

    simulator.calls.clear()
    given_file("[groups.a]\nsymbols = ['AAPL']", offline=False)
    assert len(simulator.calls) == 1
    given_file("[groups.a]\nsymbols = ['AAPL']\npriority = 1", offline=False)
    assert len(simulator.calls) == 1


def test_the_command_shows_a_plan_and_keeps_what_the_file_hasnt_until_it_is_pruned(
    simulator: Simulator, cli: Callable[..., Cli], tmp_path: Path, database_url: str
) -> None:
    run = cli(simulator)
    path = tmp_path / "watchlist.toml"
    path.write_text("[groups.a]\nsymbols = ['MSFT']\npaused = true", encoding="utf-8")
    assert run("watch", "add", "--offline", "AAPL", "MSFT").code == 0
    words = ("watch", "apply", str(path), "--offline")

    plan = run(*words, "--prune", "--dry-run")
    assert (plan.code, plan.out.splitlines()) == (
        0,
        [
            "MSFT: paused no → yes",
            "AAPL is watched no longer; its bars stay",
            "1 change, 1 removed, 0 unchanged; nothing was done (--dry-run)",
        ],
    )
    assert set(stored(database_url)) == {"AAPL", "MSFT"}
    done = run(*words, "--json").json
    assert (done["unlisted"][0]["symbol"], done["removed"], done["unchanged"]) == ("AAPL", [], 0)
    assert run(*words, "--prune").code == 0
    assert [(one, row[4]) for one, row in stored(database_url).items()] == [("MSFT", True)]

    path.write_text("[groups.a]\nsymbols = ['MSFT']\npause = true", encoding="utf-8")
    refused = run(*words)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("backfill: watchlist.toml line 3: groups.a.pause means nothing")
