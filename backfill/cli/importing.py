"""The command that imports a file of bars."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from backfill.cli.edge import AsJson, Symbols, Timeframes, print_result, read_settings


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV, also gzipped, Parquet, or Databento's DBN.")
    ],
    *,
    symbol: Symbols = None,
    timeframe: Timeframes = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="Where it is from: kaggle.")
    ] = None,
    adjustment: Annotated[
        str | None, typer.Option("--adjustment", metavar="A", help="How shares are: raw or split.")
    ] = None,
    covers: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--covers", metavar="FROM TO", help="It is all of this: what it lacks isn't there."
        ),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option("--timezone", metavar="ZONE", help="Of times without one: Europe/London."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="FIELD=NAME", help="Which column is what: ts=Stamp."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the file, tell what it holds, write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import bars from a file, by the checks that a provider's answers go through.

    Where the file doesn't name its symbol and timeframe, --symbol and --timeframe do; where it
    does, they choose of it. Times need a time zone, by themselves or by --timezone.
    """
    from backfill.cli.file_flags import file_job

    job = file_job(
        file,
        symbol=symbol,
        timeframe=timeframe,
        source=source,
        adjustment=adjustment,
        covers=covers,
        zone=zone,
        column=column,
    )
    settings = read_settings()
    from backfill.present import importing as present

    if dry_run:
        from backfill.run import importing

        plan = asyncio.run(importing.plan_import(settings, job))
        print_result(plan.as_dict(), as_json=as_json, text=lambda: present.plan(plan))
        return
    from backfill.cli import foreground
    from backfill.cli.edge import end
    from backfill.present import show

    summary = foreground.import_file(settings, job)
    print_result(summary.as_dict(), as_json=as_json, text=lambda: show.summary(summary))
    end(summary.exit_code, summary.error, shown=not as_json)
