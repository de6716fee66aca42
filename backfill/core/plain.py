"""Text that others wrote, made harmless for each place where it goes. Nothing else does that.

A provider's words, tickers and addresses, a server's errors, what stands in the environment, in
flags, and in a table that somebody wrote to by hand may hold any characters. Which of them do harm
depends on who reads:

==============  ============================================  =======================
for             what they would obey, or refuse               made harmless by
==============  ============================================  =======================
a terminal      control characters, escapes, bidi overrides   `printable`, `one_line`
GitHub's runner ``::error::`` and ``##[error]`` in a stream   `lines`, `annotation`
a shell         whatever is no part of a word                 `argument`
JSON            lone surrogates, NaN                          `json_text`
Postgres        NUL, lone surrogates                          `storable`
Markdown        markup, HTML, links, mentions, emoji, cells   `markdown`
Prometheus      quotes, backslashes, ends of lines            `label`
a chat          mentions of people, links, tags               `chat`
a browser       markup, control characters, bidi overrides    `printable`, templates
==============  ============================================  =======================

Pages of HTML are written by templates that escape what they are given: `backfill.report.page` has
every text that goes into one pass `printable` first.
"""

import json
import math
import re
import shlex
from typing import Any, Final

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_OLD_ORDER: Final = "##["
_ORDER: Final = re.compile(r"^(\s*):(?=:)", re.MULTILINE)
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
# What json.dumps writes of surrogates: pairs are characters, and a backslash may be escaped itself.
_LONE: Final = re.compile(
    r"(\\\\|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2})|\\ud[89a-f][0-9a-f]{2}"
)
# A colon or the point of www. would make a link.
_MARKUP: Final = re.compile(r"[^\w\s,;()/'.+=-]|_|(?<=www)\.")
# What GitHub looks for once entities are characters again, in the text of the page: addresses,
# mentions, issues, formulas and, between two colons, emoji. An element of its own parts them.
_AFTERWARDS: Final = re.compile(r"[@#$]|:(?=[\w+-]+:)")
# What looks like them, to people alone.
_UNCALLED: Final = str.maketrans(
    {
        "@": "\N{FULLWIDTH COMMERCIAL AT}",
        "<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}",
        ">": "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}",
    }
)


def one_line(text: str) -> str:
    """Return a text on one line, without control characters and without an order to a runner."""
    return lines(" ".join(printable(text).split()))


def printable(text: str, kept: str = "") -> str:
    """Return a text with a space for each character that can't be printed, but for some."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in kept else " " for sign in text)


def lines(text: str) -> str:
    """Return a text of several lines, none of which is an order to a runner.

    GitHub's runner obeys ``::error::`` at the start of any line of either stream, and the older
    ``##[error]`` anywhere in one.
    """
    return _ORDER.sub(r"\1: ", text.replace(_OLD_ORDER, "# #["))


def argument(text: str) -> str:
    """Return a text as one word of a command that somebody may copy into a shell.

    >>> argument("BRK.B"), argument("A; ls")
    ('BRK.B', "'A; ls'")
    """
    return shlex.quote(one_line(text))


def annotation(level: str, title: str, message: str) -> str:
    """Return the order to a runner to show a message, which can end neither line nor property."""
    name = _escaped(one_line(title)).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={name}::{_escaped(one_line(message))}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def json_text(value: Any) -> str:
    r"""Return a value as one line of JSON in ASCII that every reader takes, and no runner obeys.

    Lone surrogates become the replacement character; a number that is none, or infinite, its name.

    >>> print(json_text({"a": "\ud800", "b": float("nan")}))
    {"a": "\ufffd", "b": "nan"}
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        text = json.dumps(_spelled(value), allow_nan=False)
    if r"\ud" in text:
        text = _LONE.sub(lambda found: found[1] or r"\ufffd", text)
    return text.replace(_OLD_ORDER, r"#\u0023[")


def _spelled(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {name: _spelled(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_spelled(inner) for inner in value]
    return value


def storable(text: str) -> str:
    """Return a text that Postgres can hold: no NUL, and nothing that isn't Unicode."""
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def markdown(text: str) -> str:
    """Return a text in which, on GitHub's pages, every character means only itself.

    On one line. As entities alone some would still become links: GitHub looks for addresses and
    mentions when entities are characters again.

    >>> markdown("[x] <b> me@mail.example")
    '&#91;x&#93; &#60;b&#62; me<span>&#64;</span>mail.example'
    """
    line = one_line(text)
    apart = {found.start() for found in _AFTERWARDS.finditer(line)}

    def entity(found: re.Match[str]) -> str:
        made = f"&#{ord(found[0])};"
        return f"<span>{made}</span>" if found.start() in apart else made

    return _MARKUP.sub(entity, line)


def chat(text: str) -> str:
    """Return a text on one line that calls nobody and links to nothing, where it is a message.

    >>> chat("see http://evil.example")
    'see http: //evil.example'
    """
    return one_line(text).translate(_UNCALLED).replace("://", ": //").replace("www.", "www .")


def label(text: str) -> str:
    r"""Return a text as the value of a Prometheus label.

    What can't be printed is spelled, so that two names which differ in that stay two.

    >>> print(label('a"b\x1b'))
    a\"b\\u001b
    """
    spelled = "".join(
        sign if sign.isprintable() or sign == "\n" else f"\\u{ord(sign):04x}" for sign in text
    )
    escaped = spelled.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return escaped.replace(_OLD_ORDER, "# #[")
