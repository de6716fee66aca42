"""Every example of docs/import.md runs as it stands, in the order of the page."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Cli, query
from tests.documents import DOCS

BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
RECORDED: Final = Path(__file__).parents[1] / "fixtures" / "databento"
STORED: Final = """
    SELECT s.ticker, b.timeframe::text, p.feed, p.adjustment, count(*)
    FROM ohlc_bars AS b
    JOIN symbols AS s ON s.id = b.symbol_id
    JOIN backfill_progress AS p ON (p.symbol_id, p.timeframe) = (b.symbol_id, b.timeframe)
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2
"""


@pytest.mark.soak
def test_the_examples_of_the_page_import_what_it_says(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("pyarrow", "databento_dbn", "zstandard"):
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    for one in RECORDED.glob("*.zst"):
        shutil.copy(one, tmp_path)
    backfill = Cli({"DATABASE_URL": database_url})
    content: str | None = None
    for language, text in BLOCK.findall(DOCS.joinpath("import.md").read_text("utf-8")):
        match language:
            case "csv":
                content = text
            case "python":
                exec(text, {})
            case "sql":
                files = query(database_url, text)
            case "sh":
                for line in text.splitlines():
                    run_line(backfill, line, tmp_path, content)
                content = None
            case _:
                raise AssertionError(f"nobody runs {language}")

    assert [tuple(row) for row in query(database_url, STORED)] == [
        ("AAPL", "d1", "kaggle", "split", 4),
        ("AAPL", "m1", "mybroker", "raw", 2),
        ("BTC/USD", "h1", "research", "raw", 48),
        ("QQQ", "m1", "EQUS.MINI:95", "raw", 4),
    ]
    assert [row["name"] for row in files] == [
        *("aapl.csv", "minutes.csv", "coins.parquet", "table.csv", "EQUS.MINI.ohlcv-1m.dbn.zst"),
    ]
    gaps = backfill("gaps", "AAPL", "-t", "d1", "--json")
    [series] = gaps.json["series"]
    assert [gap["from"][:10] for gap in series["gaps"]] == ["2024-11-06"]


def run_line(backfill: Cli, line: str, folder: Path, content: str | None) -> None:
    """Run a command of the page, on the file that it names."""
    program, *arguments = shlex.split(line)
    assert program == "backfill"
    output = None
    if ">" in arguments:
        *arguments, _, output = arguments
    if arguments[0] == "import":
        path = folder / arguments[1]
        if content is not None:
            path.write_text(content)
        arguments[1] = str(path)
    ended = backfill(*arguments)
    assert ended.code == 0, (line, ended.err)
    if output is not None:
        (folder / output).write_text(ended.out)
