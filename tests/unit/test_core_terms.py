from datetime import date, timedelta

import pytest

from backfill.core.terms import Quota, Settling, Terms, Window
from backfill.errors import UsageError


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("5/60s", (Window(5, 60.0),)),
        ("100/1s", (Window(100, 1.0),)),
        ("8/60s,800/1d", (Window(8, 60.0), Window(800, 86_400.0))),
        (" 8/60s , 800/1d ", (Window(8, 60.0), Window(800, 86_400.0))),
        ("1/0.5s", (Window(1, 0.5),)),
        ("5/1m", (Window(5, 60.0),)),
        ("1000/2h", (Window(1000, 7_200.0),)),
        ("unlimited", ()),
        (" unlimited\n", ()),
    ],
)
def test_a_quota_is_read_as_it_is_written(text: str, windows: tuple[Window, ...]) -> None:
    assert Quota.parse(text).windows == windows


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "5/60",
        "/60s",
        "5/s",
        "5/60s,",
        ",5/60s",
        "5/60s;8/1d",
        "0/60s",
        "5/0s",
        "5/0.0s",
        "-5/60s",
        "5/-60s",
        "5.5/60s",
        "5/60S",
        "5/60ms",
        "5/1w",
        "5 / 60s",
        "Unlimited",
        "unlimited,5/60s",
        "5/60s\n8/1d",
        "five/60s",
        "1000001/1d",
        "1/367d",
        "1/99999999999999999999d",
    ],
)
def test_what_is_no_quota_is_refused_with_the_form_it_should_have(text: str) -> None:
    with pytest.raises(UsageError, match="5/60s"):
        Quota.parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5/60s", 12.0), ("100/1s", 0.01), ("8/60s,800/1d", 108.0), ("unlimited", 0.0)],
)
def test_the_slowest_window_sets_the_lasting_pace(text: str, seconds: float) -> None:
    assert Quota.parse(text).seconds_per_call == seconds


@pytest.mark.parametrize(
    ("depth_days", "first_day"),
    [
        (None, date(2003, 9, 10)),
        (730, date(2022, 6, 2)),  # 730 days before is 1 June; the window recedes daily
        (20_000, date(2003, 9, 10)),
    ],
)
def test_the_window_of_a_plan_begins_a_day_late_and_never_before_the_provider_does(
    depth_days: int | None, first_day: date
) -> None:
    depth = None if depth_days is None else timedelta(days=depth_days)
    terms = Terms("free", Quota(), Settling(0, 0), depth, earliest=date(2003, 9, 10))
    assert terms.window_start(date(2024, 5, 31)) == first_day
