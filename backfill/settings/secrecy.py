"""What of a text that is secret must not be shown even by itself."""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote

_SECRET_LENGTH: Final = 16


def parts_of_secret(text: str) -> list[str]:
    """Return a secret and, where it is a URL, the parts of it that are secret by themselves."""
    if "://" not in text:
        return [text] if text else []
    parts = passwords_in(text) if text.startswith("postgres") else _long_parts(text)
    return [text, *parts]


def _long_parts(url: str) -> list[str]:
    """Return what of a URL's path and query is long enough to be the secret in it."""
    path, _, query = url.partition("://")[2].partition("?")
    values = [value for _, value in parse_qsl(query)]
    return [part for part in [*path.split("/")[1:], *values] if len(part) >= _SECRET_LENGTH]


def passwords_in(url: str) -> list[str]:
    """Return the passwords in a URL, as they are written and as they are meant.

    One whose characters should have been encoded may end at any of these: each is one.
    """
    login = re.search(r"://[^:/?#@]*:(.*)", url)
    rest = login[1] if login else ""
    written = [rest[: at.start()] for at in re.finditer("@", rest)]
    queried = [part.partition("=") for part in url.partition("?")[2].split("&")]
    written += [value for name, _, value in queried if name.endswith("password")]
    return [*written, *map(unquote, written)]
