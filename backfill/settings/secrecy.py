"""What of a text that is secret must not be shown even by itself."""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote

_SECRET_LENGTH: Final = 16
_BETWEEN: Final = re.compile(r"[\s,]+(?=[a-z0-9]{1,32}://)", re.IGNORECASE)


def addresses(text: str) -> list[str]:
    """Return the URLs that a text names, with white space or commas between, as apprise parts them.

    >>> addresses("json://a/b,c  mailto://d:e@f")
    ['json://a/b,c', 'mailto://d:e@f']
    """
    return [part for one in _BETWEEN.split(text) if (part := one.strip(" \t\r\n,"))]


def parts_of_secret(text: str) -> list[str]:
    """Return a secret and, where it is URLs, the parts of them that are secret by themselves."""
    if "://" not in text:
        return [text] if text else []
    if text.startswith("postgres"):
        return [text, *passwords_in(text)]
    found = [text]
    for url in addresses(text):
        found += [url, *passwords_in(url), *_long_parts(url)]
    return found


def _long_parts(url: str) -> list[str]:
    """Return what of a URL is long enough to be the secret in it.

    Of its host, too, but on the web: elsewhere a token may stand there.
    """
    scheme, _, rest = url.partition("://")
    path, _, query = rest.partition("?")
    host, *parts = path.split("/")
    if scheme.lower() not in {"http", "https"}:
        parts += re.split("[:@]", host)
    parts += [value for _, value in parse_qsl(query)]
    return [part for part in parts if len(part) >= _SECRET_LENGTH]


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
