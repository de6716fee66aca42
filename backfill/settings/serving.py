"""Who may ask a server: the names it goes by, and the origins whose pages may read from it."""

import re
from typing import Final

_NAME: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
_ORIGIN: Final = re.compile(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?")
_PORTS: Final = {"http": "80", "https": "443"}


def hosts(text: str) -> frozenset[str]:
    """Read names of hosts with commas between, without ports; in lower case.

    >>> sorted(hosts("Bars.example.com, bars"))
    ['bars', 'bars.example.com']
    """
    names = _listed(text)
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a host, such as bars.example.com")
    return frozenset(names)


def origins(text: str) -> frozenset[str]:
    """Read origins with commas between, as a browser names them: without the usual port.

    >>> sorted(origins("https://app.example.com:443, http://localhost:3000"))
    ['http://localhost:3000', 'https://app.example.com']
    """
    found = set()
    for origin in _listed(text):
        if not (parts := _ORIGIN.fullmatch(origin)):
            raise ValueError(f"{origin!r} is no origin, such as https://app.example.com")
        scheme, host, port = parts.groups()
        usual = port in {None, _PORTS[scheme]}
        found.add(f"{scheme}://{host}" if usual else f"{scheme}://{host}:{port}")
    return frozenset(found)


def _listed(text: str) -> list[str]:
    return [part for one in text.lower().split(",") if (part := one.strip())]
