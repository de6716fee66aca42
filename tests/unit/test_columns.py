"""Tables of any length: what is long is printed row by row, in the columns of what is short."""

import sys
from collections.abc import Iterator
from io import StringIO

import pytest

from backfill.present.columns import print_table

COLUMNS = ("symbol", "slots", "why")


def printed(rows: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_table(COLUMNS, ((f"SIM{at}", f"{at:,}", "a reason") for at in range(rows)))
    return capsys.readouterr().out.splitlines()


def test_a_long_table_stands_in_the_columns_of_a_short_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short, long = printed(1000, capsys), printed(1001, capsys)

    assert (len(short), len(long)) == (1001, 1002)
    where = long[0].index("slots") + len("slots")
    for line, values in ((long[1], ("SIM0", "0")), (long[1000], ("SIM999", "999"))):
        assert line.startswith(values[0])
        assert line[:where].split() == list(values)
        assert line[where:].strip() == "a reason"
    assert [line.split() for line in short] == [line.split() for line in long[:1001]]


def test_a_long_table_is_printed_as_its_rows_come_and_none_gives_an_order_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = StringIO()
    monkeypatch.setattr(sys, "stdout", out)

    def rows() -> Iterator[tuple[str, str, str]]:
        for at in range(1100):
            yield f"ROW{at:04}", "1", "\x1b[31mred"
            if at > 1001:
                assert f"ROW{at:04}" in out.getvalue()

    print_table(COLUMNS, rows())

    assert "\x1b" not in out.getvalue()
    assert "[31mred" in out.getvalue()
