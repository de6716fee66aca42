"""The man page, made from the commands and settings themselves: `make docs` writes it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from inspect import cleandoc
from typing import Any, Final

from typer.main import get_command

from backfill import __doc__ as purpose
from backfill import __version__
from backfill.cli.main import app
from backfill.providers import account_holders
from backfill.settings import Settings
from backfill.settings.account import file_keys_of, keys_of, variables_of
from backfill.settings.environment import Variable, variable_of

_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_EXIT_CODES: Final = {
    0: "Everything asked for is in place, or held by another live run.",
    1: "A series failed for a reason of its own, or a bar was quarantined in this run.",
    2: "Usage or configuration error; nothing was called.",
    3: "A cause all series share: database, refused key, provider down, a clock that is ahead.",
    4: "A check found stale or missing data, or bars that another provider tells otherwise.",
    5: "Stopped at --deadline or --max-calls, or by a quota that is used up; the next run goes on.",
    130: "Interrupted (Ctrl-C, SIGTERM); the next run goes on.",
}


def man_page() -> str:
    """The page as roff, for section 1."""
    root = get_command(app)
    lines = [
        '.\\" Written by make docs, from the commands and settings themselves.',
        f'.TH BACKFILL 1 "" "backfill {__version__}" "User Commands"',
        ".SH NAME",
        f"backfill \\- {_text(str(purpose))}",
        ".SH SYNOPSIS",
        ".B backfill",
        "COMMAND [OPTION]... [ARGUMENT]...",
        ".SH DESCRIPTION",
        _text(root.help or ""),
        "Results go to stdout, logs to stderr.",
        *_options(root.params),
    ]
    for path, command in _commands(root, ("backfill",)):
        lines += _described(path, command)
    lines.append(".SH EXIT STATUS")
    for code, meaning in _EXIT_CODES.items():
        lines += [".TP", f".B {code}", _text(meaning)]
    lines.append(".SH ENVIRONMENT")
    for one in _variables():
        lines += [".TP", f".BR {_text(' '.join(one.names))}", _text(_LINK.sub(r"\1", one.meaning))]
    lines += [".SH SEE ALSO", ".BR psql (1)"]
    return "\n".join(lines) + "\n"


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command with the words that lead to it, groups left out."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


def _described(path: tuple[str, ...], command: Any) -> Iterator[str]:
    named = [one.metavar or one.name.upper() for one in command.params if not _flags(one)]
    needed = [one.required for one in command.params if not _flags(one)]
    shown = (name if must else f"[{name}]" for name, must in zip(named, needed, strict=True))
    yield f".SH {_text(' '.join(path[1:]).upper())}"
    yield f".B {_text(' '.join(path))}"
    yield _text(" ".join(["[OPTION]...", *shown]))
    for paragraph in cleandoc(command.help or "").split("\n\n"):
        yield ".PP"
        yield _text(paragraph)
    yield from _options(command.params)


def _options(params: Iterable[Any]) -> Iterator[str]:
    for one in params:
        flags = ", ".join(sorted(_flags(one), key=len)) or one.metavar or one.name.upper()
        value = f" {one.metavar}" if _flags(one) and one.metavar else ""
        yield ".TP"
        yield f".B {_text(flags + value)}"
        yield _text(one.help or "")


def _flags(param: Any) -> list[str]:
    return [name for name in param.opts if name.startswith("-")]


def _variables() -> Iterator[Variable]:
    """Yield every variable of the environment."""
    common = (variable_of(one) for one in fields(Settings))
    yield from (one for one in common if one is not None)
    for provider in account_holders():
        yield from [*keys_of(provider), *file_keys_of(provider), *variables_of(provider).values()]


def _text(text: str) -> str:
    """Return a text on one line, none of which roff takes for an order."""
    plain = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    line = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in plain)
    return f"\\&{line}" if line.startswith((".", "'")) else line or "\\&"
