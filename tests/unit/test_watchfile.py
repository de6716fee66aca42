"""What a watchlist's file says, and where a fault in it stands."""

import re

import pytest

from backfill.core.timeframe import Timeframe
from backfill.core.watchfile import Entry, Kept, named_once, read_groups
from backfill.errors import UsageError
from tests.documents import DOCS

FILE = """# what we keep
[defaults]
since = 2020-01-02

[groups.core]
symbols = [
    "AAPL",  # the first
    'MSFT',
]
timeframes = ["d1",
              "h1"]

[groups.coins]
file = "coins.txt"
query = '''
    SELECT ticker
    FROM positions'''
since = "default"
provider = "binance"
priority = -5
paused = true
"""


def test_a_group_says_all_of_how_its_symbols_are_kept() -> None:
    core, coins = read_groups(FILE, "list.toml")
    assert core.kept == Kept((Timeframe.h1, Timeframe.d1), since="2020-01-02")
    assert (core.symbols, core.places) == (
        ("AAPL", "MSFT"),
        ("list.toml line 7", "list.toml line 8"),
    )
    assert coins.kept == Kept((Timeframe.d1,), None, -5, "binance", paused=True)
    assert (coins.file, coins.query, coins.place) == (
        "coins.txt",
        "    SELECT ticker\n    FROM positions",
        "list.toml line 13",
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("[defaults]", "[default]", 2, "default means nothing"),
        ("since = 2020-01-02", "sinse = 2020-01-02", 3, "defaults.sinse means nothing"),
        ("since = 2020-01-02", "since = 2020-01-02T00:00:00Z", 3, "defaults.since is to be"),
        ("since = 2020-01-02", "since = 'long ago'", 3, "defaults.since 'long ago' is not a date"),
        ("'MSFT'", "7", 6, "groups.core.symbols is to be a list of texts"),
        ('"h1"]', '"h7"]', 10, "groups.core.timeframes names 'h7'"),
        ('["d1",\n              "h1"]', "[]", 10, "groups.core.timeframes is to be a list of"),
        ('file = "coins.txt"', "file = 7", 14, "groups.coins.file is to be a text"),
        ('"binance"', '" "', 19, "groups.coins.provider is to be"),
        ("-5", "-5000", 20, "groups.coins.priority is to be a whole number"),
        ("-5", "true", 20, "groups.coins.priority is to be a whole number"),
        ("paused = true", "paused = 1", 21, "groups.coins.paused is to be true or false"),
        ("paused = true", "paused = true\ncolour = 3", 22, "groups.coins.colour means nothing"),
        ("paused = true", "[groups.none]\nsince = '2y'", 21, "groups.none names no symbols"),
        ("paused = true", "[groups]\nnone = 3", 22, "groups.none is to be a table"),
    ],
)
def test_what_cant_be_meant_is_told_with_the_line_where_it_begins(
    old: str, new: str, line: int, said: str
) -> None:
    text = FILE.replace(old, new, 1)
    with pytest.raises(UsageError) as refused:
        read_groups(text, "list.toml")
    assert str(refused.value).startswith(f"list.toml line {line}: {said}")


@pytest.mark.parametrize("text", ["", "# nothing", "[defaults]\npriority = 1", "[groups]"])
def test_a_file_that_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"names no symbol"):
        read_groups(text, "list.toml")


def test_a_text_that_is_no_toml_is_refused_with_its_line() -> None:
    with pytest.raises(UsageError, match=r"list.toml: .*line 2"):
        read_groups("[groups.core]\nsymbols = AAPL", "list.toml")


def test_a_symbol_that_is_named_twice_is_refused_however_it_is_spelled() -> None:
    twice = [Entry("BTC/USD", Kept(), "line 2"), Entry("X:BTCUSD", Kept(), "line 9")]
    with pytest.raises(UsageError, match=r"^line 9: X:BTCUSD is named twice, also at line 2$"):
        named_once(twice)
    with pytest.raises(UsageError, match=r"^line 2: "):
        named_once([Entry("O'BRIEN", Kept(), "line 2")])


def test_the_example_of_the_page_can_be_read() -> None:
    page = DOCS.joinpath("watchlist.md").read_text("utf-8")
    [example] = re.findall(r"^```toml\n(.*?)^```$", page, re.S | re.M)
    groups = read_groups(example, "watchlist.toml")
    assert [one.name for one in groups] == ["core", "minutes", "sp500", "positions", "later"]


def test_a_list_of_thousands_is_read_at_once_and_each_stands_at_its_line() -> None:
    symbols = [f"S{number}" for number in range(5_000)]
    lines = "".join(f'    "{one}",  # kept\n' for one in symbols)
    (group,) = read_groups(f"[groups.a]\nsymbols = [\n{lines}]\n", "w.toml")
    assert group.symbols == tuple(symbols)
    assert group.places == tuple(f"w.toml line {number + 3}" for number in range(5_000))


@pytest.mark.parametrize("mark", ["\u2028", "\u0085"])
def test_what_unicode_takes_for_the_end_of_a_line_is_none(mark: str) -> None:
    text = f"# a{mark}b c\n[groups.a]\nsymbols = ['AAPL']\nsymbol = 3"
    with pytest.raises(UsageError, match=r"^w\.toml line 4: groups\.a\.symbol means nothing"):
        read_groups(text, "w.toml")


@pytest.mark.parametrize("value", ["9" * 5_000, "[" * 2_000 + "]" * 2_000])
def test_what_is_too_large_to_be_read_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=r"^w\.toml"):
        read_groups(f"[groups.a]\nsymbols = {value}", "w.toml")
