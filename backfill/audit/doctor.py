"""Whether a run could start from here, and what to mend: everything is looked at, whatever fails.

Nothing is changed: no schema is brought, no embedded Postgres made, no call of a quota used.
"""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backfill.errors import BackfillError, DatabaseError, NotSet, UsageError
from backfill.run.connect import database_url
from backfill.run.lookup import keys_judged
from backfill.settings import Account, Settings
from backfill.settings.examine import Examined
from backfill.store import server as asked
from backfill.store import universe
from backfill.store.embedded import is_made
from backfill.store.exchange import list_sessions
from backfill.store.migrate import lacking
from backfill.store.pool import Database

if TYPE_CHECKING:
    from backfill.fetch.glance import Glance

_DATABASE_S: Final = 40.0
_REACH: Final = "see that it runs there and lets this login in, and what DATABASE_URL says"
_OLDEST: Final = 140_000
_APART_S: Final = 60
"""How far two clocks may be apart: as far ahead as a run bears of a provider's."""
_ROOM_BYTES: Final = 1_000_000_000
_AHEAD: Final = timedelta(days=60)
_USUAL: Final = "XNYS"
_GEO_BLOCKED: Final = 451


class State(StrEnum):
    """What a look has found; `wrong` is given wrongly, `failed` can't be reached or used."""

    ok = "ok"
    warning = "warning"
    wrong = "wrong"
    failed = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at one thing has found, in a line; ``mend`` says what to do, where there is."""

    check: str
    state: State
    said: str
    mend: str | None = None

    @classmethod
    def of(cls, check: str, error: BackfillError, failed: str | None = None) -> "Finding":
        """Return what an error says of a thing; ``failed`` is what mends one that can't be used."""
        mend = error.advice if isinstance(error, NotSet) else error.mend
        if isinstance(error, UsageError):
            return cls(check, State.wrong, str(error.args[0]), mend)
        return cls(check, State.failed, str(error.args[0]), mend or failed)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 2 where something is given wrongly, 3 where something can't be used, 0 otherwise."""
    states = {one.state for one in findings}
    return 2 if State.wrong in states else 3 if State.failed in states else 0


async def look(examined: Examined) -> list[Finding]:
    """Look at all that a run needs, within a minute."""
    settings = examined.settings
    database = await _database(settings)
    accounts = _accounts(settings, database.providers)
    findings = _settings(examined) + [_keys(one) for one in accounts] + database.findings
    for of_one in await asyncio.gather(*map(_provider, accounts)):
        findings += of_one
    return [*findings, *(_calendar(name, database.today) for name in database.calendars)]


def _settings(examined: Examined) -> list[Finding]:
    findings = [Finding.of("settings", error) for error in examined.faults]
    for name, meant in examined.strange:
        instead = f"{meant} is one" if meant else "backfill has no variable of this name"
        findings.append(Finding("settings", State.warning, f"{name} means nothing", instead))
    if not examined.faults:
        names = ", ".join(dict.fromkeys(examined.said))
        findings.insert(0, Finding("settings", State.ok, f"set: {names}" if names else "none set"))
    return findings


def _accounts(settings: Settings, names: Iterable[str | None]) -> list[Account]:
    """Return the accounts with some providers, None standing for the default one; each once."""
    found = {one.name: one for one in map(settings.account_of, names)}
    return list(found.values())


def _keys(account: Account) -> Finding:
    name = account.name
    try:
        keys = account.api_keys()
    except NotSet as error:
        return Finding("key", State.warning, str(error.args[0]), error.advice)
    except UsageError as error:
        return Finding.of("key", error)
    return Finding("key", State.ok, f"{name}'s is set" if keys else f"{name} takes none")


# The database.


@dataclass(slots=True)
class _Seen:
    """What was found out of the database: whom it leads to, and by which calendars."""

    findings: list[Finding]
    providers: list[str | None]
    calendars: list[str]
    today: date


async def _database(settings: Settings) -> _Seen:
    seen = _Seen([], [None], [_USUAL], datetime.now(UTC).date())
    try:
        folder = None if settings.database() else settings.embedded_dir()
        if folder is not None and not is_made(folder):
            made = f"none yet: the first command makes an embedded Postgres in {folder}"
            seen.findings = [Finding("database", State.ok, made), _room_in(folder)]
            return seen
        async with asyncio.timeout(_DATABASE_S):
            with database_url(settings) as url:
                async with Database.connect(url) as database:
                    await _open_database(database, seen, folder)
    except TimeoutError:
        said = f"the database doesn't answer within {_DATABASE_S:.0f} s"
        seen.findings.append(Finding("database", State.failed, said, _REACH))
    except BackfillError as error:
        seen.findings.append(Finding.of("database", error, _REACH))
    return seen


async def _open_database(database: Database, seen: _Seen, folder: Path | None) -> None:
    began_s = time.time()
    server = await database.run(asked.server)
    took_s = time.time() - began_s
    seen.findings += [
        _version(server, folder),
        _pooler(server),
        Finding("time zone", State.ok, f"the server shows {server.time_zone}; bars are in UTC"),
        _clock("the database's", began_s + took_s - server.clock_s, took_s, State.warning),
        _room_in(folder) if folder is not None else _room(server),
    ]
    if server.is_read_only:
        full = "a hosted one is made so when its disk is full: see there, or name another server"
        said = "the database takes no writes: it is read-only"
        seen.findings.append(Finding("database", State.failed, said, full))
    schema = await _schema(database)
    seen.findings.append(schema)
    if not database.has_ledger:
        return
    access = _access(server.role, await database.run(asked.access))
    if schema.state is not State.ok:  # as where the ledger of migrations is hidden, too
        seen.findings += [one for one in access if one.state is not State.ok]
        return
    seen.findings += access
    seen.calendars = await database.run(asked.calendars) or [_USUAL]
    entries = await universe.watched(database)
    due = [one for one in entries if one.is_due]
    seen.providers = [one.provider for one in due] or [None]


def _version(server: asked.Server, folder: Path | None) -> Finding:
    where = f"embedded, in {folder}" if folder is not None else f"the database {server.database}"
    said = f"PostgreSQL {server.version}, {where}, as {server.role}"
    if server.version_number < _OLDEST:
        return Finding("database", State.failed, said, "PostgreSQL 14 or newer is needed")
    return Finding("database", State.ok, said)


def _pooler(server: asked.Server) -> Finding:
    if not server.is_pooled:
        return Finding("pooler", State.ok, "none is between")
    return Finding("pooler", State.ok, "one is between; transactions are all that is asked of it")


def _room(server: asked.Server) -> Finding:
    size = f"the database takes {server.bytes / 1e6:,.0f} MB"
    return Finding("room", State.ok, f"{size}; how much more its disk holds, no server tells")


def _room_in(folder: Path) -> Finding:
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    said = f"{free / 1e9:,.1f} GB are free in {folder}"
    if free < _ROOM_BYTES:
        return Finding("room", State.warning, said, "a bar takes 150 bytes: make room")
    return Finding("room", State.ok, said)


async def _schema(database: Database) -> Finding:
    try:
        missing = await lacking(database)
    except DatabaseError as error:
        return Finding.of("schema", error)
    if not database.has_ledger:
        return Finding("schema", State.ok, "none yet: the first command brings it")
    if missing:
        said = f"{len(missing)} migration(s) are not applied"
        return Finding("schema", State.failed, said, "backfill migrate")
    return Finding("schema", State.ok, "up to date")


def _access(role: str, found: asked.Access) -> list[Finding]:
    findings: list[Finding] = []

    def add(check: str, tables: tuple[str, ...], said: Callable[[str], str]) -> None:
        if tables:
            mend = f'as the owner: GRANT backfill_runner TO "{role}"'
            findings.append(Finding(check, State.failed, said(", ".join(tables)), mend))

    add("role", found.unreadable, lambda names: f"{role} may not read {names}")
    unwritable = tuple(one for one in found.unwritable if one not in found.unreadable)
    add("role", unwritable, lambda names: f"{role} may read, but not write {names}")
    add("row security", found.hidden, lambda names: f"hides {names} from {role}")
    if not (found.unreadable or unwritable):
        findings.append(Finding("role", State.ok, f"{role} may write all tables of a run"))
    if not found.hidden:
        findings.append(Finding("row security", State.ok, f"hides nothing from {role}"))
    return findings


# Beside the database.


async def _provider(account: Account) -> list[Finding]:
    """Look whether a provider answers; no key is sent but where judging it takes no quota."""
    from backfill.fetch.glance import glance

    name, mend = account.name, "see the network, BACKFILL_PROXY, and the provider's status"
    began_s = time.time()
    try:
        found = await glance(account.url, proxy=account.proxy)
    except BackfillError as error:
        return [Finding("provider", State.failed, f"{name} at {account.url}: {error}", mend)]
    if found.response.status == _GEO_BLOCKED:
        said = f"{name} refuses calls from where this machine is"
        return [Finding("provider", State.failed, said, "name another provider: --provider")]
    answers = f"{name} answers at {account.url} in {found.took_s:.1f} s"
    return [
        Finding("provider", State.ok, answers),
        *_provider_clock(name, began_s, found),
        *await _judged(account),
    ]


def _provider_clock(name: str, began_s: float, found: "Glance") -> list[Finding]:
    if found.date is None:
        return []
    ahead_s = began_s + found.took_s - found.date.timestamp()
    return [_clock(f"{name}'s", ahead_s, found.took_s, State.failed)]


async def _judged(account: Account) -> list[Finding]:
    """Have the keys judged, where that takes nothing of the quota of bars, and they are set."""
    name = account.name
    try:
        account.api_keys()
    except UsageError:
        return []
    try:
        judged = await keys_judged(account)
    except BackfillError as error:
        return [Finding.of("key", error)]
    return [Finding("key", State.ok, f"{name} takes it")] if judged else []


def _clock(whose: str, ahead_s: float, took_s: float, if_ahead: State) -> Finding:
    """Judge this machine's clock by another, read at most ``took_s`` before."""
    if -_APART_S <= ahead_s <= _APART_S + took_s:
        return Finding("clock", State.ok, f"this machine's agrees with {whose} within a minute")
    side = "ahead of" if ahead_s > 0 else "behind"
    said = f"this machine's is {abs(ahead_s):,.0f} s {side} {whose}"
    state = if_ahead if ahead_s > 0 else State.warning
    return Finding("clock", state, said, "set this machine's clock: timedatectl set-ntp true")


def _calendar(name: str, today: date) -> Finding:
    """Look how far ahead sessions are known: runs fill the table from what the library lists."""
    until = today + _AHEAD
    listed = list_sessions(name, today - timedelta(days=7), until)
    if listed.reach is not None and listed.reach[1] >= until and listed.problem is None:
        return Finding("calendar", State.ok, f"{name} is known to {until} at least")
    end = f"ends on {listed.reach[1]}" if listed.reach is not None else "isn't listed"
    said = f"{name} {end}: {listed.problem or 'the library reaches no further'}"
    return Finding("calendar", State.warning, said, "upgrade exchange-calendars")
