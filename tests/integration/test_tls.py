"""Connections that are encrypted, to a server that is who it says, or refused in one line (R26)."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytest

from backfill.store.pool import Database
from tests import hosts
from tests.conftest import KEY, Cli

pytestmark = pytest.mark.direct

_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
_ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@dataclass(frozen=True)
class Guarded:
    """A server with a certificate for 127.0.0.1, and files to trust it by, or not."""

    url: str
    authority: Path
    another: Path

    def asking(self, **parameters: object) -> str:
        """The server's URL with the parameters of TLS, in place of those it has."""
        given = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"{self.url.partition('?')[0]}?{given}"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    """A server that speaks TLS, with a certificate of an authority of its own."""
    if hosts.POSTGRES not in os.environ:
        hosts.lacking(f"the embedded Postgres speaks no TLS, and {hosts.POSTGRES} names no other")
    if shutil.which("openssl") is None:
        hosts.lacking("openssl, which makes certificates, is not installed")
    folder = Path(mkdtemp(prefix="backfill-tls-"))
    try:
        folder.chmod(0o755)
        for name in ("authority", "another"):
            _openssl(folder, f"req -x509 {_KEY} -days 2 -subj /CN={name} -keyout {name}.key", name)
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n", encoding="utf-8")
        _openssl(folder, f"req {_KEY} -subj /CN=server -keyout server.key", "request")
        signed = "-CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names"
        _openssl(folder, f"x509 -req -in request.pem {signed}", "server")
        files = [f"ssl_cert_file={folder}/server.pem", f"ssl_key_file={folder}/server.key"]
        with hosts.own_server("ssl=on", *files, owns=[folder / "server.key"]) as url:
            yield Guarded(url, folder / "authority.pem", folder / "another.pem")
    finally:
        shutil.rmtree(folder)


def _openssl(folder: Path, arguments: str, name: str) -> None:
    command = ["openssl", *arguments.split(), "-out", f"{name}.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _refused(url: str, code: int, words: str, **environment: str) -> None:
    """Assert that the command ends with a code and one line that holds some words."""
    ended = Cli({"DATABASE_URL": url, "MASSIVE_API_KEY": KEY} | environment)("status")
    assert ended.code == code, ended.err
    assert len(ended.err.splitlines()) == 1, ended.err
    assert words in ended.err
    assert ended.out == ""


async def _is_encrypted(url: str) -> bool:
    async with Database.connect(url) as database:
        return bool((await database.fetch_row(_ENCRYPTED))["ssl"])


async def test_a_server_that_offers_encryption_is_taken_at_its_word(guarded: Guarded) -> None:
    assert await _is_encrypted(guarded.asking(target_session_attrs="any"))
    assert await _is_encrypted(guarded.asking(sslmode="require"))
    assert not await _is_encrypted(guarded.asking(sslmode="disable"))


async def test_a_server_whose_certificate_is_the_authoritys_is_who_it_says(
    guarded: Guarded,
) -> None:
    url = guarded.asking(sslmode="verify-full", sslrootcert=guarded.authority)
    assert await _is_encrypted(url)


async def test_the_authorities_of_the_system_are_those_that_python_is_told_of(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = guarded.asking(sslrootcert="system")
    monkeypatch.setenv("SSL_CERT_FILE", str(guarded.authority))
    assert await _is_encrypted(url)
    _refused(url, 3, "unable to get local issuer certificate", SSL_CERT_FILE=str(guarded.another))


async def test_an_authority_that_a_workflow_wrote_to_a_file_is_the_only_one_that_is_trusted(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = guarded.asking(target_session_attrs="any")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(guarded.authority))
    assert await _is_encrypted(url)
    _refused(url, 3, "local issuer", PGSSLROOTCERT=str(guarded.another))


def test_a_certificate_of_another_authority_is_refused_in_one_line(guarded: Guarded) -> None:
    url = guarded.asking(sslmode="verify-full", sslrootcert=guarded.another)
    _refused(url, 3, "unable to get local issuer certificate")


def test_a_certificate_of_another_host_is_refused_in_one_line(guarded: Guarded) -> None:
    url = guarded.asking(sslmode="verify-full", sslrootcert=guarded.authority)
    _refused(url.replace("127.0.0.1", "localhost"), 3, "Hostname mismatch")


def test_a_file_of_authorities_that_is_not_there_is_a_usage_error(guarded: Guarded) -> None:
    missing = guarded.authority.with_name("missing.pem")
    _refused(guarded.asking(sslmode="verify-full", sslrootcert=missing), 2, "missing.pem")


def test_without_any_authority_nobody_can_be_verified(guarded: Guarded, tmp_path: Path) -> None:
    _refused(guarded.asking(sslmode="verify-full"), 2, "root.crt", HOME=str(tmp_path))


def test_a_file_of_authorities_that_is_none_is_a_usage_error(guarded: Guarded) -> None:
    names = guarded.authority.with_name("names")
    _refused(guarded.asking(sslmode="verify-full", sslrootcert=names), 2, "DATABASE_URL")


def test_a_server_without_tls_is_refused_in_one_line(guarded: Guarded, server: str) -> None:
    _refused(server.replace("sslmode=prefer", "sslmode=require"), 3, "rejected SSL upgrade")
