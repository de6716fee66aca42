"""Settings: the environment, read once, checked, and frozen."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field, fields, replace
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Literal, Self

from backfill.core.calendar import Night
from backfill.core.dataclass import dataclass
from backfill.core.terms import Terms
from backfill.core.when import parse_since
from backfill.errors import NotSet, UsageError
from backfill.providers import PROVIDERS, account_name, canonical, provider_named, spoken_of
from backfill.providers.base import Provider
from backfill.settings.account import (
    Account,
    AccountSettings,
    account_of,
    file_keys_of,
    keys_of,
    read_account,
    secrets_of,
)
from backfill.settings.address import is_web_url
from backfill.settings.environment import (
    Secret,
    one_of,
    read_environment,
    switch,
    text_in_file,
    variable,
    variable_of,
)
from backfill.settings.proxies import Proxies
from backfill.settings.secrecy import parts_of_secret, passwords_in
from backfill.settings.serving import hosts, origins

__all__ = ["Account", "AccountSettings", "Secret", "Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says; each field is read from the variable that it names.

    Values are stripped of white space around them, and an empty one counts as unset; an empty
    ``DATABASE_URL`` is refused where a database is needed.
    """

    database_url: Secret | None = variable(
        "DATABASE_URL",
        meaning="`postgresql://…`; unset: an embedded Postgres, but in CI an error, as disks "
        "are thrown away there. Secret",
        read=Secret,
    )
    data_dir: Path | None = variable(
        "BACKFILL_DATA_DIR",
        meaning="where the embedded Postgres lives; unset: the user's data directory",
        read=Path,
    )
    provider_name: str = variable(
        "BACKFILL_PROVIDER", meaning="the provider; `polygon` is an alias", default="massive"
    )
    provider_asked: str | None = None
    """The provider that a flag names: it goes before ``BACKFILL_PROVIDER``."""
    accounts: Mapping[str, AccountSettings] = field(default_factory=dict)
    """What the environment says of each account, by its name."""
    provider_url: str | None = variable(
        "BACKFILL_PROVIDER_URL",
        meaning="where `BACKFILL_PROVIDER` is, and no other; unset: its public address",
    )
    plan: str = variable(
        "BACKFILL_PLAN",
        meaning="the plan at `BACKFILL_PROVIDER`: `free`, `unlimited` or another of its own, which "
        "sets quota, depth and settling delays",
        default="free",
    )
    quota_override: str | None = variable(
        "BACKFILL_QUOTA",
        meaning="another quota than the plan's: `5/60s`, several windows as `8/60s,800/1d`, or "
        "`unlimited`",
    )
    since: str | None = variable(
        "BACKFILL_SINCE",
        meaning="how deep by default: a date, or a length such as `2y`; unset: as the plan allows",
    )
    adjustment_override: str | None = variable(
        "BACKFILL_ADJUSTMENT",
        meaning="`raw` or `split`; unset: `raw` where the provider offers it",
    )
    derive: bool = variable(
        "BACKFILL_DERIVE",
        meaning="`off` fetches every timeframe as the provider has it, instead of rolling some up",
        default=True,
        read=switch,
    )
    night: Night = variable(
        "BACKFILL_NIGHT",
        meaning="`keep` or `drop` the bars of the night, where a feed has them "
        "([runbook.md](runbook.md#bars-of-the-night))",
        default=Night.keep,
        read=one_of(*Night),
    )
    ping_url: Secret | None = variable(
        "BACKFILL_PING_URL",
        meaning="a dead-man's switch that hears of every run, by the conventions of "
        "healthchecks.io ([runbook.md](runbook.md)). Secret",
        read=Secret,
    )
    notify_urls: Secret | None = variable(
        "BACKFILL_NOTIFY",
        meaning="addresses of [apprise](https://github.com/caronc/apprise), with spaces or commas "
        "between, that get a message when series begin to fail, go stale, are refused or are well "
        "again ([runbook.md](runbook.md#messages)). Needs the extra `notify`. Secret",
        read=Secret,
    )
    proxies: Proxies | None = variable(
        "BACKFILL_PROXY",
        meaning="what calls and pings go through: a proxy's URL, or `environment` for what "
        "`HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say; unset: no proxy, whatever these say. "
        "Secret",
        read=Proxies.read,
        holds_secret=True,
    )
    log_format: Literal["json", "console"] | None = variable(
        "BACKFILL_LOG",
        meaning="`json` or `console`; unset: as fits stderr",
        read=one_of("json", "console"),
    )
    serve_token: Secret | None = variable(
        "BACKFILL_SERVE_TOKEN",
        meaning="what whoever asks `backfill serve` must show; needed beyond loopback. Secret",
        read=Secret,
    )
    serve_hosts: frozenset[str] = variable(
        "BACKFILL_SERVE_HOSTS",
        meaning="further names under which `backfill serve` is reached, such as "
        "`bars.example.com`, with commas between; others are refused",
        default=frozenset(),
        read=hosts,
    )
    serve_origins: frozenset[str] = variable(
        "BACKFILL_SERVE_ORIGINS",
        meaning="pages of which other origins may read from `backfill serve`, such as "
        "`https://app.example.com`, with commas between; unset: of none",
        default=frozenset(),
        read=origins,
    )
    on_runner: str | None = variable(
        "CI",
        "GITHUB_ACTIONS",
        meaning="set by whoever runs jobs: `DATABASE_URL` or `BACKFILL_DATA_DIR` must be set then",
    )

    @classmethod
    def load(cls, *, provider_name: str | None = None) -> Self:
        """Read the environment; ``provider_name`` goes before ``BACKFILL_PROVIDER``.

        Raises
        ------
        UsageError
            If a variable holds what it can't; the message names it and not its value.
        """
        accounts = {one.name: read_account(one) for one in spoken_of(os.environ)}
        return cls(**read_environment(cls), accounts=accounts, provider_asked=provider_name)

    def __post_init__(self) -> None:
        """See that the values fit together; what they mean is computed where it is asked for."""
        offered = self.provider.can.common_adjustments
        if self.adjustment_override not in {None, *offered}:
            instead = f"choose from {', '.join(offered)}" if offered else "unset it"
            raise UsageError(
                f"BACKFILL_ADJUSTMENT {self.adjustment_override!r} is not offered by "
                f"{self.provider.name} for every timeframe: {instead}"
            )
        for name in dict.fromkeys((self.provider.name, *self.accounts)):
            self.account(name)
        if self.ping_url is not None and not is_web_url(self.ping_url.reveal()):
            raise UsageError("BACKFILL_PING_URL must be a URL like https://hc-ping.com/<uuid>")
        if self.since is not None:
            try:
                parse_since(self.since, date(2026, 1, 1))
            except UsageError as error:
                raise UsageError(f"BACKFILL_SINCE: {error}") from None

    @property
    def provider(self) -> Provider:
        """The provider of whatever has none of its own."""
        return provider_named(self.provider_asked or self.provider_name)

    def account(self, name: str | None = None) -> Account:
        """Return the account with a provider; without a name with `provider`."""
        provider = self.provider if name is None else provider_named(name)
        account = account_name(provider.name)
        is_default = account == account_name(canonical(self.provider_name))
        default = AccountSettings(url=self.provider_url, plan=self.plan, quota=self.quota_override)
        wanted = self.adjustment_override
        held = account_of(
            provider,
            self.accounts.get(account, AccountSettings()),
            default if is_default else AccountSettings(),
            wanted if wanted in provider.can.common_adjustments else None,
        )
        return replace(held, proxy=self.proxy_of(held.url))

    def account_of(self, name: str | None) -> Account:
        """Return the account with a provider that a table names, or the default if none is that."""
        return self.account(name if name and canonical(name) in PROVIDERS else None)

    def proxy_of(self, url: str) -> str | None:
        """Return the URL of the proxy through which an address is asked; None for none."""
        return self.proxies.of(url) if self.proxies else None

    def since_day(self, today: date, terms: Terms | None = None) -> date:
        """Return how deep to go by default: ``BACKFILL_SINCE``, or as deep as the plan reads."""
        if self.since is not None:
            return parse_since(self.since, today)
        return (terms or self.account().terms).window_start(today)

    def database(self) -> str | None:
        """Return the database's URL; None for the embedded Postgres.

        Raises
        ------
        NotSet
            If ``DATABASE_URL`` is empty.
        UsageError
            If it is unset where an embedded database would be lost.
        """
        if self.database_url is not None and self.database_url.reveal().strip():
            return self.database_url.reveal().strip()
        if self.database_url is not None or {"DATABASE_URL", "DATABASE_URL_FILE"} & set(os.environ):
            raise NotSet(
                "DATABASE_URL is empty",
                advice="set it to postgresql://…, or unset it to use an embedded Postgres",
            )
        if self.on_runner and self.data_dir is None:
            raise UsageError(
                "DATABASE_URL is not set, and a runner's disk is thrown away: set it, "
                "or BACKFILL_DATA_DIR to keep an embedded Postgres there"
            )
        return None

    def embedded_dir(self) -> Path:
        """Return the folder of the embedded Postgres."""
        import platformdirs

        return self.data_dir or platformdirs.user_data_path("backfill", appauthor=False)

    def secrets(self) -> list[str]:
        """Return every value that must never be shown."""
        own = (self.database_url, self.ping_url, self.notify_urls, self.serve_token)
        values = [parts_of_secret(secret.reveal().strip()) for secret in own if secret is not None]
        values.append(secrets_of(self.accounts.values()))
        proxies = self.proxies.secrets() if self.proxies is not None else ()
        return list(dict.fromkeys([*chain(*values), *proxies, *secrets_in(os.environ)]))


def secrets_in(environment: Mapping[str, str]) -> list[str]:
    """Return every value of an environment that must never be shown, used or not, valid or not.

    Beside our own variables those that libraries read: the password of libpq, those of proxies.
    """
    common = map(variable_of, fields(Settings))
    secret = [one for one in common if one is not None and one.is_secret]
    secret += [
        one
        for provider in spoken_of(environment)
        for one in (*keys_of(provider), *file_keys_of(provider))
    ]
    ours = [name for one in secret for name in one.names]
    proxies = {name for name in environment if name.lower().endswith("_proxy")} | {"BACKFILL_PROXY"}
    urls = chain.from_iterable(_texts(environment, name) for name in proxies)
    whole = [url if "://" in url else f"http://{url}" for url in urls]
    said = chain.from_iterable(_texts(environment, name) for name in ours)
    values = [*map(parts_of_secret, said), *map(passwords_in, whole)]
    found = [*chain(*values), environment.get("PGPASSWORD", "")]
    return [value for value in found if value]


def _texts(environment: Mapping[str, str], name: str) -> list[str]:
    """Return what a variable says, and what stands in its file, as far as that can be read."""
    found = [environment.get(name, "").strip()]
    with suppress(UsageError):  # what can't be read can't be shown
        found.append(text_in_file(environment, name) or "")
    return found
