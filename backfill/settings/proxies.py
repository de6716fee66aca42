"""Through which proxy an address is reached, where whoever runs the command asks for one.

aiohttp can read the environment by itself, but reads ``~/.netrc`` with it, and would send what
stands there to the provider.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from backfill.core.dataclass import dataclass
from backfill.settings.address import is_web_url

ENVIRONMENT: Final = "environment"
_SCHEMES: Final = ("https", "http")


@dataclass(frozen=True, slots=True)
class Proxies:
    """A proxy for each scheme of the addresses that are asked, as a URL that may hold a login.

    ``exempt`` is where none is used, as ``NO_PROXY`` has it: hosts and domains with commas between.
    """

    urls: Mapping[str, str] = field(repr=False)
    exempt: str = ""

    @classmethod
    def read(cls, said: str) -> Self:
        """Read a proxy's URL, for all addresses, or ``environment``.

        Raises
        ------
        ValueError
            If it is neither, or the environment has what is none; the message holds no value.
        """
        if said != ENVIRONMENT:
            if not _is_proxy(said):
                raise ValueError(f"should be '{ENVIRONMENT}' or a URL like http://proxy:3128")
            return cls(dict.fromkeys(_SCHEMES, said))
        from urllib.request import getproxies_environment

        found = {name: text.strip() for name, text in getproxies_environment().items()}
        urls = {
            scheme: url if "://" in url else f"http://{url}"
            for scheme in _SCHEMES
            if (url := found.get(scheme))
        }
        for scheme, url in urls.items():
            if not _is_proxy(url):
                raise ValueError(f"{scheme.upper()}_PROXY should be a URL like http://proxy:3128")
        return cls(urls, found.get("no", ""))

    def of(self, url: str) -> str | None:
        """Return the URL of the proxy through which an address is asked; None for none."""
        from urllib import request

        parts = urlsplit(url)
        # typeshed lacks it.
        exempt = request.proxy_bypass_environment  # type: ignore[attr-defined]
        if exempt(parts.netloc.rpartition("@")[2], {"no": self.exempt}):
            return None
        return self.urls.get(parts.scheme)

    def secrets(self) -> Iterator[str]:
        """Yield what of the proxies' URLs must never be shown, also as a header carries it."""
        for url in self.urls.values():
            login = urlsplit(url).netloc.rpartition("@")[0]
            if login:
                name, _, password = map(unquote, login.partition(":"))
                header = b64encode(f"{name}:{password}".encode())
                yield from (url, login, login.partition(":")[2], password, header.decode())


def _is_proxy(url: str) -> bool:
    if not is_web_url(url):
        return False
    parts = urlsplit(url)
    return not (parts.path.rstrip("/") or parts.query or parts.fragment)
