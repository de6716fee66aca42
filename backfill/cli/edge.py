"""What the commands share at their edges: the environment on the way in, the result on the way out.

Modules are imported by the functions that use them: ``backfill --help`` needs none.
"""

import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

if TYPE_CHECKING:
    from backfill.settings import Settings

_UNHEARD: Final = "the provider gave no answer at all; is it reachable?"

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Tickers = Annotated[
    list[str], typer.Argument(metavar="SYMBOL...", help="Such as AAPL, BRK.B, X:BTCUSD.")
]
Named = Annotated[
    list[str] | None,
    typer.Argument(metavar="SYMBOL", help="Such as AAPL, BRK.B, X:BTCUSD."),
]
Timeframes = Annotated[
    list[str] | None,
    typer.Option(
        "--timeframe", "-t", metavar="T", help="m1 m5 m15 m30 h1 h4 d1 w1 mn1; repeatable."
    ),
]
AllTimeframes = Annotated[bool, typer.Option("--all-timeframes", help="All nine.")]
Symbols = Annotated[
    list[str] | None, typer.Option("--symbol", "-s", metavar="S", help="Repeatable.")
]
SymbolList = Annotated[
    str | None, typer.Option("--symbols", metavar="A,B,C", help="Several at once.")
]
Everything = Annotated[bool, typer.Option("--all", help="The watchlist's unpaused entries.")]
AsWatched = Annotated[
    bool, typer.Option("--as-watched", help="With --all -t: only where the watchlist has them.")
]
Incremental = Annotated[
    bool, typer.Option("--incremental", help="What is new, and what was left unfinished.")
]
Reload = Annotated[
    bool, typer.Option("--reload", help="Fetch the range again, whatever is covered.")
]
OfProvider = Annotated[
    str | None, typer.Option("--provider", metavar="P", help="Before BACKFILL_PROVIDER.")
]
JudgedAsOf = Annotated[
    str | None, typer.Option("--as-of", metavar="T", help="Judge as of this instant.")
]
First = Annotated[
    str | None,
    typer.Option("--from", metavar="D", help="First session, an instant, or a length back: 1y."),
]
Last = Annotated[
    str | None,
    typer.Option("--to", metavar="D", help="Last session, an instant, or a length back: 1d."),
]


def read_settings(provider: str | None = None) -> "Settings":
    """Read the environment and set logging up with the secrets that it holds."""
    from backfill import log
    from backfill.settings import Settings

    settings = Settings.load(provider_name=provider)
    log.configure(settings.log_format, settings.secrets())
    return settings


def fit_to_leave(message: str) -> str:
    """Return a message on one line, without secrets, also where the settings can't be read."""
    from backfill.log import told

    _see_log()
    return told(message)


def complain(message: str, exit_code: int) -> str:
    """Say on stderr in one line why a command ended, without secrets; return what was said.

    It is a line of JSON for who asked for JSON: by ``BACKFILL_LOG=json``, or by ``--json`` where
    events are JSON anyway. Then nothing else is on stderr.
    """
    told = fit_to_leave(message)
    if _wants_json():
        import structlog

        structlog.get_logger().error("command.ended", message=told, exit_code=exit_code)
    else:
        say(f"backfill: {told}", to_stderr=True)
    return told


def one_terminal() -> bool:
    """Whether who reads stdout reads stderr, too."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def _wants_json() -> bool:
    from backfill import log

    asked = os.environ.get("BACKFILL_LOG") == "json" or "--json" in sys.argv[1:]
    return asked and log.is_json()


def log_failure(error: BaseException) -> None:
    """Log what nobody foresaw, with its traceback, without secrets."""
    import structlog

    _see_log()
    structlog.get_logger().error("command.failed", exc_info=error)


def _see_log() -> None:
    """See that the log is set up, if need be with what of the environment is secret."""
    import structlog

    from backfill import log

    if not structlog.is_configured():
        from backfill.settings import secrets_in

        form = os.environ.get("BACKFILL_LOG")
        log.configure(form if form in log.FORMATS else None, secrets_in(os.environ))


def print_result(values: dict[str, Any], *, as_json: bool, text: Callable[[], None]) -> None:
    """Print a result: its values as one line of JSON, or as people read it."""
    if as_json:
        from backfill.core.plain import json_text

        say(json_text(values))
    else:
        text()


def print_json(pieces: Iterable[str]) -> None:
    """Print the pieces of one line of JSON, which nobody obeys, as they come."""
    for piece in pieces:
        sys.stdout.write(piece)
    sys.stdout.write("\n")
    sys.stdout.flush()


def say(text: str, *, to_stderr: bool = False) -> None:
    """Print plain lines; with what `present` draws and the log, all that a command prints."""
    from backfill.core.plain import lines, printable

    stream = sys.stderr if to_stderr else sys.stdout
    stream.write(lines(printable(text, kept="\n")) + "\n")
    stream.flush()


def end(code: int, error: str | None, *, shown: bool = False) -> NoReturn:
    """Exit; a cause that all series share is told in one line.

    Not again where the same person has just read it: ``shown`` on stdout, on one terminal.
    """
    if code == 3:
        from backfill.notify import github

        is_read = error and shown and one_terminal()
        tell = fit_to_leave if is_read else partial(complain, exit_code=code)
        github.annotate("error", tell(error or _UNHEARD))
    raise typer.Exit(code)
