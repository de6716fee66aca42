"""The pages of docs that are written by a program: `make docs` writes them, a test compares.

Settings describe themselves; what the plans carry is the planner's own arithmetic.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from backfill.core.planning import calls_saved, plan_work
from backfill.core.series import Progress, Symbol, SymbolId
from backfill.core.terms import Terms
from backfill.core.timeframe import Timeframe
from backfill.core.work import Demand, Mode, Rules, Target
from backfill.present.providers import page
from backfill.present.tables import duration_text
from backfill.providers import PROVIDERS, account_holders, provider_named
from backfill.providers.massive_files import ARCHIVE
from backfill.run.parted import grouping
from backfill.run.planned import Plan
from backfill.settings import AccountSettings, Settings
from backfill.settings.account import file_keys_of, keys_of, variables_of
from backfill.settings.environment import Variable, variable_of
from backfill.settings.offers import offers
from tests.calendars import calendar
from tests.manpage import man_page

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
MASSIVE: Final = provider_named("massive")
TUESDAY: Final = datetime(2024, 11, 12, 12, tzinfo=UTC)
SYMBOLS: Final = 50
ALL: Final = "m1,m5,m15,m30,h1,h4,d1,w1,mn1"
DEADLINE_S: Final = 3000
_WRITTEN: Final = "<!-- written by make docs -->"
_END: Final = "<!-- end -->"

Known = dict[tuple[SymbolId, Timeframe], Progress]


def configuration() -> str:
    """Every setting, its default and what it means, as the settings describe themselves."""
    common = [
        (variable, field.default)
        for field in fields(Settings)
        if (variable := variable_of(field)) is not None
    ]
    rows = "\n".join(_setting(*one) for one in common)
    own = "\n".join(
        _setting(one, None)
        for provider in account_holders()
        for one in [
            *keys_of(provider),
            *file_keys_of(provider),
            *variables_of(provider).values(),
        ]
    )
    return f"""# Configuration

Everything is read from the environment, once, at the start. White space around a value is stripped,
an empty one counts as unset, and a wrong one ends the command with exit code 2 and one line that
names the variable and not its value. Secrets appear in no log, error, address or row. What is said
to be secret may stand in a file instead, as containers have it: `DATABASE_URL_FILE`,
`MASSIVE_API_KEY_FILE`, the name of any of them with `_FILE` behind. It holds one line; both a
variable and its file are an error.

In a checkout, `make backfill` reads them from `.env` ([.env.example](../.env.example)); the command
itself reads no file. This page is written from `backfill/settings` by `make docs`.

| variable | default | meaning |
| --- | --- | --- |
{rows}

Each provider has an account of its own. What is said of one goes before what is said of the default
provider. `BACKFILL_PROVIDER_URL`, `_PLAN` and `_QUOTA` mean that one alone, whatever `--provider`
says: no key reaches another provider's address.

| variable | default | meaning |
| --- | --- | --- |
{own}

Flags of `backfill run` go before a variable where both say something: `--provider` before
`BACKFILL_PROVIDER`, `--from` before the watchlist's depth and `BACKFILL_SINCE`.

`BACKFILL_PROXY` is a URL such as `http://name:password@proxy:3128`, for every call and ping, or
`environment`: then `HTTPS_PROXY` and `HTTP_PROXY` tell the proxy by the scheme of the address, and
`NO_PROXY` which hosts and domains are asked without (`*` for all). The database is never reached
through one. A provider's key passes a proxy inside TLS, unless the provider's own address is
`http`.

GitHub's own `GITHUB_ACTIONS` and `GITHUB_STEP_SUMMARY` have a run tell there how it went:
[github-actions.md](github-actions.md).
"""


def _setting(source: Variable, value: object) -> str:
    given = "on" if value is True else value
    default = "–" if given is None or given == frozenset() else f"`{given}`"
    shown = " or ".join(f"`{name}`" for name in source.names)
    return f"| {shown} | {default} | {source.meaning} |"


def providers() -> str:
    """The page of the providers, whose table is written; the rest of it is by hand."""
    head, _, rest = DOCS.joinpath("providers.md").read_text("utf-8").partition(_WRITTEN)
    _, end, tail = rest.partition(_END)
    free = {name: AccountSettings() for name in PROVIDERS}
    return f"{head}{_WRITTEN}\n{page(offers(Settings(accounts=free)))}\n{end}{tail}"


def costs() -> str:
    """What plans carry: calls of a first load and of a week, and the time they take."""
    free, paid = MASSIVE.terms["free"], MASSIVE.terms["developer"]
    of_free = "\n".join(_cost(free, kept) for kept in ("d1", "d1,w1,mn1", "h1", "m1", ALL))
    of_paid = "\n".join(_cost(paid, kept) for kept in ("d1", "m1", ALL))
    window = free.quota.windows[0]
    head = (
        "| timeframes | calls of the first load | it takes | calls a week | on the busiest day |\n"
        "| --- | --- | --- | --- | --- |"
    )
    day, run = round(86_400 / free.quota.seconds_per_call), _in_deadline(free)
    of_minutes = dict(ARCHIVE.market_bytes)[Timeframe.m1]
    minutes = 960
    many = int(round(of_minutes / (minutes * ARCHIVE.call_bar_bytes), -2))
    a_year = 252 * minutes // 50_000 + 1
    few = 252 // a_year + 1
    return f"""# What it costs

Calls are what a provider sells. These are the planner's own numbers, for Massive: `make docs` has
the code that plans every run write them. Ask it about your own watchlist with

```sh
backfill run --all --dry-run
```

## The free plan: {window.limit} calls a minute, two years deep

That is {day:,} calls a day. For **{SYMBOLS} US stocks**, run every six hours:

{head}
{of_free}

- **Several timeframes for the calls of one.** m5 to h4 are rolled up from the finest that is kept,
  w1 and mn1 from d1: all nine cost what m1 and d1 cost.
- **A day of many stocks in one call.** The newest d1 of all stocks is one grouped call a session.
- **Intraday is a call a stock and session**, whichever timeframes. A run that ends at
  `--deadline {DEADLINE_S}`, as in the workflow, makes {run} calls: so many stocks are brought
  up to date in one run, and {4 * run} by four runs a day. One that reaches its deadline ends in
  order (exit 5), and the next one goes on.
- **Running more often costs nothing** and brings nothing: bars come at the end of the day, and a
  run that finds nothing due calls nobody.
- A first load that takes longer than a run is continued by the next ones; new bars go first.

Look-ups are counted apart: everybody's splits and dividends, once a session, and one for a ticker
whose answer leaves a question.

## A paid plan: `developer`, ten years deep, at most {_pace(paid)}

Intraday bars are due within the day there: each run brings what is new since the one before.

{head}
{of_paid}

## Files in place of calls

Plans from `starter` on have a file of the whole market for each session
([providers.md](providers.md)). It is one request of {of_minutes / 1e6:.0f} MB for the minutes of
every symbol, and takes nothing of the quota. By calls a year of minutes of one symbol is {a_year}
calls, so files take fewer requests from {few} symbols on, but fewer bytes only from about
{many:,}: as many have to miss a session for its file to be read by itself. Between them
`--archive always` pays with bytes for requests; `--dry-run` prints both.
"""


def _cost(terms: Terms, kept: str) -> str:
    timeframes = [Timeframe(name) for name in kept.split(",")]
    first, *runs = list(_weeks(terms, timeframes))
    days = [sum(calls for calls, _ in runs[at : at + 4]) for at in range(0, len(runs), 4)]
    busiest = max(days)
    cells = (
        kept.replace(",", " "),
        f"{first[0]:,}",
        duration_text(first[1]),
        f"{sum(days):,}",
        f"{busiest:,}, {duration_text(terms.quota.seconds_for(busiest))}",
    )
    return f"| {' | '.join(cells)} |"


def _weeks(terms: Terms, timeframes: list[Timeframe]) -> Iterator[tuple[int, float]]:
    """The calls and seconds of a first load, and of every run of the seven days after it."""
    symbols = [
        Symbol(number, f"S{number}", "stock", "XNYS", confirmed=True) for number in range(SYMBOLS)
    ]
    known: Known = {}
    for number in range(29):
        now = TUESDAY + timedelta(hours=6 * number)
        rules = Rules(
            provider=MASSIVE.name,
            can=MASSIVE.can,
            adjustment="raw",
            terms=terms,
            now_ms=round(now.timestamp() * 1000),
        )
        mode = Mode.incremental if number else Mode.default
        demand = Demand(terms.window_start(TUESDAY.date()), mode)
        work = [
            (piece, demand)
            for symbol in symbols
            for piece in plan_work(symbol, timeframes, calendar("XNYS"), rules, demand, known)
        ]
        saved = sum(calls_saved(piece, rules) for piece, _ in work)
        grouped = grouping(MASSIVE, work)
        plan = Plan.of([piece for piece, _ in work], terms.quota, MASSIVE.can.cost, saved, grouped)
        yield plan.calls, plan.seconds
        for piece, _ in work:
            for target in piece.targets:
                if target.missing:
                    before = known.get(target.series.key, Progress())
                    known[target.series.key] = _fetched(before, target)
        for (symbol_id, timeframe), one in known.items():
            base = one.source.derived_from if one.source else None
            if base is not None and (symbol_id, base) in known:
                covered = known[symbol_id, base].coverage
                known[symbol_id, timeframe] = replace(one, base_coverage=covered)


def _fetched(before: Progress, target: Target) -> Progress:
    """The progress of a series all of whose missing slots were traded."""
    coverage = before.coverage | target.missing
    hull = coverage.hull
    assert hull is not None
    grid = calendar("XNYS").grid(target.series.timeframe)
    return replace(
        before,
        source=target.source,
        coverage=coverage,
        wanted_from_ms=before.wanted_from_ms or hull.start_ms,
        oldest_bar_ms=hull.start_ms,
        newest_bar_ms=grid.start_of(grid.index_from(hull.end_ms) - 1),
    )


def _in_deadline(terms: Terms) -> int:
    """How many calls fit into the deadline of the workflow."""
    calls = 1
    while terms.quota.seconds_for(calls + 1) < DEADLINE_S:
        calls += 1
    return calls


def _pace(terms: Terms) -> str:
    return f"{1 / terms.quota.seconds_per_call:g} calls a second"


PAGES: Final = {
    "backfill.1": man_page,
    "configuration.md": configuration,
    "costs.md": costs,
    "providers.md": providers,
}


if __name__ == "__main__":
    for name, written in PAGES.items():
        DOCS.joinpath(name).write_text(written(), encoding="utf-8")
