"""The environment: read once, stripped, checked, and its secrets never shown."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Final

import platformdirs
import pytest

from backfill.core.terms import Quota, Window
from backfill.errors import NotSet, UsageError
from backfill.providers import ALIASES, PROVIDERS, account_name, spoken_of
from backfill.settings import Settings, secrets_in
from backfill.settings.account import file_keys_of, keys_of, variables_of
from tests.providers.tiny import Tiny

VARIABLES: Final = (
    "DATABASE_URL",
    "BACKFILL_DATA_DIR",
    "BACKFILL_PROVIDER",
    "BACKFILL_PROVIDER_URL",
    "MASSIVE_API_KEY",
    "POLYGON_API_KEY",
    "BACKFILL_PLAN",
    "BACKFILL_QUOTA",
    "MASSIVE_URL",
    "MASSIVE_PLAN",
    "MASSIVE_QUOTA",
    "BACKFILL_SINCE",
    "BACKFILL_ADJUSTMENT",
    "BACKFILL_NIGHT",
    "BACKFILL_DERIVE",
    "BACKFILL_LOG",
    "BACKFILL_PING_URL",
    "CI",
    "GITHUB_ACTIONS",
)
URL: Final = "postgresql://user:pass-word@db.example:5432/bars"

Load = Callable[..., Settings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Read the settings of an environment that holds these variables and no others."""

    def read(provider_name: str | None = None, **environment: str) -> Settings:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            assert name in VARIABLES
            monkeypatch.setenv(name, value)
        return Settings.load(provider_name=provider_name)

    return read


def test_without_any_variable_the_defaults_hold(load: Load) -> None:
    settings = load()
    assert settings.provider.name == "massive"
    assert settings.account().url == "https://api.massive.com"
    assert settings.account().terms.name == "free"
    assert settings.account().quota == Quota((Window(5, 60.0),))
    assert settings.account().adjustment == "raw"
    assert settings.log_format is None
    assert settings.since_day(date(2026, 11, 24)) == date(2024, 11, 25)
    assert settings.database() is None
    assert settings.embedded_dir() == platformdirs.user_data_path("backfill", appauthor=False)
    assert settings.secrets() == []


@pytest.mark.parametrize("around", ["{}", " {} ", "{}\n", "\t{}\r\n"])
def test_every_variable_is_read_and_stripped(load: Load, around: str, tmp_path: Path) -> None:
    settings = load(
        DATABASE_URL=around.format(URL),
        BACKFILL_DATA_DIR=around.format(tmp_path),
        BACKFILL_PROVIDER=around.format("polygon"),
        BACKFILL_PROVIDER_URL=around.format("http://127.0.0.1:8080/base"),
        MASSIVE_API_KEY=around.format("k3y"),
        BACKFILL_PLAN=around.format("starter"),
        BACKFILL_QUOTA=around.format("8/60s,800/1d"),
        BACKFILL_SINCE=around.format("2020-02-29"),
        BACKFILL_ADJUSTMENT=around.format("split"),
        BACKFILL_LOG=around.format("json"),
    )
    assert settings.database() == URL
    assert settings.embedded_dir() == tmp_path
    assert settings.provider.name == "massive"
    assert settings.account().url == "http://127.0.0.1:8080/base"
    assert settings.account().api_keys() == ("k3y",)
    assert settings.account().terms.name == "starter"
    assert settings.account().quota == Quota((Window(8, 60.0), Window(800, 86_400.0)))
    assert settings.since_day(date(2026, 1, 1)) == date(2020, 2, 29)
    assert settings.account().adjustment == "split"
    assert settings.log_format == "json"


@pytest.mark.parametrize("nothing", ["", " ", "\n"])
def test_an_empty_variable_is_an_unset_one(load: Load, nothing: str) -> None:
    blank = {name: nothing for name in VARIABLES if name != "DATABASE_URL"}
    assert load(**blank) == load()
    assert load(**blank).database() is None
    with pytest.raises(NotSet, match="MASSIVE_API_KEY and POLYGON_API_KEY are empty"):
        load(**blank).account().api_keys()


def test_who_has_no_key_is_told_where_one_is_had_and_what_takes_none(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = load().account()
    with pytest.raises(NotSet, match="set MASSIVE_API_KEY or POLYGON_API_KEY") as refused:
        account.api_keys()
    assert "https://massive.com/dashboard/keys" in refused.value.advice
    assert "backfill simulate" in refused.value.advice
    assert "tiny" not in refused.value.advice
    monkeypatch.setitem(PROVIDERS, "tiny", Tiny())
    with pytest.raises(NotSet) as refused:
        account.api_keys()
    assert refused.value.advice.endswith(" or tiny needs none")
    assert "--provider massive" not in refused.value.advice


def test_settings_are_frozen(load: Load) -> None:
    settings = load()
    with pytest.raises(FrozenInstanceError):
        settings.plan = "unlimited"  # type: ignore[misc]  # that it can not is the point


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ({"MASSIVE_API_KEY": "one"}, "one"),
        ({"POLYGON_API_KEY": "two"}, "two"),
        ({"MASSIVE_API_KEY": "one", "POLYGON_API_KEY": "two"}, "one"),
        ({"MASSIVE_API_KEY": "", "POLYGON_API_KEY": "two"}, "two"),
        ({"MASSIVE_API_KEY": " \n", "POLYGON_API_KEY": "two"}, "two"),
        ({"MASSIVE_API_KEY": " one \n"}, "one"),
    ],
)
def test_the_key_is_the_first_that_is_set(
    load: Load, environment: dict[str, str], key: str
) -> None:
    assert load(**environment).account().api_keys() == (key,)


@pytest.mark.parametrize("key", ["se cret", "se\ncret", "se\tcret", "sécret", "se\x7fcret", "“k”"])
def test_a_key_with_what_no_key_has_is_refused_and_not_shown(load: Load, key: str) -> None:
    settings = load(MASSIVE_API_KEY=key)
    with pytest.raises(UsageError, match="MASSIVE_API_KEY") as refused:
        settings.account().api_keys()
    assert key not in str(refused.value)


def test_a_flag_goes_before_the_environment(load: Load) -> None:
    assert load("polygon", BACKFILL_PROVIDER="nobody").provider.name == "massive"
    with pytest.raises(UsageError, match="'nobody'"):
        load("nobody", BACKFILL_PROVIDER="massive")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BACKFILL_PROVIDER", "nobody", ", ".join([*PROVIDERS, *ALIASES])),
        ("BACKFILL_PLAN", "vip", "free, starter, developer, advanced, unlimited"),
        ("BACKFILL_PLAN", "Free", "free, starter"),
        ("BACKFILL_ADJUSTMENT", "all", "raw, split"),
        ("MASSIVE_PLAN", "vip", "free, starter"),
        ("MASSIVE_PLAN", "stocks:vip", "free, starter"),
        ("MASSIVE_PLAN", "stocks:", "free, starter"),
        ("MASSIVE_PLAN", "indices:free", "stocks, currencies"),
        ("MASSIVE_PLAN", "stocks:free,starter", "stocks, currencies"),
        ("MASSIVE_QUOTA", "5", "5/60s"),
        ("MASSIVE_URL", "api.massive.com", "https://api.massive.com"),
        ("BACKFILL_QUOTA", "5", "5/60s"),
        ("BACKFILL_QUOTA", "0/60s", "5/60s"),
        ("BACKFILL_QUOTA", "none", "unlimited"),
        ("BACKFILL_SINCE", "last year", "2020-01-01"),
        ("BACKFILL_SINCE", "2024-02-30", "2020-01-01"),
        ("BACKFILL_SINCE", "99999999999y", "2y"),
        ("BACKFILL_PROVIDER_URL", "api.massive.com", "https://api.massive.com"),
        ("BACKFILL_PROVIDER_URL", "ftp://api.massive.com", "https://api.massive.com"),
        ("BACKFILL_PROVIDER_URL", "https://", "https://api.massive.com"),
        ("BACKFILL_PROVIDER_URL", "http://[::1", "https://api.massive.com"),
        ("BACKFILL_PROVIDER_URL", "http://host:port", "https://api.massive.com"),
        ("BACKFILL_PROVIDER_URL", "http://host:99999", "https://api.massive.com"),
        ("BACKFILL_PROVIDER_URL", "http://user:word@host", "https://api.massive.com"),
        ("BACKFILL_PROVIDER_URL", "http://host/?apiKey=word", "https://api.massive.com"),
        ("BACKFILL_PROVIDER_URL", "http://host/#word", "https://api.massive.com"),
        ("BACKFILL_PING_URL", "hc-ping.com/of-somebody", "https://hc-ping.com"),
        ("BACKFILL_LOG", "xml", "'json' or 'console'"),
        ("BACKFILL_DERIVE", "maybe", "'on' or 'off'"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable_and_what_it_may_hold(
    load: Load, name: str, value: str, said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        load(**{name: value})
    message = str(refused.value)
    assert said in message
    assert name in message or name == "BACKFILL_PROVIDER"
    assert "\n" not in message
    assert "word" not in message
    assert refused.value.exit_code == 2


def test_the_quota_of_the_environment_goes_before_the_plan_s(load: Load) -> None:
    assert load(BACKFILL_QUOTA="100/1s").account().quota == Quota((Window(100, 1.0),))
    assert load(BACKFILL_QUOTA="unlimited").account().quota == Quota()
    assert load(BACKFILL_PLAN="unlimited").account().quota == Quota()
    assert load(BACKFILL_PLAN="unlimited", BACKFILL_QUOTA="5/1s").account().quota.windows != ()


def test_what_is_massive_s_own_goes_before_what_is_the_default_provider_s(load: Load) -> None:
    settings = load(
        MASSIVE_URL="http://127.0.0.1:1",
        BACKFILL_PROVIDER_URL="http://127.0.0.1:2",
        MASSIVE_PLAN="starter",
        BACKFILL_PLAN="free",
        MASSIVE_QUOTA="7/1s",
        BACKFILL_QUOTA="5/60s",
    )
    assert settings.account().url == "http://127.0.0.1:1"
    assert settings.account().terms.name == "starter"
    assert settings.account().quota == Quota((Window(7, 1.0),))


@pytest.mark.parametrize("variable", ["MASSIVE_PLAN", "BACKFILL_PLAN"])
def test_asset_classes_have_plans_of_their_own(load: Load, variable: str) -> None:
    today = date(2026, 3, 2)
    terms = load(**{variable: "stocks:starter, currencies:advanced"}).account().terms
    assert (terms.of("stock").name, terms.of("crypto").name) == ("starter", "advanced")
    assert terms.window_start(today) == date(2003, 9, 10)
    assert terms.of("stock").window_start(today) == date(2021, 3, 4)
    assert terms.quota == Quota((Window(100, 1.0),))


def test_a_class_that_isn_t_named_is_on_the_free_plan_and_the_strictest_quota_holds(
    load: Load,
) -> None:
    settings = load(MASSIVE_PLAN="stocks:unlimited")
    assert settings.account().terms.of("stock").name == "unlimited"
    assert settings.account().terms.of("crypto").name == "free"
    assert settings.account().quota == Quota((Window(5, 60.0),))
    assert settings.since_day(date(2026, 3, 2)) == date(2003, 9, 10)
    one = load(MASSIVE_PLAN="starter").account().terms
    assert one.of("stock") is one.of("crypto") is one


def test_how_deep_to_go_may_be_a_length_and_is_the_plan_s_by_default(load: Load) -> None:
    today = date(2026, 11, 24)
    assert load(BACKFILL_SINCE="30d").since_day(today) == date(2026, 10, 25)
    assert load(BACKFILL_PLAN="unlimited").since_day(today) == date(2003, 9, 10)


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_database_url_is_refused_where_a_database_is_needed(
    load: Load, empty: str
) -> None:
    settings = load(DATABASE_URL=empty, BACKFILL_DATA_DIR="/somewhere")
    with pytest.raises(UsageError, match="DATABASE_URL is empty"):
        settings.database()


@pytest.mark.parametrize("runner", ["CI", "GITHUB_ACTIONS"])
def test_a_runner_whose_disk_is_thrown_away_gets_no_embedded_database(
    load: Load, runner: str
) -> None:
    with pytest.raises(UsageError, match="DATABASE_URL is not set"):
        load(**{runner: "true"}).database()
    kept = load(**{runner: "true"}, BACKFILL_DATA_DIR="/kept")
    assert kept.database() is None
    assert kept.embedded_dir() == Path("/kept")
    assert load(**{runner: "true"}, DATABASE_URL=URL).database() == URL


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        (URL, {URL, "pass-word"}),
        ("postgresql://u:p%40ss%2Fword@h/db", {"p%40ss%2Fword", "p@ss/word"}),
        ("postgresql://h/db?user=u&password=in-query", {"in-query"}),
        ("postgresql://h/db?sslpassword=of-the-key&password=p%40ss", {"of-the-key", "p@ss"}),
        ("postgresql://h/db", {"postgresql://h/db"}),
        ("postgresql://[::1", {"postgresql://[::1"}),
    ],
)
def test_what_must_not_be_shown_is_every_spelling_of_a_password(
    load: Load, url: str, secrets: set[str]
) -> None:
    assert secrets <= set(load(DATABASE_URL=url).secrets())


def test_the_key_is_a_secret_also_where_the_other_variable_holds_another(load: Load) -> None:
    assert "one-key" in load(MASSIVE_API_KEY=" one-key\n").secrets()
    assert "two-key" in load(POLYGON_API_KEY="two-key").secrets()


@pytest.mark.parametrize("name", PROVIDERS)
def test_each_variable_of_a_provider_s_is_enough_to_have_its_account_read(name: str) -> None:
    provider = PROVIDERS[name]
    keys = [*keys_of(provider), *file_keys_of(provider)]
    every = [*variables_of(provider).values(), *keys]
    for variable in chain.from_iterable(one.names for one in every):
        holders = [one.name for one in spoken_of({variable: "told"})]
        assert account_name(name) in holders, variable
    for variable in chain.from_iterable(one.names for one in keys):
        assert secrets_in({variable: "s3cret-key"}) == ["s3cret-key"], variable


def test_of_a_ping_url_all_that_could_be_its_secret_is_one(load: Load) -> None:
    url = "https://hc-ping.com/0f1e2d3c-4b5a-6978/slug?create=0123456789abcdef"
    assert load(BACKFILL_PING_URL=url).secrets() == [url, "0f1e2d3c-4b5a-6978", "0123456789abcdef"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"BACKFILL_LOG": "xml"},
        {"BACKFILL_PLAN": "vip"},
        {"BACKFILL_PROVIDER_URL": "http://[::1"},
        {"BACKFILL_QUOTA": "5"},
    ],
)
def test_no_error_shows_a_secret(load: Load, wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError) as refused:
        load(DATABASE_URL=URL, MASSIVE_API_KEY="s3cret-key", **wrong)
    shown = f"{refused.value!r} {refused.value.__cause__!r} {refused.value.__context__!r}"
    assert "s3cret-key" not in shown
    assert "pass-word" not in shown


def test_settings_in_a_message_show_no_secret(load: Load) -> None:
    settings = load(DATABASE_URL=URL, MASSIVE_API_KEY="s3cret-key")
    shown = f"{settings} {settings!r} {asdict(settings)}"
    assert "s3cret-key" not in shown
    assert "pass-word" not in shown


@pytest.mark.parametrize(
    ("said", "derives"),
    [("on", True), ("True", True), ("1", True), ("yes", True), ("off", False), ("FALSE", False),
     ("0", False), ("No", False)],
)  # fmt: skip
def test_a_switch_is_read_in_every_usual_spelling(load: Load, said: str, derives: bool) -> None:
    assert load(BACKFILL_DERIVE=said).derive is derives


SECRET_VARIABLES: Final = sorted(
    {
        *("DATABASE_URL", "BACKFILL_PING_URL", "BACKFILL_SERVE_TOKEN", "BACKFILL_PROXY"),
        *chain.from_iterable(
            one.names
            for provider in PROVIDERS.values()
            for one in (*keys_of(provider), *file_keys_of(provider))
        ),
    }
)


@pytest.fixture
def said(load: Load, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Read the settings of an environment that holds these variables, whichever they are."""

    def read(**environment: str) -> Settings:
        load()
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Settings.load()

    return read


def test_feeds_of_one_service_are_asked_by_one_account_whichever_is_the_default(
    said: Load,
) -> None:
    keys = {"APCA_API_KEY_ID": "an-id", "APCA_API_SECRET_KEY": "a-key"}
    default = {"BACKFILL_PROVIDER": "alpaca-iex", "BACKFILL_QUOTA": "7/1s"}
    settings = said(**keys, **default, ALPACA_PLAN="plus")
    accounts = [settings.account(one) for one in ("alpaca", "alpaca-iex")]
    assert [one.name for one in accounts] == ["alpaca", "alpaca"]
    assert {str(one.quota) for one in accounts} == {"7/1s"}
    assert {one.terms.name for one in accounts} == {"plus"}
    assert {one.api_keys() for one in accounts} == {("an-id", "a-key")}
    assert str(settings.account("binance").quota) != "7/1s"


HIDDEN: Final = "https://user:h1dden-in-a-file@proxy.example"


@pytest.mark.parametrize("name", SECRET_VARIABLES)
def test_every_secret_may_stand_in_a_file_and_is_never_shown(
    said: Load, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{HIDDEN}:8080" if name == "BACKFILL_PROXY" else HIDDEN
    path = tmp_path / "secret"
    path.write_text(f"{text}\n", encoding="utf-8")
    beside = {
        other: "key"
        for provider in PROVIDERS.values()
        for one in file_keys_of(provider)
        if name in {each for pair in file_keys_of(provider) for each in pair.names}
        for other in one.names
        if other != name
    }
    by_file = said(**beside, **{f"{name}_FILE": str(path)})
    assert any(text in one for one in by_file.secrets())
    monkeypatch.delenv(f"{name}_FILE")
    monkeypatch.setenv(name, text)
    assert Settings.load() == by_file

    monkeypatch.setenv(f"{name}_FILE", str(path))
    with pytest.raises(UsageError, match=f"^{name} and {name}_FILE are both set") as refused:
        Settings.load()
    assert "h1dden" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "can't be read: No such file or directory"),
        (b"\xff\xfe", "can't be read: it is no text"),
        (b"one\ntwo", "holds more than a line"),
        (b"1" * 20_000, "holds more than a line"),
    ],
)
def test_a_file_that_holds_no_secret_is_one_line_without_its_name(
    said: Load, content: bytes | None, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "the-key-itself-by-mistake"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        said(MASSIVE_API_KEY_FILE=str(path))
    assert str(refused.value) == f"MASSIVE_API_KEY_FILE names a file that {told}"


def test_an_empty_file_is_an_empty_variable(said: Load, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    settings = said(DATABASE_URL_FILE=str(path), MASSIVE_API_KEY_FILE=str(path))
    with pytest.raises(NotSet, match="DATABASE_URL is empty"):
        settings.database()
    with pytest.raises(NotSet, match="MASSIVE_API_KEY_FILE is empty"):
        settings.account().api_keys()
