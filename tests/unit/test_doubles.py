"""Objects of numbers, read at once: the same doubles as JSON's own reader, or none."""

import json
import sys
from dataclasses import fields
from typing import Final
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.errors import UnreadableAnswer
from backfill.providers.doubles import doubles_reader
from backfill.providers.massive_bars import read_page

pytest.importorskip("simdjson", reason="it has no wheel for this Python")

NAMES: Final = ("t", "o", "vw")
NUMBERS: Final = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)


def read(array: bytes) -> list[list[float]] | None:
    """Read an array whose objects may lack a vwap: a row for each of them."""
    reader = doubles_reader(NAMES, may_lack=("vw",))
    assert reader is not None
    columns = reader(array)
    return None if columns is None else columns.T.tolist()


@given(
    names=st.permutations(NAMES),
    values=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=20),
)
def test_numbers_are_read_to_the_last_bit_in_whatever_order_they_stand(
    names: list[str], values: list[tuple[float, ...]]
) -> None:
    array = json.dumps(
        [dict(zip(names, one, strict=True)) for one in values], separators=(",", ":")
    )
    expected = [[float(one[name]) for name in NAMES] for one in json.loads(array)]
    found = read(array.encode())
    assert found is not None
    assert np.array(found).tobytes() == np.array(expected).tobytes()


def test_what_all_objects_lack_and_may_lack_is_nan() -> None:
    assert str(read(b'[{"o":1.5,"t":2},{"o":3,"t":4}]')) == "[[2.0, 1.5, nan], [4.0, 3.0, nan]]"


@pytest.mark.parametrize(
    "array",
    [
        b"[]",
        b"[1,2,3]",
        b'[{"t":1}]',
        b'[{"t":1,"o":2},{"t":1,"o":2,"vw":3}]',
        b'[{"t":1,"o":2},{"o":1,"t":2}]',
        b'[{"t":1,"o":2,"x":3}]',
        b'[{"t":1,"o":2,"o":3}]',
        b'[{"t":1,"o2":2}]',
        b'[{"t":1,"o":}]',
        b'[{"t":1,"o":null}]',
        b'[{"t":1,"o":"2"}]',
        b'[{"t":1,"o":NaN}]',
        b'[{"t":1,"o":01}]',
        b'[{"t":1,"o":1e400}]',
        b'[{"t":1,"o":123456789012345678901234567890}]',
        b'[{"t":1,"o":[2]}]',
        b'[{"t":1,"o":2}',
        b'[{"t":1, "o":2}]',
        b'[{"t":1,"o":1 2}]',
    ],
)
def test_anything_else_is_left_to_who_reads_it_with_care(array: bytes) -> None:
    assert read(array) is None


def page(*bars: str) -> bytes:
    """A page of these bars."""
    around = '"status":"OK","adjusted":false,"ticker":"X:BTCUSD"'
    return f'{{{around},"results":[{",".join(bars)}],"next_url":"https://x/y"}}'.encode()


BAR: Final = '{"v":1.5,"vw":7.1,"o":7,"c":8.25,"h":9,"l":6.1e0,"t":1735689600000,"n":3}'
LATER: Final = BAR.replace("600000,", "660000,")


@pytest.mark.parametrize(
    "bars",
    [
        (BAR, LATER),
        (BAR, LATER.replace(',"n":3', "")),
        (BAR.replace(',"n":3', ""), LATER.replace(',"n":3', "")),
        (BAR, LATER.replace('"v":1.5', '"v":null')),
        (),
    ],
)
def test_a_page_is_the_same_with_and_without_the_quick_reader(
    bars: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, quickly, oddities = read_page(page(*bars))
    monkeypatch.setitem(sys.modules, "simdjson", None)
    other, slowly, others = read_page(page(*bars))
    assert (answer.next_url, oddities) == (other.next_url, others)
    assert quickly.equals(slowly)
    assert len(quickly) == len(bars)


WORDS: Final = [
    "0",
    "-0",
    "-0.0",
    "1e5",
    "1E+5",
    "1e400",
    "-1e400",
    "1e-400",
    "5e-324",
    "9007199254740993",
    "18446744073709551616",
    "01",
    "1.",
    ".5",
    "1e",
    "-",
    "null",
    "true",
    '"1"',
    "[1]",
    "{}",
    "NaN",
    "1_0",
    "0.1",
    "1735689600000.0",
    "1.00000000000000011102230246251565404236",
]
VALUES: Final = (
    st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers(0, 2**64).map(str)
    | st.sampled_from(WORDS)
)
SPOILT: Final = [
    *(("o", behind) for behind in ("", "", "", ",", " ", "]", ",{}", ",null")),
    *((named, "") for named in ("\\u006f", "O", "o1", "oe", "t")),
]
"""How the opening price is named, and what stands behind the last bar."""
KEYS: Final = ("v", "vw", "o", "c", "h", "l", "t", "n")


def came_of(body: bytes) -> object:
    """What a page is read as, to the last bit, or that it is refused."""
    try:
        _, bars, oddities = read_page(body)
    except UnreadableAnswer:
        return None
    return [getattr(bars, one.name).tobytes() for one in fields(bars)], oddities


@given(
    bars=st.lists(st.permutations(KEYS), min_size=1, max_size=3),
    alike=st.booleans(),
    odd=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(KEYS), VALUES), max_size=2),
    spoilt=st.sampled_from(SPOILT),
)
@settings(max_examples=100)
def test_any_page_is_the_same_or_refused_with_and_without_the_quick_reader(
    bars: list[list[str]],
    alike: bool,
    odd: list[tuple[int, str, str]],
    spoilt: tuple[str, str],
) -> None:
    texts, (named, behind) = [], spoilt
    for place, order in enumerate(bars):
        values = dict.fromkeys(KEYS, "7") | {"t": str(1735689600000 + 60_000 * place)}
        values |= {key: value for at, key, value in odd if at == place}
        keys = bars[0] if alike else order
        pairs = (f'"{named if key == "o" else key}":{values[key]}' for key in keys)
        texts.append(f"{{{','.join(pairs)}}}")
    body = page(",".join(texts) + behind)
    quickly = came_of(body)
    with patch.dict(sys.modules, {"simdjson": None}):
        assert came_of(body) == quickly


@pytest.mark.parametrize(
    "body",
    [
        page(BAR).replace(b'"next_url":"https://x/y"', b'"results":[%s]' % LATER.encode()),
        page(BAR).replace(b'"results":[', b'"other":{"results":[').replace(b'],"', b']},"'),
        page(BAR).replace(b'"results":[', b'"results": [ '),
        page(BAR).replace(b'"next_url":"https://x/y"', b'"tags":[]'),
    ],
)
def test_where_results_stand_is_decided_by_the_whole_page(body: bytes) -> None:
    whole = json.loads(body)
    _, bars, _ = read_page(body)
    expected = [one["t"] for one in whole.get("results", [])]
    assert isinstance(bars, Bars)
    assert bars.ts_ms.tolist() == expected
