"""The URL of a database, as people paste it, and what it means: where to go, as whom, and where in.

libpq is the measure: what psql reads in a URL is read alike. Beyond it, spellings of other clients
that matter are understood (`?schema=`, `?currentSchema=`, `ssl=1`), and what is likely a character
of a password that should have been encoded is refused, where psql would go to another host.
"""

import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import field
from typing import Any, Final, NoReturn
from urllib.parse import quote, unquote, urlencode

from backfill.core.dataclass import dataclass
from backfill.errors import UsageError

# Where systems keep the file; a Python that was built elsewhere (uv's, python.org's) may not know.
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat, Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS, BSD
)
_SCHEMES: Final = ("postgresql", "postgres")
_ENCODE: Final = (
    "DATABASE_URL can't be read: percent-encode # / ? @ % : [ ] in its user and password "
    "(# as %23, / as %2F, @ as %40), and see that its port is a number"
)
# What asyncpg (0.32) reads in the query of a URL by itself.
_PASSED: Final = frozenset(
    {
        "passfile", "service", "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl",
        "sslpassword", "sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version",
        "krbsrvname", "gsslib",
    }
)  # fmt: skip
_TARGETS: Final = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_WORDS: Final = {
    **dict.fromkeys(("true", "1", "on", "yes", "no-verify"), "require"),
    **dict.fromkeys(("false", "0", "off", "no"), "disable"),
}
_DEFAULT_PORT: Final = 5432
_LAST_PORT: Final = 65_535

# https://www.postgresql.org/docs/current/libpq-connect.html: options are split at white space, a
# backslash takes the next character as it is.
_OPTION: Final = re.compile(r"(?:\\.|[^\s\\])+")
_SETTING: Final = re.compile(r"(?:-c\s*|--)([\w.-]+)=(.*)", re.DOTALL)
_NAME: Final = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s",\']+))\s*(?:,(?=.)|$)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is, who asks, and in which schema.

    What is None or empty, the environment (``PGHOST``, ``PGPASSWORD`` …) and the library's defaults
    say. ``ports`` has one for each host, or one for all. ``passed`` are the parameters that asyncpg
    reads by itself, ``dropped`` the names of those that mean nothing here. ``search_path`` names
    schemas: the one that is to hold our tables, then others to look in.
    """

    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    target: str | None = None
    passed: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    search_path: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by which asyncpg connects to it."""
        return {
            "dsn": f"postgresql://?{urlencode(self.passed, quote_via=quote)}",
            "host": list(self.hosts) or None,
            "port": list(self.ports) or None,
            "user": self.user,
            "password": self.password,
            "database": self.database,
            "target_session_attrs": self.target,
        }


def read_url(url: str) -> Address:
    """Return what the URL of a database means.

    Parameters in its query go before its front part, the last one of a name before the others.

    Raises
    ------
    UsageError
        If it is no Postgres URL, can't be read, or says what can't be done. The message holds
        nothing of a password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        raise UsageError("DATABASE_URL must begin with postgresql://")
    front, _, query = rest.partition("?")
    front, _, path = front.partition("/")
    login, _, place = front.rpartition("@")
    if "#" in rest or "@" in login or "@" in path or "/" in path:
        raise UsageError(_ENCODE)
    given = _parameters(query)
    if not place and not _last(given, "host"):
        given = [("host" if name == "hostaddr" else name, value) for name, value in given]
    if "@" not in front and any("@" in value for name, value in _unknown(given)):
        raise UsageError(_ENCODE)  # a ? of a password ended the front part before its @
    user, _, password = login.partition(":")
    hosts, ports = _places(place)
    hosts, ports = _places_asked(given, hosts, ports)
    return Address(
        hosts=hosts,
        ports=ports,
        user=_last(given, "user") or _decoded(user) or None,
        password=_last(given, "password") or _decoded(password) or None,
        database=_last(given, "dbname", "database") or _decoded(path) or None,
        target=_target(_last(given, "target_session_attrs"), hosts),
        passed=_passed(given),
        search_path=_search_path(given),
        dropped=tuple(dict.fromkeys(_shown(name) for name, _ in _unknown(given))),
    )


def _parameters(query: str) -> list[tuple[str, str]]:
    """Return the names and values of a query; a plus sign is one, as libpq has it."""
    pairs = []
    for part in query.split("&") if query else ():
        name, separator, value = part.partition("=")
        if not separator or not name:
            raise UsageError(_ENCODE)
        pairs.append((_decoded(name), _decoded(value)))
    return pairs


def _decoded(text: str) -> str:
    """Undo percent-encoding; a percent sign that encodes nothing is likely meant as one."""
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", text):
        raise UsageError(_ENCODE)
    return unquote(text)


def _last(given: Sequence[tuple[str, str]], *names: str) -> str | None:
    return next((value for name, value in reversed(given) if name in names), None)


def _places(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the hosts and the ports of a URL's front part, such as ``a:5433,[::1]``."""
    hosts, ports = [], []
    for part in text.split(",") if text else ():
        found = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]*))(?::(.*))?", part)
        if found is None:
            raise UsageError(_ENCODE)
        hosts.append(_decoded(found[1] or found[2]))
        ports.append(found[3] or "")
    if ports == [""]:
        return tuple(hosts), ()  # the environment may name one port, and no list of them
    return tuple(hosts), tuple(map(_port, ports))


def _places_asked(
    given: Sequence[tuple[str, str]], hosts: tuple[str, ...], ports: tuple[int, ...]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the hosts and ports, those of the query before those of the front part."""
    if asked := _last(given, "host"):
        hosts = tuple(asked.split(","))
    if asked_ports := _last(given, "port"):
        ports = tuple(_port(one) for one in asked_ports.split(","))
    if len(ports) > 1 and len(ports) != len(hosts):
        raise UsageError(f"DATABASE_URL names {len(hosts)} host(s) and {len(ports)} ports")
    if len(hosts) > 1 and not all(hosts):
        raise UsageError(f"DATABASE_URL names {len(hosts)} hosts, and one of them has no name")
    return tuple(filter(None, hosts)), ports


def _port(text: str) -> int:
    if not text:
        return _DEFAULT_PORT
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _LAST_PORT:
        raise UsageError(_ENCODE)
    return int(text)


def _target(asked: str | None, hosts: Sequence[str]) -> str | None:
    """Return which of several servers will do: unless asked otherwise, one that can be written."""
    if asked is not None and asked not in _TARGETS:
        raise UsageError(
            f"DATABASE_URL can't be used: target_session_attrs must be one of {', '.join(_TARGETS)}"
        )
    return asked or ("read-write" if len(hosts) > 1 else None)


def _passed(given: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return what is left to asyncpg, the last of each name; how TLS is asked for, in one word."""
    passed = {name: value for name, value in given if name in _PASSED}
    for name, value in given:
        if name == "ssl":
            passed["sslmode"] = _SSL_WORDS.get(value.lower(), value.lower())
        elif name == "sslmode":
            passed["sslmode"] = value
    if passed.get("sslmode") == "":
        del passed["sslmode"]
    if passed.get("sslmode", "prefer") not in _SSL_MODES:
        raise UsageError(
            f"DATABASE_URL can't be used: sslmode must be one of {', '.join(_SSL_MODES)}"
        )
    if passed.get("sslrootcert") == "system":
        passed["sslrootcert"] = _authorities_of_the_system(passed)
    return tuple(passed.items())


def _authorities_of_the_system(passed: dict[str, str]) -> str:
    """Return the file of authorities that this machine trusts, by libpq's word for it."""
    if passed.setdefault("sslmode", "verify-full") != "verify-full":
        raise UsageError("DATABASE_URL can't be used: sslrootcert=system takes sslmode=verify-full")
    files = filter(os.path.exists, _BUNDLES)
    file = ssl.get_default_verify_paths().cafile or next(files, None)
    if file is None:
        raise UsageError(
            "DATABASE_URL can't be used: sslrootcert=system, and Python finds no certificates of "
            "this system; name their file instead"
        )
    return file


def _search_path(given: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the schemas that a URL names, in whichever of the clients' ways; they must agree."""
    named: list[tuple[str, ...]] = []
    for name, value in given:
        if name == "schema" and value:
            named.append((value,))
        elif name in {"currentSchema", "search_path"} and value:
            named.append(_names(value))
        elif name == "options":
            named += [_names(path) for setting, path in _options(value) if setting == "search_path"]
    if len(set(named)) > 1:
        raise UsageError("DATABASE_URL can't be used: it names its schema more than once")
    return named[0] if named else ()


def _options(text: str) -> list[tuple[str, str]]:
    """Return the settings in ``options``; others of its words are for the server's developers."""
    # Some clients' own way to write a URL makes plus signs of the spaces.
    words = [re.sub(r"\\(.)", r"\1", word) for word in _OPTION.findall(text.replace("+", " "))]
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "-c":
            joined[-1] += word
        else:
            joined.append(word)
    found = [_SETTING.fullmatch(word) for word in joined]
    settings = [(one[1].replace("-", "_").lower(), one[2]) for one in found if one]
    if "search_path" in text.replace("-", "_").lower() and not any(
        name == "search_path" for name, _ in settings
    ):
        _unreadable_path()
    return settings


def _names(path: str) -> tuple[str, ...]:
    """Return the names of a search path: in lower case unless they are quoted."""
    names, at = [], 0
    while at < len(path):
        found = _NAME.match(path, at)
        if found is None:
            _unreadable_path()
        names.append(found[1].replace('""', '"') if found[1] else found[2].lower())
        at = found.end()
    if not names:
        _unreadable_path()
    return tuple(names)


def _unreadable_path() -> NoReturn:
    raise UsageError(
        "DATABASE_URL can't be used: its search_path can't be read; ?schema=<name> names a schema"
    )


def _unknown(given: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the parameters that mean nothing here, and ``options`` that hold more than a path."""
    known = _PASSED | {
        "host", "port", "user", "password", "dbname", "database", "target_session_attrs", "ssl",
        "schema", "currentSchema", "search_path",
    }  # fmt: skip
    return [
        (name, value)
        for name, value in given
        if name not in known
        and not (name == "options" and [one for one, _ in _options(value)] == ["search_path"])
    ]


def _shown(name: str) -> str:
    """Return a parameter's name, unless it may be a piece of a password."""
    return name if name.isidentifier() else "…"
