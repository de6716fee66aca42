"""Which proxy an address is asked through: none that nobody asked for, and no login is told."""

import pytest

from backfill.core.redact import Redactor
from backfill.errors import UsageError
from backfill.settings import Settings

PROVIDER = "https://api.massive.com"
PROXY = "http://us%40er:pass%2Fword@proxy.test:3128"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("https_proxy", "http_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("BACKFILL_PROXY", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("said", "given", "url", "through"),
    [
        (None, {"HTTPS_PROXY": PROXY}, PROVIDER, None),
        (PROXY, {}, PROVIDER, PROXY),
        (PROXY, {}, "http://127.0.0.1:8080", PROXY),
        (PROXY, {"NO_PROXY": "*", "HTTPS_PROXY": "http://other.test"}, PROVIDER, PROXY),
        ("environment", {"HTTPS_PROXY": PROXY}, PROVIDER, PROXY),
        ("environment", {"https_proxy": PROXY}, PROVIDER, PROXY),
        ("environment", {"HTTPS_PROXY": " proxy.test:3128 "}, PROVIDER, "http://proxy.test:3128"),
        ("environment", {"HTTP_PROXY": PROXY}, PROVIDER, None),
        ("environment", {"HTTP_PROXY": PROXY}, "http://127.0.0.1:8080", PROXY),
        ("environment", {"HTTPS_PROXY": PROXY, "NO_PROXY": "massive.com"}, PROVIDER, None),
        ("environment", {"HTTPS_PROXY": PROXY, "NO_PROXY": "x, .massive.com"}, PROVIDER, None),
        ("environment", {"HTTPS_PROXY": PROXY, "NO_PROXY": "api.massive.com:444"}, PROVIDER, PROXY),
        ("environment", {"HTTPS_PROXY": PROXY, "NO_PROXY": "massive.co"}, PROVIDER, PROXY),
        ("environment", {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, PROVIDER, None),
        ("environment", {}, PROVIDER, None),
    ],
)
def test_a_proxy_is_used_where_it_is_asked_for_and_nowhere_else(
    environment: pytest.MonkeyPatch,
    said: str | None,
    given: dict[str, str],
    url: str,
    through: str | None,
) -> None:
    for name, value in {"BACKFILL_PROXY": said, **given}.items():
        if value is not None:
            environment.setenv(name, value)
    assert Settings.load().proxy_of(url) == through


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKFILL_PROXY", "proxy.test:3128"),
        ("BACKFILL_PROXY", "socks5://proxy.test"),
        ("BACKFILL_PROXY", "http://user:word@proxy.test/path"),
        ("BACKFILL_PROXY", "http://proxy.test:99999"),
        ("BACKFILL_PROXY", "http:///nowhere"),
        ("HTTPS_PROXY", "socks5://user:word@proxy.test"),
        ("HTTP_PROXY", "http://proxy.test?x"),
    ],
)
def test_what_is_no_proxy_is_refused_and_not_repeated(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv("BACKFILL_PROXY", "environment")
    environment.setenv(name, value)
    with pytest.raises(UsageError, match=f"^BACKFILL_PROXY: .*{'' if 'B' in name else name}") as no:
        Settings.load()
    assert value not in str(no.value)
    assert "word" not in str(no.value)


def test_the_login_of_a_proxy_is_shown_nowhere(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BACKFILL_PROXY", PROXY)
    settings = Settings.load()
    assert "pass" not in repr(settings)
    blot = Redactor(settings.secrets()).text
    header = "dXNAZXI6cGFzcy93b3Jk"  # us@er:pass/word
    for said in (PROXY, "to us%40er:pass%2Fword@proxy", "pass/word", f"Basic {header}"):
        assert not {"pass", "word", header} & set(blot(said).replace("/", " ").split()), blot(said)
        assert "***" in blot(said)
