"""What the commands of the queue refuse, in one line, before anything is opened."""

import importlib.util

import pytest

from backfill.cli import main


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("enqueue", "name what to run"),
        ("enqueue AAPL --all", "--all goes without symbols"),
        ("enqueue AAPL -t m2", "timeframe 'm2' is not one of"),
        ("queue drop", "name the jobs to drop"),
        ("queue drop 7 --held", "name the jobs to drop"),
        ("queue retry seven", "'seven' is no number of a job"),
        (f"queue drop {2**64}", f"'{2**64}' is no number of a job"),
        ("worker --provider nobody", "nobody"),
        ("worker --concurrency 0", "--concurrency"),
    ],
)
def test_a_wrong_line_is_refused(
    line: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["backfill", *line.split()])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_a_worker_without_pgqueuer_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pgqueuer" else there(name)
    )
    monkeypatch.setattr("sys.argv", ["backfill", "worker"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "pip install 'ohlc-backfill[workers]'" in capsys.readouterr().err
