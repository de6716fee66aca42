"""What a message says: all of it counted, little of it named, nothing of it obeyed."""

from hypothesis import given
from hypothesis import strategies as st

from backfill.core.told import Change, Matter, Trouble
from backfill.present.message import message
from backfill.run.outcomes import Failure

HOSTILE = "@everyone <!channel> \x1b[31m http://evil.test ::error::x\r\nwww.evil.test"
LONGEST = 2000


def failing(
    tickers: list[str], why: str, trouble: Trouble = Trouble.failing
) -> tuple[list[Change], dict[Matter, Failure]]:
    matters = [Matter(ticker, "d1") for ticker in tickers]
    outcome = "rate_limited" if trouble is Trouble.refused else "provider_error"
    return (
        [Change(one, None, trouble) for one in matters],
        {one: Failure(one.name, "d1", outcome, why, "massive") for one in matters},
    )


def test_ten_thousand_series_are_one_paragraph_with_counts_and_what_mends_it() -> None:
    changes, reasons = failing([f"T{n:05}" for n in range(10_000)], "status 500")
    said = message(changes, reasons)
    assert said.title == "backfill: 10,000 series failing"
    assert said.severity == "failure"
    first, why, named, mend = said.text.splitlines()
    assert first == "Failing: 10,000 series: 10,000 symbols × d1 of massive"
    assert why == "status 500"
    assert named == f"{' '.join(f'T{n:05}' for n in range(8))} and 9,992 more"
    assert mend.startswith("mend: backfill run --symbols T00000,T00001,")
    assert mend.endswith(" --timeframe d1, then the others")


def test_each_kind_of_change_is_counted_in_the_title_and_the_worst_stands_first() -> None:
    bad, reasons = failing(["AAPL"], "status 500")
    refused, more = failing(["MSFT", "NVDA"], "slow down", Trouble.refused)
    said = message(
        [
            Change(Matter("BTC/USD@coinbase", "m1"), Trouble.failing, None),
            Change(Matter("SPY", "d1"), None, Trouble.stale),
            *refused,
            *bad,
            Change(Matter("run --all"), None, Trouble.failing),
        ],
        reasons | more | {Matter("run --all"): Failure("run --all", "", "", "the server is away")},
    )
    assert said.title == (
        "backfill: run --all failed, 1 series failing, 2 series refused by quota or plan, "
        "1 series stale, 1 series well again"
    )
    assert [part.splitlines()[0] for part in said.text.split("\n\n")] == [
        "run --all ended before its work did: the server is away",
        "Failing: AAPL d1 of massive",
        "Refused by quota or plan: 2 series: 2 symbols × d1 of massive",
        "Stale: SPY d1",
        "Well again: BTC/USD＠coinbase m1",  # noqa: RUF001 - that is what it is for
    ]


def test_what_recovered_is_good_news_and_what_is_stale_a_warning() -> None:
    well = Change(Matter("AAPL", "d1"), Trouble.stale, None)
    stale = Change(Matter("MSFT", "d1"), None, Trouble.stale)
    assert message([well], {}).severity == "success"
    assert message([well, stale], {}).severity == "warning"
    assert "backfill status --stale" in message([stale], {}).text


def test_a_message_calls_nobody_and_links_to_nothing() -> None:
    changes, reasons = failing([HOSTILE, "AAPL@everyone", "AAPL"], HOSTILE)
    named = {**reasons, Matter("run"): Failure("run", "", "", HOSTILE)}
    said = message([*changes, Change(Matter("run"), None, Trouble.failing)], named)
    for sign in ("@", "<", ">", "://", "www.", "\x1b", "\r"):
        assert sign not in said.text + said.title


def test_what_mends_a_listing_at_a_feed_can_be_copied() -> None:
    for ticker in ("AAPL@alpaca-iex", "BTC-USD@kraken", "META@2022-06-09"):
        said = message(*failing([ticker], "status 500"))
        assert f"mend: backfill run --symbol {ticker} --timeframe d1" in said.text
    assert "@" not in message(*failing(["AAPL@here-now"], "status 500")).text


@given(
    st.lists(
        st.tuples(st.text(max_size=40), st.text(max_size=600), st.sampled_from(Trouble)),
        min_size=1,
        max_size=60,
    )
)
def test_a_message_is_short_and_printable_whatever_is_in_it(
    found: list[tuple[str, str, Trouble]],
) -> None:
    changes: list[Change] = []
    reasons: dict[Matter, Failure] = {}
    for ticker, why, trouble in found:
        more, because = failing([ticker], why, trouble)
        changes += more
        reasons |= because
    said = message(changes, reasons)
    assert len(said.text) <= LONGEST
    assert all(line.isprintable() for line in said.text.split("\n"))
    assert said.title.isprintable()
