"""Wrong input ends in one clear line, the right exit code, and no call that need not be."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from backfill.simulator import Action, Fault, Simulator
from tests.conftest import HBA_FILE, NOW, Cli, Ended, query

AS_OF = ("--as-of", NOW.isoformat())
PASSWORD = "Hunter2-of-this-test"


def assert_refused(ended: Ended, code: int, *says: str, as_json: bool = False) -> None:
    """See that a command said in one line on stderr, apart from log lines, what is wrong.

    With ``as_json`` that is a log line, too: the last of them, and nothing else is there.
    """
    plain = [line for line in ended.err.splitlines() if not line.startswith("{")]
    if as_json:
        assert plain == []
        [end] = [one for one in ended.events if one["event"] == "command.ended"]
        assert (end, end["exit_code"]) == (ended.events[-1], code)
        plain = [f"backfill: {end['message']}"]
    assert ended.code == code, ended
    assert len(plain) == 1, ended.err
    assert plain[0].startswith("backfill: ")
    assert "Traceback" not in ended.out + ended.err
    assert PASSWORD not in ended.out + ended.err
    for words in says:
        assert words in plain[0]


USAGE = (
    ("run --symbol AAPL --fast", "--fast"),
    ("run --symbol AAPL --timeframe h2", "h2"),
    ("run --symbol AAPL --timeframe d1,1d", "1d"),
    ("run --symbol AAPL;DROP", "AAPL;DROP"),
    ("run --symbols AAPL,,MSFT", "''"),
    ("run --symbol NYSE:IBM", "NYSE:IBM"),
    ("run --symbol AAPL --from 2024-02-02 --to 2024-02-01", "--from"),
    ("run --symbol AAPL --from 2024-02-02T15:00Z --to 2024-02-02T14:00Z", "--from"),
    ("run --symbol AAPL --from 02/02/2024", "02/02/2024"),
    ("run --symbol AAPL --from 2024-02-02T14:30:00", "time zone"),
    ("run --symbol AAPL --all", "--all"),
    ("run --symbol AAPL --incremental --reload", "--reload"),
    ("run --symbol AAPL -t d1 --all-timeframes", "--all-timeframes"),
    ("run --symbol AAPL --max-calls few", "--max-calls"),
    ("run --symbol AAPL --provider acme", "acme"),
    ("run", "name what to run"),
    ("run --all", "watch add"),
    ("watch add AAPL --since soon", "soon"),
    ("status --as-of yesterday", "yesterday"),
    ("fetch", "fetch"),
)

SETTINGS = (
    ("BACKFILL_QUOTA", "many", "BACKFILL_QUOTA"),
    ("BACKFILL_QUOTA", "0/60s", "BACKFILL_QUOTA"),
    ("BACKFILL_PLAN", "platinum", "BACKFILL_PLAN"),
    ("BACKFILL_PROVIDER", "acme", "acme"),
    ("BACKFILL_PROVIDER_URL", "localhost", "BACKFILL_PROVIDER_URL"),
    ("BACKFILL_SINCE", "long ago", "BACKFILL_SINCE"),
    ("BACKFILL_LOG", "xml", "BACKFILL_LOG"),
    ("MASSIVE_API_KEY", "", "MASSIVE_API_KEY"),
    ("MASSIVE_API_KEY", "two words", "MASSIVE_API_KEY"),
    ("DATABASE_URL", "", "DATABASE_URL"),
    ("DATABASE_URL", "mysql://localhost/bars", "DATABASE_URL"),
    ("DATABASE_URL", f"postgresql://u:{PASSWORD}/1@localhost/bars", "DATABASE_URL"),
)


@pytest.mark.attack(10)
def test_a_usage_error_is_one_line_and_exit_2(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate()
    run = cli(simulator)

    for command, says in USAGE:
        assert_refused(run(*command.split()), 2, says)

    assert simulator.calls == []
    assert query(database_url, "SELECT count(*) FROM symbols")[0][0] == 0


@pytest.mark.attack(10)
def test_a_wrong_setting_is_one_line_that_names_the_variable_and_exit_2(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    simulator = simulate()
    run = cli(simulator)

    for name, value, says in SETTINGS:
        set_so = Cli(run.environment | {name: value})
        assert_refused(set_so("run", "--symbol", "AAPL"), 2, says)

    assert simulator.calls == []


@pytest.mark.parametrize("runner", ["CI", "GITHUB_ACTIONS"])
def test_no_database_on_a_runner_is_exit_2_since_its_disk_is_thrown_away(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], tmp_path: Path, runner: str
) -> None:
    simulator = simulate()
    here = cli(simulator).environment
    del here["DATABASE_URL"]

    ended = Cli(here | {"HOME": str(tmp_path), runner: "true"})("run", "--symbol", "AAPL")

    assert_refused(ended, 2, "DATABASE_URL", "BACKFILL_DATA_DIR")
    assert simulator.calls == []
    assert list(tmp_path.iterdir()) == []


def test_who_asks_for_json_gets_nothing_else_on_stderr(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    simulator = simulate()
    nowhere = f"postgresql://me:{PASSWORD}@127.0.0.1:1/bars"
    run = cli(simulator, DATABASE_URL=nowhere)

    assert_refused(run("run", "--symbol", "AAPL", "--json"), 3, "database", as_json=True)
    assert_refused(run("run", "--fast", BACKFILL_LOG="json"), 2, "--fast", as_json=True)
    assert_refused(run("run", "--fast", "--json", BACKFILL_LOG="console"), 2, "--fast")


def test_an_unreachable_database_is_exit_3(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    simulator = simulate()
    nowhere = f"postgresql://me:{PASSWORD}@127.0.0.1:1/bars"

    ended = cli(simulator, DATABASE_URL=nowhere)("run", "--symbol", "AAPL")

    assert_refused(ended, 3, "database")
    assert simulator.calls == []


def test_a_read_only_database_is_exit_3(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate()
    name = urlsplit(database_url).path.strip("/")
    query(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    assert_refused(cli(simulator)("run", "--symbol", "AAPL", *AS_OF), 3, "read-only")

    assert simulator.calls == []


@contextmanager
def asking_for_passwords(url: str, role: str) -> Iterator[None]:
    """Let the server, which trusts everybody, ask one role for its password."""
    settings = Path(query(url, HBA_FILE)[0][0])
    trusting = settings.read_text()
    query(url, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}-other'")
    try:
        settings.write_text(f"local all {role} scram-sha-256\n{trusting}")
        query(url, "SELECT pg_reload_conf()")
        yield
    finally:
        settings.write_text(trusting)
        query(url, "SELECT pg_reload_conf()")
        query(url, f"DROP ROLE {role}")


def test_a_wrong_password_is_exit_3_and_is_not_repeated(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate()
    with asking_for_passwords(database_url, "asked"):
        wrong = database_url.replace("//postgres:@", f"//asked:{PASSWORD}@")
        assert wrong != database_url

        ended = cli(simulator, DATABASE_URL=wrong)("run", "--symbol", "AAPL", *AS_OF)

    assert_refused(ended, 3, "password")
    assert simulator.calls == []


def test_a_refused_key_is_exit_3_after_one_call(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate()
    many = ",".join(f"SIM{number:03}" for number in range(12))

    ended = cli(simulator, MASSIVE_API_KEY="not-this-one")(
        "run", "--symbols", many, *AS_OF, "--json"
    )

    assert_refused(ended, 3, "key", "401", as_json=True)
    assert ended.json["status"] == "failed"
    assert ended.json["failures"][0]["outcome"] == "unauthorised"
    # Those that were under way with the first one may have left; no other did.
    assert 1 <= len(simulator.calls) <= 6
    [row] = query(database_url, "SELECT status, error FROM backfill_runs")
    assert row["status"] == "failed"
    assert "401" in row["error"]


def test_a_provider_that_gives_no_answer_is_exit_3(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    simulator = simulate()
    simulator.inject(Fault(action=Action.RESET))

    ended = cli(simulator)("run", "--symbol", "AAPL", *AS_OF, "--json")

    assert_refused(ended, 3, "provider", as_json=True)
    assert len(simulator.calls) == ended.json["calls"] > 1  # it was worth more than one try
