"""Every text that a provider or a user can fill, through every door: nobody obeys it."""

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import msgspec
import pytest
import structlog
from hypothesis import example, given, settings

from backfill import log
from backfill.admin.adopt import Adopted, OffGrid
from backfill.admin.names import Renamed
from backfill.audit.gaps import SeriesGaps
from backfill.audit.health import Health
from backfill.audit.overview import LeftOut, Overview, Pace, Standing
from backfill.audit.quarantine import Listing, Reopened
from backfill.audit.queue import HeldJob, ProviderJobs, QueueState, Scheduled, WorkingJob
from backfill.audit.repair import Findings, Repair
from backfill.audit.status import SeriesStatus
from backfill.audit.tracked import Tracked
from backfill.audit.verify import Verification
from backfill.cli.edge import print_json, print_result, say
from backfill.core.compare import Difference, Kind
from backfill.core.coverage import Span, Spans
from backfill.core.freshness import State
from backfill.core.gaps import Gap
from backfill.core.plain import json_text
from backfill.core.redact import Redactor
from backfill.core.series import Alias, Progress, Series, Source, Symbol
from backfill.core.splits import Ratio
from backfill.core.terms import Quota
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.errors import ProviderError
from backfill.fetch.tally import Tally
from backfill.notify import github
from backfill.present import columns, listings, prometheus, quarantine, show
from backfill.present import gaps as json_gaps
from backfill.present import queue as queued
from backfill.present import status as standing
from backfill.report.badge import badge_of
from backfill.report.making import facts_of
from backfill.report.page import render
from backfill.run.job import EVERYTHING
from backfill.run.outcomes import Failure, SeriesCounts, Summary, TimeframeCounts
from backfill.run.planned import Plan, PlannedSeries
from backfill.run.symbol_events import Event, SymbolEvent
from backfill.settings import Settings
from backfill.store.adopt import Adoption
from backfill.store.by_hand import SplitRow
from backfill.store.counts import Counts
from backfill.store.quarantine import Held, QuarantinedBar
from backfill.store.recent import LastEnd, Recent, RunDay, RunRow
from backfill.store.universe import WatchEntry
from tests.calendars import calendar
from tests.property.test_plain import HOSTILE, obeyed

AT: Final = datetime(2024, 11, 5, tzinfo=UTC)
DAY: Final = date(2024, 11, 5)
RUN: Final = UUID(int=7)
NAN: Final = float("nan")
KEY: Final = "k3y/of-the=doors"


def symbol(text: str) -> Symbol:
    return Symbol(1, text, text, text, DAY, DAY, aliases=(Alias(text, DAY, DAY),))


def summary(text: str) -> Summary:
    """As a run makes it: only its messages are made fit to leave."""
    told = Redactor([KEY]).told(f"{text}{KEY}")
    return Summary(
        run_id=str(RUN), status="failed", exit_code=1, mode="default", provider="massive", calls=1,
        lookups=0, retries=0, rate_limited=0, duration_s=1.0, series=SeriesCounts(), bars=Counts(),
        failures=[Failure(text, "d1", one, told) for one in ("bad_answer", "unknown_symbol")],
        timeframes=[TimeframeCounts("d1", SeriesCounts(), Counts())], error=told, providers={},
    )  # fmt: skip


def status(text: str) -> list[SeriesStatus]:
    jumps = [(DAY, Ratio(2, 1))]
    series = SeriesStatus(
        symbol=text, timeframe="d1", bars=1, oldest=AT, newest=AT, coverage=[(AT, AT)],
        due_until=AT, behind=0, fresh=False, quarantined=1, source=text, unlisted_splits=jumps,
        state=State.silent, silent=1, usual_silence=0, wanted_since=AT, missing=1, share=0.5,
        watched=True, judged=True,
    )  # fmt: skip
    return [series, replace(series, watched=False, judged=False)]


def jobs(text: str) -> QueueState:
    return QueueState(
        [ProviderJobs(text, 1, 1, 1, 1, 1.0, {text: 1}, 10, 1.0)],
        [WorkingJob(1, text, text, text, 1.0, 1.0)],
        [HeldJob(1, text, text, AT, parked=True, why=text)],
        [Scheduled(text, AT, AT)],
        text,
    )


def overview(text: str) -> Overview:
    """What a page is made of, with the text in every field of it."""
    account = Settings().account()
    known = Progress(source=Source(text, text, text), coverage=Spans.of((0, DAY_MS)))
    [one, other] = status(text)
    unlike = replace(found := symbol(text), calendar=f"{text}'s")
    standings = [
        Standing(
            Tracked(
                Series(of, Timeframe.d1), calendar("XNYS"), known, DAY, EVERYTHING, account,
                watched=state.watched, judged=state.judged,
            ),
            state, Span(0, 2 * DAY_MS), (Gap(Span(0, DAY_MS), 1),), Spans(),
        )
        for of, state in ((found, one), (unlike, other))
    ]  # fmt: skip
    failed = dict.fromkeys(("symbol", "timeframe", "outcome", "message", "provider"), text)
    alike = failed | {"message": "why"}
    return Overview(
        AT,
        standings,
        left_out=[LeftOut(text, text)],
        orphans=[1],
        events=[
            SymbolEvent(text, Event.renamed, DAY, text, text, (f"backfill watch add {text}",) * 2)
        ],
        recent=Recent(
            (RunDay(DAY, 1, 1, 1, 1, 1),),
            (RunRow(AT, AT, text, text, text, 1, 1, 1, 1, 1, 1, text),),
            LastEnd(AT, "failed", text, (alike, alike | {"symbol": f"{text}'s"}, failed)),
        ),
        plan=text,
        provider=text,
        paces={text: Pace(Quota.parse("5/60s"), 1)},
        closes={standings[0].tracked.series.key: (AT, (1.0, 2.0))},
        queue=jobs(text),
    )


def verified(text: str) -> Verification:
    series = Series(symbol(text), Timeframe.d1)
    return Verification(
        Tally(),
        compared={series: 1},
        differences={
            series: [Difference(0, next(iter(Kind)), {"open": 1.0}, {"open": float("nan")})]
        },
        failures=[Failure(text, "d1", "bad_answer", text)],
    )


def values(text: str) -> Iterator[tuple[Callable[[], Any], Callable[[], Any]]]:
    """What each command shows: as people read it, and as JSON."""
    run, found = summary(text), symbol(text)
    series = Series(found, Timeframe.d1)
    planned = PlannedSeries(text, "d1", 1, 1, 1, None, None, None, text)
    plan = Plan(1, 1, 0, 0, 1, 1.0, [planned])
    gaps = [SeriesGaps(series, [Gap(Span(0, 1), 1)], Spans())]
    repair = Repair(Findings(gaps, verified(text)), run, gaps)
    entry = WatchEntry(found, (Timeframe.d1,), text, paused=False, priority=1)
    raw = dict.fromkeys(("open", "high", "volume"), text) | {text: text}
    bar = QuarantinedBar(
        text, Timeframe.d1, AT, text, json.dumps(raw), str(RUN), AT, None, stored=False
    )
    split = SplitRow(text, f"{text}'s", DAY, Ratio(2, 1), text, tested=True, manual=False)
    adoption = Adoption((text,), (), (), ())
    adopted = Adopted((text,), [], 1, {text: text}, [OffGrid(series, 1, 0, AT)], 0)
    renamed = Renamed(found, 1)
    reopened = [Reopened(text, Timeframe.d1, 1)]
    yield lambda: show.summary(run), run.as_dict
    yield lambda: show.plan(plan), plan.as_dict
    yield lambda: standing.status(status(text)), lambda: [one.as_dict() for one in status(text)]
    yield lambda: standing.status(status(text), markdown=True), lambda: None
    yield lambda: show.repair(repair), lambda: json.loads("".join(json_gaps.repair(repair)))
    yield lambda: print_json(json_gaps.repair(repair)), lambda: None
    yield lambda: listings.symbols([found]), lambda: listings.symbols_as_dict([found])
    yield lambda: listings.watchlist([entry]), lambda: listings.watchlist_as_dict([entry])
    held = Held(1, text, Timeframe.d1, text, 1, AT, AT)
    yield lambda: listed(quarantine.TextListing(), held, [bar, bar]), lambda: None
    told = json.dumps({text: raw}, ensure_ascii=False, allow_nan=False)
    yield lambda: listed(quarantine.JsonListing(), held, told), held.as_dict
    yield lambda: listings.splits([split]), lambda: listings.splits_as_dict([split])
    yield lambda: listings.adoption(adoption), lambda: None
    yield lambda: listings.adopted(adopted), adopted.as_dict
    yield lambda: listings.renamed(renamed), lambda: listings.renamed_as_dict(renamed)
    yield lambda: listings.retried(reopened), lambda: [one.as_dict() for one in reopened]
    yield lambda: queued.state(jobs(text)), lambda: queued.state_as_dict(jobs(text))
    yield lambda: say(text), lambda: text


def bare(page: str) -> str:
    """What a page of Markdown says but for what its writer may: elements, cells, headings."""
    return re.sub(r"&#\d+;|</?(?:span|code)>|^#+ |[|]|\*\*|---", "", page, flags=re.MULTILINE)


def listed(listing: Listing[Any], held: Held, lot: Any) -> None:
    listing.begin([held])
    listing.add(lot)
    listing.add(lot)
    listing.end()


def said(work: Callable[[], Any]) -> str:
    """What some work writes to either stream."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(out):
        work()
    return out.getvalue()


@pytest.mark.parametrize("short", [1000, 1], ids=["laid-out", "row-by-row"])
@settings(max_examples=15)
@given(text=HOSTILE)
@example(text="\x7f")
def test_nobody_obeys_what_a_command_shows(text: str, short: int) -> None:
    for shown, as_values in values(text):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(columns, "_SHORT", short)
            assert not obeyed(said(shown))
        line = said(lambda: print_result(as_values(), as_json=True, text=lambda: None))  # noqa: B023
        msgspec.json.decode(line)
        assert not obeyed(line)


@settings(max_examples=15)
@given(HOSTILE)
def test_nobody_obeys_what_leaves_a_command_by_other_ways(text: str) -> None:
    page = github.markdown(summary(text))
    for told in (page, said(lambda: standing.status(status(text), markdown=True))):
        assert not obeyed(told)
        assert not re.search(r"[\[\]<>`*_~@#$\\&]", bare(told))
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {6, 12}
    metrics = prometheus.exposition(Health(status(text), {}, None))
    assert not obeyed(metrics)
    assert sum(line.startswith("backfill_fresh{") for line in metrics.splitlines()) == 1
    assert not obeyed(queued.metrics(jobs(text)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GITHUB_ACTIONS", "true")
        order = said(lambda: github.annotate("error", text, title=text))
    assert order.count("\n") == 1
    assert order.startswith("::error title=")
    assert not obeyed(order.removeprefix("::"))


class Skeleton(HTMLParser):
    """The elements of a page, with the names of their attributes: all that isn't text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.bones: list[object] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.bones.append((tag, *sorted(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.bones.append(tag)

    def handle_comment(self, data: str) -> None:
        self.bones.append(f"comment {data}")

    def handle_pi(self, data: str) -> None:
        self.bones.append(f"instruction {data}")


def paged(text: str) -> str:
    def link(symbol: str, _: str) -> str:
        return f"/s/{quote(symbol, safe='', errors='replace')}"

    return render(facts_of(overview(text)), link)


HARMLESS: Final = Skeleton(paged("X")).bones


@settings(max_examples=15)
@given(HOSTILE)
@example("<img src=y>")
@example('"onload="')
@example("\x1b\u202e\0\ud800")
def test_no_text_is_more_than_text_on_a_page(text: str) -> None:
    page = paged(text)
    page.encode()
    assert {sign for sign in page if not sign.isprintable()} <= {"\n"}
    assert Skeleton(page).bones == HARMLESS
    badge = badge_of(facts_of(overview(text)))
    assert not obeyed(badge)


def test_what_a_page_is_made_of_is_not_spelled_out_whole() -> None:
    assert len(repr(overview("X"))) < 500


@pytest.mark.parametrize("form", ["json", "console"])
@settings(max_examples=15)
@given(text=HOSTILE)
def test_nobody_obeys_a_log_and_no_key_is_in_it(form: str, text: str) -> None:
    def write() -> None:
        log.configure(form, [KEY])
        structlog.get_logger().error(
            "series.failed",
            symbol=text,
            message=f"{text}{KEY}",
            found={text: [KEY, text]},
            exc_info=ProviderError(f"{text}{KEY}"),
        )

    try:
        shown = said(write)
    finally:
        structlog.reset_defaults()
    assert not obeyed(shown)
    assert KEY not in shown
    if form == "json":
        assert json_text(json.loads(shown)) == shown.rstrip("\n")
