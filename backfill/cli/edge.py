"""What the commands share at their edges: the environment on the way in, the result on the way out.

Modules are imported by the functions that use them: ``backfill --help`` needs none.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from backfill.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def read_settings(provider: str | None = None) -> "Settings":
    """Read the environment and set logging up with the secrets that it holds."""
    from backfill import log
    from backfill.settings import Settings

    settings = Settings.load(provider_name=provider)
    log.configure(settings.log_format, settings.secrets())
    return settings


def print_result(values: dict[str, Any], *, as_json: bool, text: Callable[[], None]) -> None:
    """Print a result: its values as one line of JSON, or as people read it."""
    from backfill.core.plain import json_line

    if as_json:
        typer.echo(json_line(json.dumps(values)))
    else:
        text()
