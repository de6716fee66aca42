"""Text that others wrote, made safe to print: it may neither break a line nor give an order.

GitHub's runner obeys ``::error::`` at the start of any line of either stream, and the older
``##[error]`` anywhere in one.
"""

import re

_OLD_ORDER = "##["
_ORDER = re.compile(r"^(\s*):(?=:)", re.MULTILINE)


def one_line(text: str) -> str:
    """Return a text on one line, without control characters and without an order to a runner."""
    return lines(" ".join(printable(text).split()))


def printable(text: str, kept: str = "") -> str:
    """Return a text with a space for each character that can't be printed, but for some."""
    return "".join(sign if sign.isprintable() or sign in kept else " " for sign in text)


def lines(text: str) -> str:
    """Return a text of several lines, none of which is an order to a runner."""
    return _ORDER.sub(r"\1: ", text.replace(_OLD_ORDER, "# #["))


def json_line(text: str) -> str:
    """Return a JSON text that means the same, and is no order to a runner."""
    return text.replace(_OLD_ORDER, r"#\u0023[")
