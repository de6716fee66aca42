"""The command that writes a page to look at, and a badge; what stands on it is found elsewhere."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from backfill.cli.edge import AsJson, JudgedAsOf, print_result, read_settings, say

_PAGE = "backfill-report.html"


def report(
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the page goes.")] = Path(
        _PAGE
    ),
    badge: Annotated[
        Path | None,
        typer.Option("--badge", metavar="FILE", help="Write a badge for shields.io as well."),
    ] = None,
    with_bars: Annotated[
        bool,
        typer.Option("--with-bars", help="With the newest closes; never in GitHub Actions."),
    ] = False,
    as_of: JudgedAsOf = None,
    as_json: AsJson = False,
) -> None:
    """Write one page of HTML: problems and what mends them, coverage, runs, what comes next.

    It needs no other file, no script and no network. Whatever stands on it, this exits 0:
    `status` and `gaps` are the checks.
    """
    from backfill.core.when import parse_clock
    from backfill.errors import UsageError

    now = parse_clock(as_of) if as_of else None
    if with_bars and os.environ.get("GITHUB_ACTIONS"):
        raise UsageError(
            "--with-bars is refused in GitHub Actions: others can read its artifacts, and bars are "
            "licensed to you; leave it out"
        )
    if badge is not None and badge.absolute() == out.absolute():
        raise UsageError(
            "--out and --badge name the same file: the badge would take the page's place"
        )
    settings = read_settings()
    from backfill.audit.overview import overview
    from backfill.report.badge import badge_of
    from backfill.report.making import facts_of
    from backfill.report.page import render

    facts = facts_of(asyncio.run(overview(settings, now, with_bars=with_bars)))
    _write(out, render(facts))
    if badge is not None:
        _write(badge, badge_of(facts) + "\n")
    print_result(
        {"out": str(out), "badge": str(badge) if badge else None, "problems": len(facts.problems)},
        as_json=as_json,
        text=lambda: say(str(out)),
    )


def _write(path: Path, text: str) -> None:
    """Put a text in the place of a file at once: whoever reads it sees the old one or this one."""
    from backfill.errors import UsageError
    from backfill.files.placing import beside, put

    try:
        if path.exists() and not path.is_file():
            path.write_text(text, "utf-8")  # a pipe, or a terminal
            return
        place = path.resolve()
        with beside(place.parent, f".{place.name}.", ".part") as part:
            part.write_text(text, "utf-8")
            put(part, place)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from None
