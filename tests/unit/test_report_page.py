"""The page by its structure: what a browser, a reader and somebody who listens to it find there."""

import doctest
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

import backfill.report
from backfill.audit.queue import ProviderJobs, QueueState
from backfill.report.badge import badge_of
from backfill.report.facts import (
    Case,
    Closes,
    Facts,
    Group,
    NextRun,
    Problem,
    RunFacts,
    SeriesFacts,
)
from backfill.report.page import pages, render, sheet
from backfill.store.recent import RunDay

AT: Final = datetime(2024, 11, 12, 12, tzinfo=UTC)
CELLS: Final = "." * 6 + "s" * 40 + "g" + "u" * 5 + "e" * 5 + "q" * 3 + "s" * 30 + "n" * 6
VOID: Final = {"meta", "link", "br", "rect", "path", "circle", "polyline"}
ADDRESSES: Final = {"src", "href", "srcset", "action", "poster", "data", "xlink:href"}


def series(name: str, **changed: object) -> SeriesFacts:
    whole = SeriesFacts(
        symbol=name, timeframe="d1", told="yes", is_stale=False, bars=1000, newest=AT, share=1.0,
        missing=0, unconfirmed=0, quarantined=0, uncovered=0, cells="s" * 96,
        closes=Closes(AT, (1.0, 2.0, 1.5)),
    )  # fmt: skip
    return replace(whole, **changed)  # type: ignore[arg-type]


TROUBLED: Final = series(
    "AAPL", told="no, 3 due", is_stale=True, missing=2, unconfirmed=5, quarantined=1, cells=CELLS
)


def group(*listed: SeriesFacts, **changed: object) -> Group:
    some = Group(
        timeframe="d1", provider="massive", calendar="XNYS", since=AT - timedelta(days=800),
        until=AT, series=len(listed), judged=len(listed), stale=1, missing=2, quarantined=1,
        bars=1000, share=0.93, mix=tuple({"s": 9, "g": 1} for _ in range(96)), listed=listed,
    )  # fmt: skip
    return replace(some, **changed)  # type: ignore[arg-type]


def facts(*groups: Group, **changed: object) -> Facts:
    case = Case("AAPL d1", "2 bars missing", "backfill gaps AAPL -t d1 --repair")
    count = sum(one.series for one in groups)
    some = Facts(
        at=AT, version="1", series=count, judged=count, stale=1, bars=1000, missing=2,
        quarantined=1, share=0.93,
        problems=(Problem("1 series lacks bars", "Lost.", "backfill gaps --repair", 9, (case,)),),
        groups=groups,
        days=tuple(RunDay(date(2024, 11, 1 + n), 4, n == 3, n * 10, 0, 9) for n in range(12)),
        runs=(RunFacts(AT, 9.5, "default", "massive", "failed", 12, 1, 0.8, 1, 7, 0, 0, "down"),),
        runs_before=3, quotas=(("massive", "5/60s"),),
        next_run=NextRun("backfill run --all", 3, 4, 500, 60.0, 2), with_bars=True,
    )  # fmt: skip
    return replace(some, **changed)  # type: ignore[arg-type]


class Read(HTMLParser):
    """A page as it is parsed: elements in their order, the text, and whether all are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_needs_nothing_but_itself() -> None:
    page = Read(render(facts(group(TROUBLED, series("MSFT")))))
    assert page.open == []
    names = Counter(name for name, _ in page.elements)
    assert not {"script", "iframe", "img", "object", "base", "form"} & names.keys()
    for name, attributes in page.elements:
        assert not any(one.startswith("on") or one == "style" for one in attributes), name
        for address in ADDRESSES & attributes.keys():
            assert attributes[address].startswith("#") or attributes[address] == "data:,"
    assert not re.search(r"url\((?!#)|@import|https?:", sheet())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)


def test_problems_come_first_each_with_the_command_that_mends_it() -> None:
    page = Read(render(facts(group(TROUBLED))))
    said = [text.strip() for text in page.texts if text.strip()]
    heads = ["Problems", "Coverage", "Runs of the last four weeks", "The next run"]
    assert [text for text in said if text in heads] == heads
    for command in ("backfill gaps --repair", "backfill gaps AAPL -t d1 --repair"):
        assert said.count(command) == 1
    assert "And 8 more." in said


def test_every_picture_says_in_words_what_it_shows() -> None:
    page = Read(render(facts(group(TROUBLED))))
    pictures = page.all("svg")
    assert len(pictures) > 8
    for one in pictures:
        hidden = one.get("aria-hidden") == "true"
        assert hidden or (one["role"] == "img" and one["aria-label"]), one
    strip = "AAPL d1: 2 missing, 1 quarantined, 5 unconfirmed"
    assert strip in [one.get("aria-label") for one in pictures]
    drawn = {attributes.get("class") for attributes in page.all("path")}
    assert {"stored", "empty", "unconfirmed", "gap", "quarantined", "uncovered"} <= drawn


def test_without_bars_no_price_stands_on_it() -> None:
    priced = series("MSFT", closes=Closes(AT, (123.456,)))
    assert "123.456" in render(facts(group(priced)))
    assert "123.456" not in render(facts(group(priced), with_bars=False))


def test_few_series_lie_open_and_many_are_collapsed_counted_and_named() -> None:
    few = Read(render(facts(group(TROUBLED))))
    assert [one for one in few.all("details") if one.get("class") == "group" and "open" in one]

    listed = tuple(series(f"S{number:05}") for number in range(2_000))
    others = tuple(f"T{number:05}" for number in range(8_000))
    many = group(TROUBLED, *listed, series=10_001, unlisted=others)
    text = render(facts(many, series=10_001))
    page = Read(text)
    assert not [one for one in page.all("details") if one.get("class") == "group" and "open" in one]
    assert "8,000 more without a line of their own, with nothing to tell: " in page.texts
    named = " ".join(page.texts).split()
    assert {*(one.symbol for one in listed), *others} <= set(named)
    assert len(text) < 2_000_000


def test_names_lead_to_their_own_pages_where_there_are_some() -> None:
    page = Read(render(facts(group(series("BRK.B"))), lambda symbol, of: f"/s/{symbol}?t={of}"))
    assert page.all("a")[-1] == {"href": "/s/BRK.B?t=d1"}
    extended = pages().from_string(
        '{% extends "base.html" %}{% block main %}<p>own</p>{% endblock %}'
    )
    assert "<p>own</p>" in extended.render(css=sheet())


def test_a_report_of_nothing_says_how_to_begin() -> None:
    nothing = facts(
        problems=(), days=(), runs=(), stale=0, missing=0, quarantined=0, bars=0, share=None,
        next_run=NextRun("backfill run --all", refused="the watchlist is empty"),
    )  # fmt: skip
    said = " ".join(Read(render(nothing)).texts)
    assert "No series yet" in said
    assert "There would be none: the watchlist is empty" in said
    assert '"message": "no series"' in badge_of(nothing)


def test_the_badge_tells_the_worst_in_a_word() -> None:
    fine = facts(group(series("A")), problems=(), stale=0, missing=0, quarantined=0)
    told = [
        replace(fine),
        replace(fine, problems=facts().problems),
        replace(fine, missing=3, problems=facts().problems),
        replace(fine, stale=1, missing=3, problems=facts().problems),
    ]
    words = ["1 series fresh", "1 problem", "3 bars missing", "1 of 1 stale"]
    for one, word in zip(told, words, strict=True):
        assert f'"message": "{word}"' in badge_of(one)


def test_of_series_that_nobody_watches_nobody_says_that_they_are_fresh() -> None:
    for judged, stale, in_group, on_badge in (
        (2, 0, "all fresh", "2 series fresh"),
        (1, 0, "all fresh; 1 not judged", "1 series fresh"),
        (1, 1, "1 stale; 1 not judged", "1 of 1 stale"),
        (0, 0, "not judged: nobody watches them", "nothing watched"),
    ):
        two = group(series("A"), series("B"), judged=judged, stale=stale)
        told = facts(two, judged=judged, stale=stale, missing=0, problems=())
        assert in_group in Read(render(told)).texts
        assert f'"message": "{on_badge}"' in badge_of(told)


def test_the_examples_in_the_docstrings_are_true() -> None:
    names = [one.name for one in iter_modules(backfill.report.__path__)]
    tried = [doctest.testmod(import_module(f"backfill.report.{name}")) for name in names]
    assert sum(one.attempted for one in tried) >= 2
    assert sum(one.failed for one in tried) == 0


def test_a_queue_is_said_to_be_left_alone_where_a_job_could_be_begun_and_is_not() -> None:
    for deferred, said in ((2, True), (3, False)):
        jobs = ProviderJobs("massive", 3, deferred, working=0, held=0, oldest_s=9.0, ended={})
        text = render(facts(queue=QueueState([jobs], [], [], [], None)))
        assert ("Nobody works it off" in text) is said
