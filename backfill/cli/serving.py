"""The command that serves what is kept, until it is interrupted."""

from typing import Annotated

import typer

from backfill.cli import edge


def serve(
    *,
    host: Annotated[
        str,
        typer.Option(metavar="H", help="Beyond loopback BACKFILL_SERVE_TOKEN must be set."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="P", min=0, max=65535, help="0 takes any free one.")
    ] = 8321,
) -> None:
    """Serve pages to look at, and JSON for other programs, until interrupted.

    It only reads: a login that may do no more, or a replica, will do. Its URL goes to stdout.
    """
    settings = edge.read_settings()
    from backfill.cli import foreground

    foreground.serve(settings, host, port, edge.say)
    raise typer.Exit(130)
