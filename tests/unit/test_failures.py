"""Failures are told by their cause, first, and each cause once."""

from dataclasses import replace
from uuid import uuid4

import pytest

from backfill.notify import github
from backfill.present import show
from backfill.present.failures import blocks
from backfill.run.outcomes import Failure, Outcomes, Summary

UNKNOWN = "the provider doesn't know this ticker (they are case-sensitive)"
MANY = [
    Failure(f"NOSUCH{number}", timeframe, "unknown_symbol", UNKNOWN, "massive")
    for number in range(39)
    for timeframe in ("d1", "h1")
]


def summary(failures: list[Failure], error: str | None = None, exit_code: int = 1) -> Summary:
    ended = Outcomes([]).summary(uuid4(), "default", {}, 1.0, told=str)
    return replace(ended, failures=failures, error=error, exit_code=exit_code)


def shown(result: Summary, capsys: pytest.CaptureFixture[str]) -> list[str]:
    show.summary(result)
    return capsys.readouterr().out.splitlines()


def test_many_series_of_one_cause_are_one_block_above_the_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = Failure("AAPL", "m1", "provider_error", "no answer", "massive")
    lines = shown(summary([other, *MANY]), capsys)

    assert lines[1] == "unknown_symbol  78 series: 39 symbols × h1 d1"
    assert lines[2].endswith("NOSUCH19 and 27 more")
    assert lines[3].strip() == UNKNOWN
    assert lines[4:6] == ["provider_error  AAPL m1", "    no answer"]
    assert lines[6].startswith("0 series: ")
    assert len(lines) == 9


def test_the_cause_that_ended_the_run_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    failures = [replace(one, outcome="database_error", message="it is read-only") for one in MANY]
    lines = shown(summary(failures, "it is read-only", 3), capsys)
    assert len([line for line in lines if "it is read-only" in line]) == 1


@pytest.mark.parametrize(
    "said",
    [
        "{ticker}: another company has this ticker since 2024-07-0{number}",
        "{number} bar(s) failed a check and went to quarantined_bars",
    ],
)
def test_messages_that_differ_in_a_ticker_or_a_number_tell_of_one_cause(said: str) -> None:
    failures = [
        Failure(ticker, "d1", "x", said.format(ticker=ticker, number=number))
        for number, ticker in enumerate(("A", "BRK.B", "ONE"), 1)
    ]
    [block] = blocks(failures)
    assert block.symbols == ("A", "BRK.B", "ONE")
    assert block.why == f"such as: {failures[0].message}"


def test_causes_of_two_outcomes_or_providers_stay_two() -> None:
    one = Failure("A", "d1", "provider_error", "no answer", "massive")
    assert len(blocks([one, replace(one, symbol="B", provider="binance")])) == 2
    assert len(blocks([one, replace(one, symbol="B", outcome="bad_answer")])) == 2
    assert len(blocks([one, replace(one, symbol="B", message="other words")])) == 2


def test_a_page_and_its_annotations_name_each_cause_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = summary(MANY)

    github.report(result)
    page = github.markdown(result)

    [order] = capsys.readouterr().err.splitlines()
    assert order.startswith("::error title=78 series%3A 39 symbols × h1 d1%3A unknown_symbol::")
    [row] = [line for line in page.splitlines() if line.startswith("| NOSUCH0 ")]
    assert "backfill watch remove NOSUCH0 NOSUCH1 " in row
    assert page.index("What failed") < page.index("| timeframe |")
