"""Connections: any URL a host hands out, faults made typed, nothing left set (R21, R26)."""

import asyncio
import gc
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import asyncpg
import pytest
import tenacity
from structlog.testing import capture_logs

from backfill.core.coverage import Spans
from backfill.core.empty import FOREVER_MS
from backfill.errors import DatabaseError, LoginRefused, UsageError
from backfill.store import again
from backfill.store.bars import write_chunks
from backfill.store.counts import Counts
from backfill.store.migrate import migrate
from backfill.store.pool import CONNECTIONS, Connection, Database
from tests.conftest import HBA_FILE, _leave, blocking
from tests.faults.proxy import Proxy
from tests.integration.store_kit import (
    CALENDAR,
    NOW,
    as_user,
    bar,
    bars_of,
    chunk,
    claimed,
    connection_to,
    database_name,
    known,
    minutes,
    value,
    write,
)

PASSWORD = "pa ss:w@rd/%#?[secret]"

_STATE = """
    SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),
        current_setting('jit'), current_setting('search_path'), current_setting('TimeZone'),
        (SELECT count(*) FROM pg_prepared_statements),
        (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
        (SELECT count(*) FROM pg_cursors)
"""


@pytest.fixture
def guarded_url(server: str, database_url: str) -> Iterator[str]:
    """The URL of the database for a user who needs a password."""
    user = f"guarded_{uuid4().hex[:8]}"

    async def execute(statement: str) -> Any:
        async with connection_to(server) as connection:
            return await connection.fetchval(statement)

    rules = Path(blocking(execute(HBA_FILE)))
    before = rules.read_text(encoding="utf-8")
    blocking(execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'"))
    needed = f"local all {user} scram-sha-256\nhost all {user} all scram-sha-256\n"
    rules.write_text(needed + before, encoding="utf-8")
    blocking(execute("SELECT pg_reload_conf()"))
    yield as_user(database_url, user, PASSWORD)
    rules.write_text(before, encoding="utf-8")
    blocking(execute("SELECT pg_reload_conf()"))
    blocking(execute(f"DROP ROLE {user}"))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is done again be done so without a wait between."""
    monkeypatch.setattr(again, "_WAIT", tenacity.wait_none())


async def _one(url: str) -> Any:
    async with Database.connect(url) as database:
        return (await database.fetch_row("SELECT 1"))[0]


async def test_parameters_that_are_meant_for_other_clients_are_dropped_with_a_warning(
    database_url: str,
) -> None:
    url = f"{database_url}&pgbouncer=true&connection_limit=1&options=-c%20jit%3Doff"
    with capture_logs() as logs:
        assert await _one(url) == 1
    assert logs == [
        {
            "event": "database.url_parameters_dropped",
            "log_level": "warning",
            "names": ["pgbouncer", "connection_limit", "options"],
        }
    ]


@pytest.mark.usefixtures("at_once")
async def test_parameters_that_postgres_knows_are_kept(database_url: str) -> None:
    with capture_logs() as logs:
        assert await _one(f"{database_url}&sslmode=disable&target_session_attrs=any") == 1
        with pytest.raises(DatabaseError, match="no server of DATABASE_URL is what"):
            await _one(f"{database_url}&target_session_attrs=standby")
    assert {entry["event"] for entry in logs} == {"database.retry"}


async def test_a_url_by_its_short_scheme_is_as_good(database_url: str) -> None:
    assert await _one(database_url.replace("postgresql://", "postgres://")) == 1


async def test_a_url_that_cannot_be_read_is_a_usage_error_that_shows_no_password() -> None:
    with capture_logs() as logs, pytest.raises(UsageError, match="DATABASE_URL") as caught:
        await _one("postgresql://user:secret/part@host/db")
    assert not re.search("secret|part", _all_that_is_said(caught.value) + str(logs))


async def test_what_the_query_of_a_url_says_goes_before_its_front_part(
    database_url: str, guarded_url: str
) -> None:
    name, other = database_name(database_url), database_url.replace("/test_", "/nowhere_")
    async with Database.connect(f"{other}&dbname={name}") as database:
        assert (await database.fetch_row("SELECT current_database()"))[0] == name
    if "?host=" in guarded_url:
        there = guarded_url.replace("@/", "@no-such-host.invalid:5432/")
        assert await _one(there) == 1


@pytest.mark.direct
async def test_the_right_password_opens_the_door(guarded_url: str) -> None:
    assert await _one(guarded_url) == 1


@pytest.mark.direct
async def test_a_wrong_password_is_one_line_that_does_not_show_it(guarded_url: str) -> None:
    wrong = guarded_url.replace(quote(PASSWORD, safe=""), "hunter2")
    with pytest.raises(LoginRefused, match="can't be reached: password auth") as caught:
        await _one(wrong)
    assert "hunter2" not in _all_that_is_said(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "where", ["127.0.0.1:1", "no-such-host.invalid:5432", "/db?host=/no/such/folder"]
)
async def test_a_server_that_is_not_there_is_one_line_without_the_password(where: str) -> None:
    host, _, rest = where.partition("/")
    url = f"postgresql://me:hunter2@{host}/{rest or 'db'}"
    with pytest.raises(DatabaseError, match=r"the database can't be reached: .") as caught:
        await _one(url)
    assert "hunter2" not in _all_that_is_said(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_database_that_is_not_there_is_said_by_its_name(server: str) -> None:
    with pytest.raises(DatabaseError, match='database "nowhere" does not exist'):
        await _one(server.replace("/postgres?", "/nowhere?"))


def _all_that_is_said(error: BaseException) -> str:
    """What a traceback of an error shows: its message and those of its causes."""
    said = repr(error)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said + (_all_that_is_said(cause) if cause else "")


async def test_work_that_loses_its_connection_half_way_is_done_again_and_once_only(
    database: Database, server: str
) -> None:
    run_id, (series,) = await claimed(database)
    bars = minutes(100)
    backends: list[int] = []

    async def page(connection: Any) -> list[Counts]:
        written = await write_chunks(
            connection, run_id, [chunk(series, bars)], CALENDAR, NOW, FOREVER_MS
        )
        backends.append(await connection.fetchval("SELECT pg_backend_pid()"))
        if len(backends) < 3:
            await _terminate(server, backends[-1])
        return [counts for _, counts in written]

    with capture_logs() as logs:
        assert await database.run(page) == [Counts(inserted=100)]
    assert len(set(backends)) == 3
    assert [entry["event"] for entry in logs] == ["database.retry"] * 2
    assert (await bars_of(database, series)).equals(bars)


async def test_a_statement_that_the_server_ends_in_the_middle_is_sent_again(
    database: Database, server: str
) -> None:
    backends: list[int] = []

    async def work(connection: Any) -> None:
        backends.append(await connection.fetchval("SELECT pg_backend_pid()"))
        if len(backends) == 1:
            ending = asyncio.create_task(_terminate(server, backends[0]))
            try:
                await connection.execute("SELECT pg_sleep(30)")
            finally:
                await ending

    await database.run(work)
    assert len(set(backends)) == 2


_ENDED = b"SFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"


@pytest.mark.parametrize("copies", [False, True], ids=["asked", "copied"])
def test_a_session_that_ends_between_two_statements_is_told_once_and_in_words(
    copies: bool, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0

    async def rows() -> AsyncIterator[bytes]:
        yield b"x\n"

    async def work(connection: Any) -> int:
        nonlocal tries
        tries += 1
        await connection.execute("CREATE TEMP TABLE t (x text) ON COMMIT DROP")
        if tries == 1:
            # What a server sends of itself arrives between two turns of the loop.
            message = b"E" + (len(_ENDED) + 4).to_bytes(4, "big") + _ENDED
            connection._session._con._protocol.data_received(message)
        if copies:
            await connection.copy_later("COPY t FROM STDIN", rows())
        (found,) = await connection.ask("SELECT x FROM t")
        return len(found)

    async def run() -> int:
        async with Database.connect(database_url) as database:
            return await database.run(work)

    with capture_logs() as logs:
        assert blocking(run()) == copies
    gc.collect()
    assert tries == 2
    assert [(entry["event"], entry["message"]) for entry in logs] == [
        ("database.retry", "the server ended the session between two statements")
    ]
    assert [record.getMessage() for record in caplog.records] == []


async def test_connections_that_were_cut_while_nobody_looked_cost_no_work(
    database: Database, server: str
) -> None:
    async def hold(connection: Any) -> int:
        await connection.execute("SELECT pg_sleep(0.05)")
        return int(await connection.fetchval("SELECT pg_backend_pid()"))

    before = set(await asyncio.gather(*(database.run(hold) for _ in range(CONNECTIONS))))
    for backend in before:
        await _terminate(server, backend)
    after = await asyncio.gather(*(database.run(hold) for _ in range(CONNECTIONS)))
    assert before.isdisjoint(after)


@pytest.fixture
def limited_url(server: str, database_url: str) -> Iterator[str]:
    """The URL of the database for a login that may have two sessions."""
    user = f"limited_{uuid4().hex[:8]}"

    async def execute(statement: str) -> None:
        async with connection_to(server) as connection:
            await connection.execute(statement)

    blocking(execute(f"CREATE ROLE {user} LOGIN CONNECTION LIMIT 2"))
    yield as_user(database_url, user)
    blocking(execute(f"DROP ROLE {user}"))


@pytest.mark.attack(11)
@pytest.mark.direct
async def test_a_login_that_may_have_few_sessions_does_all_its_work_with_these(
    limited_url: str,
) -> None:
    async def hold(connection: Connection) -> int:
        await connection.execute("SELECT pg_sleep(0.1)")
        return int(await connection.fetchval("SELECT pg_backend_pid()"))

    async with Database.connect(limited_url) as database:
        backends = await asyncio.gather(*(database.run(hold) for _ in range(20)))
    assert 1 <= len(set(backends)) <= 2


@pytest.mark.attack(11)
@pytest.mark.direct
async def test_the_first_connection_is_tried_again_like_any_other(limited_url: str) -> None:
    async with connection_to(limited_url), connection_to(limited_url) as second:
        connecting = asyncio.create_task(_one(limited_url))
        with capture_logs() as logs:
            while not logs:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert logs[0]["event"] == "database.retry"
        await second.close()
        assert await connecting == 1


async def _terminate(server: str, backend: int) -> None:
    async with connection_to(server) as connection:
        assert await connection.fetchval("SELECT pg_terminate_backend($1, 10000)", backend)


async def test_work_that_waited_too_long_for_a_lock_is_done_again(
    database: Database, database_url: str
) -> None:
    tries = 0

    async def work(connection: Any) -> int:
        nonlocal tries
        tries += 1
        async with connection_to(database_url) as holder:
            if tries < 3:
                await holder.execute("BEGIN; LOCK TABLE symbols")
            await connection.execute("SET LOCAL lock_timeout = '10ms'; LOCK TABLE symbols")
        return tries

    assert await database.run(work) == 3


async def test_a_fault_that_another_try_will_not_mend_is_reported_at_once(
    database: Database,
) -> None:
    tries = 0

    async def work(connection: Any) -> None:
        nonlocal tries
        tries += 1
        await connection.execute("SELECT * FROM no_such_table")

    with pytest.raises(DatabaseError, match='relation "no_such_table" does not exist'):
        await database.run(work)
    assert tries == 1


async def test_an_error_of_the_work_itself_passes_through_and_takes_the_work_back(
    database: Database,
) -> None:
    async def work(connection: Any) -> None:
        await connection.execute("INSERT INTO symbols (ticker, asset_type) VALUES ('A', 'stock')")
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        await database.run(work)
    assert await value(database, "SELECT count(*) FROM symbols") == 0


async def test_a_database_that_turned_read_only_is_reported_and_nothing_is_claimed(
    database: Database, server: str, database_url: str
) -> None:
    run_id, (series,) = await claimed(database)
    name = database_name(database_url)
    async with connection_to(server) as owner:
        await owner.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await _leave(server, name)  # a setting of the database is one of its next sessions
    async with Database.connect(database_url) as read_only:
        with pytest.raises(DatabaseError, match="read-only transaction"):
            await write(read_only, run_id, chunk(series, bar()))
    assert (await known(database, series)).coverage == Spans()
    assert await value(database, "SELECT count(*) FROM ohlc_bars") == 0


async def test_within_a_transaction_statements_and_locks_have_a_limit(database: Database) -> None:
    assert await value(database, "SELECT current_setting('statement_timeout')") == "55s"
    assert await value(database, "SELECT current_setting('lock_timeout')") == "20s"


async def test_a_transaction_is_what_we_say_whatever_the_defaults_are(
    database_url: str, server: str
) -> None:
    name = database_name(database_url)
    async with connection_to(server) as owner:
        version = owner.get_server_version().major
        short = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout") + (
            ("transaction_timeout",) if version >= 17 else ()
        )
        for setting, one in {
            **dict.fromkeys(short, "250ms"),
            "default_transaction_isolation": "serializable",
            "search_path": "nowhere",
            "array_nulls": "off",
        }.items():
            await owner.execute(f"ALTER DATABASE {name} SET {setting} = '{one}'")
    await _leave(server, name)

    async def slow(connection: Connection) -> Any:
        await connection.execute("SELECT pg_sleep(0.4)")
        await asyncio.sleep(0.4)
        return await connection.fetchrow(
            "SELECT current_setting('transaction_isolation'), current_setting('search_path'), "
            "$1::double precision[]",
            [0.5, None],
        )

    with capture_logs() as logs:
        async with Database.connect(f"{database_url}&schema=public") as database:
            assert tuple(await database.run(slow)) == (
                *("read committed", "public, pg_temp", [0.5, None]),
            )
    assert logs == []


async def test_a_schema_that_a_url_names_is_worked_in_or_refused(empty_url: str) -> None:
    with pytest.raises(UsageError, match=r'names the schema Market.*CREATE SCHEMA "Market"'):
        await _one(f"{empty_url}&schema=Market")
    async with connection_to(empty_url) as owner:
        await owner.execute('CREATE SCHEMA "Market"')
    async with Database.connect(f"{empty_url}&schema=Market") as database:
        await migrate(database)
        assert await value(database, "SELECT count(*) FROM ohlc_bars") == 0
        run_id, (series,) = await claimed(database)
        assert await write(database, run_id, chunk(series, minutes(600)))
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = $1"
    async with connection_to(empty_url) as owner:
        assert await owner.fetchval('SELECT count(*) FROM "Market".ohlc_bars') == 600
        assert await owner.fetchval(tables, "public") == 0


async def test_nothing_stays_set_on_a_connection_after_its_transaction(
    database: Database, database_url: str
) -> None:
    fresh = await asyncpg.connect(database_url, statement_cache_size=0)
    expected = await fresh.fetchrow(_STATE)
    await fresh.close()
    run_id, (series,) = await claimed(database)
    await write(database, run_id, chunk(series, minutes(10)))
    with pytest.raises(DatabaseError):
        await write(database, run_id, chunk(series, bar(low=20.0)))
    backend = await value(database, "SELECT pg_backend_pid()")
    async with database._pool.acquire() as idle:
        assert await idle.fetchval("SELECT pg_backend_pid()") == backend
        assert await idle.fetchrow(_STATE) == expected


async def test_no_statement_is_prepared_for_longer_than_its_transaction(
    database: Database, database_url: str
) -> None:
    async def prepared(connection: Any) -> int:
        for _ in range(3):
            await connection.fetch("SELECT count(*) FROM ohlc_bars WHERE symbol_id = $1", 1)
        return int(await connection.fetchval("SELECT count(*) FROM pg_prepared_statements"))

    assert await database.run(prepared) == 0


@pytest.mark.direct
async def test_an_empty_notice_is_heard_and_nobody_elses_probe_is(
    database: Database, database_url: str
) -> None:
    async with connection_to(database_url) as other, database.listening("bell") as heard:
        await other.execute("SELECT pg_notify('bell', 'somebody else asks whether it arrives')")
        await other.execute("SELECT pg_notify('doorbell', '')")
        async with database.listening("bell"):
            assert not heard.is_set()
        await other.execute("NOTIFY bell")
        async with asyncio.timeout(5):
            await heard.wait()


async def test_a_listener_whose_session_ends_is_never_rung_and_leaves_in_peace(
    database: Database, database_url: str
) -> None:
    async with connection_to(database_url) as other, database.listening("bell") as heard:
        await other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await other.execute("NOTIFY bell")
        assert await value(database, "SELECT 1") == 1
        assert not heard.is_set()


async def test_a_listener_leaves_nothing_behind(database: Database, database_url: str) -> None:
    async with database.listening("bell"):
        pass
    for _ in range(CONNECTIONS):
        assert await value(database, "SELECT count(*) FROM pg_listening_channels()") == 0


def test_work_that_was_given_up_while_the_server_is_silent_ends_with_the_database(
    server: str, database_url: str
) -> None:
    # What is still under way when asyncio.run ends, and fails then, goes to stderr as a traceback.
    told: list[str] = []

    async def give_up(proxy: Proxy) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: told.append(str(context)))
        stalled = asyncio.Event()

        async def rows() -> AsyncIterator[bytes]:
            yield b"x\n"
            proxy.stall()
            stalled.set()
            while True:
                yield b"x" * 60_000 + b"\n"

        async def copy(connection: Connection) -> None:
            connection.later("CREATE TEMP TABLE t (x text) ON COMMIT DROP")
            await connection.copy_later("COPY t FROM STDIN", rows())

        async with Database.connect(proxy.url(database_url)) as database:
            work = asyncio.ensure_future(database.run(copy))
            await stalled.wait()
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work

    with Proxy.before(server) as proxy:
        blocking(give_up(proxy))
        proxy.resume()
    assert told == []


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
async def test_statements_that_carry_their_values_are_of_the_schema_and_isolation_as_all_are(
    empty_url: str, server: str, isolation: str
) -> None:
    name = database_name(empty_url)
    async with connection_to(empty_url) as owner:
        await owner.execute("CREATE SCHEMA market; CREATE TABLE market.t (x text)")
        await owner.execute(
            f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'"
        )
    await _leave(server, name)
    shown = "current_setting('transaction_isolation')"
    async with Database.connect(f"{empty_url}&schema=market") as database:
        await database.execute_at_once(f"INSERT INTO t SELECT {shown}")
        assert await database.row_at_once(f"SELECT x, {shown} FROM {database.schema}.t") == (
            ["read committed"] * 2
        )
        with pytest.raises(DatabaseError, match="does not exist"):
            await database.execute_at_once("INSERT INTO no_such_table SELECT 1")
        with pytest.raises(DatabaseError, match="does not exist"):
            await database.row_at_once("SELECT * FROM no_such_table")
        assert await database.row_at_once(f"SELECT count(*) FROM {database.schema}.t") == ["1"]
    async with Database.connect(empty_url) as database:
        assert await database.row_at_once(f"SELECT {shown}") == ["read committed"]
