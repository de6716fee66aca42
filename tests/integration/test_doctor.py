"""`backfill doctor`: everything is looked at, whatever fails, and nothing changes."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backfill import api
from backfill.audit.doctor import Finding, State, exit_code, look
from backfill.settings.examine import examine
from backfill.simulator import Simulator
from tests.conftest import KEY, Cli, blocking, query
from tests.integration.store_kit import as_user

pytestmark = pytest.mark.one_database

SECRET = "s3cret-of-the-database"


@pytest.fixture
def looked(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict[str, list[Finding]]]]:
    """Look, in this process, with the variables that are given; the findings by their check."""
    for name in list(os.environ):
        if name.startswith(("BACKFILL_", "MASSIVE_", "APCA_", "ALPACA_")) or name == "CI":
            monkeypatch.delenv(name)

    def once(**variables: str) -> tuple[int, dict[str, list[Finding]]]:
        for name, value in {"DATABASE_URL": database_url, **variables}.items():
            monkeypatch.setenv(name, value)
        findings = blocking(look(examine()))
        found: dict[str, list[Finding]] = {}
        for one in findings:
            found.setdefault(one.check, []).append(one)
        return exit_code(findings), found

    return once


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """A provider that is asked by no run."""
    from backfill.simulator import run_in_thread

    with run_in_thread(Simulator(key=KEY)) as running:
        yield running


def states(found: dict[str, list[Finding]]) -> set[State]:
    """The states of all findings."""
    return {one.state for of_one in found.values() for one in of_one}


def test_where_a_run_could_start_every_look_says_so_and_no_key_is_sent(
    simulator: Simulator, database_url: str, cli: Callable[..., Cli]
) -> None:
    before = query(database_url, "SELECT count(*) FROM market_sessions")
    simulator.calls.clear()
    ended = cli(simulator)("doctor", "--json")
    assert ended.code == 0, ended.out
    found = ended.json["findings"]
    assert {one["state"] for one in found} == {"ok"}
    assert {one["check"] for one in found} == {
        *("settings", "key", "database", "role", "row security", "pooler", "time zone", "room"),
        *("schema", "clock", "provider", "calendar"),
    }
    assert KEY not in ended.out + ended.err
    assert [(one.method, one.path, one.status) for one in simulator.calls] == [("HEAD", "/", 401)]
    assert query(database_url, "SELECT count(*) FROM market_sessions") == before


def test_a_missing_key_is_a_warning(
    simulator: Simulator, looked: Callable[..., tuple[int, dict[str, list[Finding]]]]
) -> None:
    code, found = looked(BACKFILL_PROVIDER_URL=simulator.url)
    assert code == 0
    assert [(one.state, "MASSIVE_API_KEY" in one.said) for one in found["key"]] == [
        (State.warning, True)
    ]
    assert states(found) == {State.ok, State.warning}


def test_all_that_is_given_wrongly_is_told_at_once_and_no_secret(
    simulator: Simulator, cli: Callable[..., Cli]
) -> None:
    ended = cli(
        simulator,
        DATABASE_URL=f"mysql://me:{SECRET}@127.0.0.1/bars",
        MASSIVE_API_KEY=f"{SECRET} with spaces",
        BACKFILL_QUOTA="many",
        BACKFILL_SINCE="always",
        BACKFILL_NIGHT="perhaps",
        BINANCE_PLAN="gold",
        BINANCE_QUOTA="none",
        BACKFILL_SINSE="2y",
    )("doctor", "--json")
    assert ended.code == 2
    found = ended.json["findings"]
    wrong = " ".join(one["said"] for one in found if one["state"] == "wrong")
    for name in (
        *("BACKFILL_QUOTA", "BACKFILL_SINCE", "BACKFILL_NIGHT", "BINANCE_PLAN", "BINANCE_QUOTA"),
        *("DATABASE_URL", "MASSIVE_API_KEY"),
    ):
        assert name in wrong
    assert [(one["said"], one["mend"]) for one in found if one["state"] == "warning"] == [
        ("BACKFILL_SINSE means nothing", "BACKFILL_SINCE is one")
    ]
    assert "provider" in {one["check"] for one in found if one["state"] == "ok"}
    assert SECRET not in ended.out + ended.err


def test_a_provider_that_there_isnt_leaves_the_rest_to_be_looked_at(
    looked: Callable[..., tuple[int, dict[str, list[Finding]]]],
) -> None:
    code, found = looked(
        BACKFILL_PROVIDER="massif", BACKFILL_PLAN="starter", BACKFILL_PROXY="http://127.0.0.1:1"
    )
    assert code == 2
    assert [one.said for one in found["settings"] if "massif" in one.said]
    assert len(found["settings"]) == 1
    assert [one.state for one in found["schema"]] == [State.ok]
    assert [one.state for one in found["provider"]] == [State.failed]  # behind the proxy


def test_what_cant_be_reached_is_told_and_the_rest_is_looked_at(
    database_url: str, looked: Callable[..., tuple[int, dict[str, list[Finding]]]]
) -> None:
    code, found = looked(
        DATABASE_URL=database_url.replace("?", "_that_there_isnt?"),
        BACKFILL_PROVIDER_URL="http://127.0.0.1:1",
    )
    assert code == 3
    assert [one.state for one in found["database"]] == [State.failed]
    assert [one.state for one in found["provider"]] == [State.failed]
    assert all(one.mend for one in (*found["database"], *found["provider"]))
    assert [one.state for one in found["calendar"]] == [State.ok]


def test_a_clock_that_is_ahead_of_the_providers_is_told_as_a_run_would(
    simulate: Callable[..., Simulator],
    looked: Callable[..., tuple[int, dict[str, list[Finding]]]],
) -> None:
    behind = simulate(now=datetime.now(UTC) - timedelta(minutes=5), tells_time=True)
    code, found = looked(BACKFILL_PROVIDER_URL=behind.url)
    assert code == 3
    assert [one.state for one in found["clock"]] == [State.ok, State.failed]
    behind.set_now(datetime.now(UTC) + timedelta(minutes=5))
    code, found = looked()
    assert code == 0
    assert [one.state for one in found["clock"]] == [State.ok, State.warning]


@pytest.mark.parametrize(("key", "code", "said"), [(KEY, 0, "takes it"), ("other", 3, "refused")])
def test_keys_are_judged_where_that_takes_nothing_of_the_quota(
    key: str,
    code: int,
    said: str,
    simulate: Callable[..., Simulator],
    looked: Callable[..., tuple[int, dict[str, list[Finding]]]],
) -> None:
    alpaca = simulate(provider="alpaca")
    ended, found = looked(
        BACKFILL_PROVIDER="alpaca",
        ALPACA_URL=alpaca.url,
        APCA_API_BASE_URL=alpaca.url,
        APCA_API_KEY_ID=key,
        APCA_API_SECRET_KEY=key,
    )
    assert ended == code
    assert [one for one in found["key"] if said in one.said], found["key"]
    assert {one.kind for one in alpaca.calls if one.method == "GET"} == {"lookup"}


def test_the_providers_of_the_watchlist_are_looked_at_and_no_other(
    simulator: Simulator,
    database_url: str,
    looked: Callable[..., tuple[int, dict[str, list[Finding]]]],
) -> None:
    query(
        database_url,
        "WITH new AS (INSERT INTO symbols (ticker, asset_type, calendar) "
        "VALUES ('X:BTCUSD', 'crypto', '24/7') RETURNING id) "
        "INSERT INTO watchlist (symbol_id, timeframes, provider) "
        "SELECT id, '{d1}', 'kraken' FROM new",
    )
    code, found = looked(KRAKEN_URL=simulator.url, BACKFILL_PROVIDER_URL="http://127.0.0.1:1")
    assert code == 0
    assert [one.said.partition(" ")[0] for one in found["provider"]] == ["kraken"]
    assert [one.said.partition(" ")[0] for one in found["calendar"]] == ["24/7"]


def test_schema_login_and_what_the_database_takes_are_judged_and_mended(
    simulator: Simulator,
    empty_url: str,
    looked: Callable[..., tuple[int, dict[str, list[Finding]]]],
) -> None:
    there = {"DATABASE_URL": empty_url, "BACKFILL_PROVIDER_URL": simulator.url}
    code, found = looked(**there)
    assert (code, found["schema"][0].said) == (0, "none yet: the first command brings it")
    blocking(api.migrate(examine().settings))

    role = "doctors_patient"
    query(empty_url, f"CREATE ROLE {role} LOGIN")
    try:
        query(empty_url, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        login = there | {"DATABASE_URL": as_user(empty_url, role)}
        code, found = looked(**login)
        assert code == 3
        assert len(found["schema"]) == 1  # its migrations are hidden, too
        assert [one.state for one in found["row security"]] == [State.failed]
        query(empty_url, f"CREATE POLICY {role} ON backfill_migrations TO {role} USING (true)")
        code, found = looked(**login)
        assert code == 3
        assert [one.state for one in (*found["role"], *found["row security"])] == [State.failed] * 2
        assert found["role"][0].mend is not None
        query(empty_url, found["role"][0].mend.partition(": ")[2])
        code, found = looked(**login)
        assert (code, found["role"][0].state) == (0, State.ok)
    finally:
        query(empty_url, f"DROP OWNED BY {role}")
        query(empty_url, f"DROP ROLE {role}")

    query(empty_url, "DELETE FROM backfill_migrations WHERE version LIKE '20261129%'")
    (name,) = query(empty_url, "SELECT current_database()")[0]
    query(empty_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    code, found = looked(**there)
    assert code == 3
    assert [one.mend for one in found["schema"]] == ["backfill migrate"]
    assert [one.state for one in found["database"]] == [State.ok, State.failed]


def test_no_embedded_postgres_is_made_for_a_look(
    simulator: Simulator, tmp_path: Path, cli: Callable[..., Cli]
) -> None:
    run = cli(simulator, BACKFILL_DATA_DIR=str(tmp_path / "data"))
    del run.environment["DATABASE_URL"]
    ended = run("doctor")
    assert ended.code == 0, ended.out
    assert f"the first command makes an embedded Postgres in {tmp_path / 'data'}" in ended.out
    assert not (tmp_path / "data").exists()
    with pytest.raises(json.JSONDecodeError):
        _ = ended.json
