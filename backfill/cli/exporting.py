"""The command that exports stored bars to files."""

import asyncio
from typing import Annotated

import typer

from backfill.cli.edge import (
    AsJson,
    First,
    Last,
    Named,
    Symbols,
    Timeframes,
    print_result,
    read_settings,
)


def export(
    named: Named = None,
    *,
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="A folder, or s3://bucket/prefix.")
    ],
    form: Annotated[str, typer.Option("--format", metavar="F", help="parquet or csv.")] = "parquet",
    symbol: Symbols = None,
    timeframe: Timeframes = None,
    first: First = None,
    last: Last = None,
    adjusted: Annotated[bool, typer.Option("--adjusted", help="Adjusted for splits.")] = False,
    as_json: AsJson = False,
) -> None:
    """Export what is covered to files: one for each timeframe and month, by UTC.

    They lie as DuckDB, polars and others read them: timeframe=d1/month=2024-01/bars.parquet. The
    next export to the same place writes only those again in which something has changed; what is
    no longer stored, or not selected any more, disappears there.
    """
    from backfill.cli import arguments
    from backfill.core.export import FORMATS

    shape = arguments.one_format(form, FORMATS, as_json=False)
    scope = arguments.scope(arguments.symbols_named(named, symbol), timeframe, first, last)
    settings = read_settings()
    from backfill import api
    from backfill.present import exporting as present

    done = asyncio.run(api.export(settings, api.ExportJob(scope, out, shape, adjusted)))
    print_result(done.as_dict(), as_json=as_json, text=lambda: present.exported(done))
