"""Whom a server answers: by the name it was asked under, the page that asks, and what it shows.

A page of a foreign site can have its own name lead to this machine (DNS rebinding), so a request
under a name that isn't the server's is refused, on loopback too. An address in digits can't be had
that way.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from backfill.errors import UsageError

_LOCAL: Final = "localhost"
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+)(?::\d{1,5})?")
_LASTS_S: Final = 30 * 24 * 3600
"""How long a browser that has shown the token needn't show it again: 30 days."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What a server asks of whoever asks it.

    ``names`` are those that it goes by beside addresses in digits; ``beyond`` tells whether it
    listens on more than loopback. Without a ``token`` none needs to be shown.
    """

    names: frozenset[str] = frozenset()
    beyond: bool = False
    token: str | None = field(default=None, repr=False)
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, host: str, token: str | None, names: frozenset[str], origins: frozenset[str]
    ) -> "Guard":
        """Return the guard of a server that listens on a host, by name or in digits.

        Raises
        ------
        UsageError
            If it would be reached from elsewhere and asks for no token.
        """
        address = _address(host)
        beyond = host.lower() != _LOCAL and (address is None or not address.is_loopback)
        if beyond and token is None:
            raise UsageError(
                f"--host {host} is reached from elsewhere: set BACKFILL_SERVE_TOKEN to a long "
                "random text (openssl rand -hex 32)"
            )
        own = {_LOCAL} if address is not None else {_LOCAL, host.lower()}
        return cls(names | own, beyond, token, origins)

    def knows_host(self, authority: str) -> bool:
        """Whether a ``Host`` names this server; its port may be another one's, as of a tunnel."""
        parts = _AUTHORITY.fullmatch(authority)
        if parts is None:
            return False
        host = parts[1].lower()
        if (address := _address(host.strip("[]"))) is not None:
            return self.beyond or address.is_loopback
        return host in self.names

    def knows_origin(self, origin: str, authority: str) -> bool:
        """Whether a page of an ``Origin`` may ask: it is this server's own, or named."""
        return origin in self.origins or origin in {f"http://{authority}", f"https://{authority}"}

    def takes(self, token: str) -> bool:
        """Whether a token is the right one; how long that takes tells nothing of it."""
        return self.token is None or hmac.compare_digest(_digest(token), _digest(self.token))

    def cookie(self, now_s: int) -> tuple[str, int]:
        """Return what a browser shows in place of the token from now on, and for how many seconds.

        It is made of the token and doesn't give it away; with another token it is void.
        """
        until = now_s + _LASTS_S
        return f"{until}.{self._sealed(str(until))}", _LASTS_S

    def takes_cookie(self, cookie: str, now_s: int) -> bool:
        """Whether a browser's cookie was given by a server with this token, and holds still."""
        until, _, seal = cookie.partition(".")
        right = hmac.compare_digest(_digest(seal), _digest(self._sealed(until)))
        return right and until.isdecimal() and now_s < int(until)

    def _sealed(self, until: str) -> str:
        key = _digest(self.token or "")
        return hmac.new(key, _octets(f"backfill serve until {until}"), hashlib.sha256).hexdigest()


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _digest(text: str) -> bytes:
    return hashlib.sha256(_octets(text)).digest()


def _octets(text: str) -> bytes:
    """Return a text as it came, whether or not it was UTF-8."""
    return text.encode(errors="surrogateescape")
