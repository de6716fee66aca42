"""Settings: the environment, read once, checked, and frozen."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from backfill.core.calendar import Night
from backfill.core.terms import Quota, Terms
from backfill.core.when import parse_since
from backfill.environment import Secret, one_of, read_environment, switch, variable, variable_of
from backfill.errors import UsageError
from backfill.providers import provider_named
from backfill.providers.base import Provider
from backfill.proxies import Proxies

_SECRET_LENGTH: Final = 16


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
    provider_url: str | None = variable(
        "BACKFILL_PROVIDER_URL", meaning="where the provider is; unset: its public address"
    )
    massive_url: str | None = variable(
        "MASSIVE_URL", meaning="where Massive is; before `BACKFILL_PROVIDER_URL`"
    )
    massive_plan: str | None = variable(
        "MASSIVE_PLAN",
        meaning="the plan at Massive, before `BACKFILL_PLAN`: one word for all, or a plan per "
        "asset class as `stocks:starter,currencies:free`",
    )
    massive_quota: str | None = variable(
        "MASSIVE_QUOTA",
        meaning="another quota than the plan's at Massive; before `BACKFILL_QUOTA`",
    )
    massive_key: Secret | None = variable(
        "MASSIVE_API_KEY",
        "POLYGON_API_KEY",
        meaning="the provider's key; it travels in a header only. Secret",
        read=Secret,
    )
    plan: str = variable(
        "BACKFILL_PLAN",
        meaning="`free`, `starter`, `developer`, `advanced` or `unlimited`: quota, depth and "
        "settling delays",
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
    proxies: Proxies | None = variable(
        "BACKFILL_PROXY",
        meaning="what calls and pings go through: a proxy's URL, or `environment` for what "
        "`HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say; unset: no proxy, whatever these say. "
        "Secret",
        read=Proxies.read,
    )
    log_format: Literal["json", "console"] | None = variable(
        "BACKFILL_LOG",
        meaning="`json` or `console`; unset: as fits stderr",
        read=one_of("json", "console"),
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
        values = read_environment(cls)
        if provider_name:
            values["provider_name"] = provider_name
        return cls(**values)

    def __post_init__(self) -> None:
        """See that the values fit together; what they mean is computed where it is asked for."""
        try:
            terms_of(self.provider, self.massive_plan or self.plan)
        except UsageError as error:
            name = "MASSIVE_PLAN" if self.massive_plan else "BACKFILL_PLAN"
            raise UsageError(f"{name} {error}") from None
        if self.adjustment not in self.provider.adjustments:
            raise UsageError(
                f"BACKFILL_ADJUSTMENT {self.adjustment!r} is not offered by "
                f"{self.provider.name}: choose from "
                f"{', '.join(self.provider.adjustments)}"
            )
        for name, quota in (
            ("BACKFILL_QUOTA", self.quota_override),
            ("MASSIVE_QUOTA", self.massive_quota),
        ):
            if quota is not None:
                try:
                    Quota.parse(quota)
                except UsageError as error:
                    raise UsageError(f"{name}: {error}") from None
        if not _is_base_url(self.base_url):
            name = "MASSIVE_URL" if self.massive_url else "BACKFILL_PROVIDER_URL"
            raise UsageError(f"{name} must be a URL like https://api.massive.com")
        if self.ping_url is not None and not _is_web_url(self.ping_url.reveal()):
            raise UsageError("BACKFILL_PING_URL must be a URL like https://hc-ping.com/<uuid>")
        if self.since is not None:
            try:
                parse_since(self.since, date(2026, 1, 1))
            except UsageError as error:
                raise UsageError(f"BACKFILL_SINCE: {error}") from None

    @property
    def provider(self) -> Provider:
        """The provider that bars are asked of."""
        return provider_named(self.provider_name)

    @property
    def terms(self) -> Terms:
        """The terms of the provider's plan, or plans: ``MASSIVE_PLAN``, or ``BACKFILL_PLAN``."""
        return terms_of(self.provider, self.massive_plan or self.plan)

    @property
    def quota(self) -> Quota:
        """``MASSIVE_QUOTA``, or ``BACKFILL_QUOTA``, or the plan's."""
        override = self.massive_quota or self.quota_override
        return self.terms.quota if override is None else Quota.parse(override)

    @property
    def base_url(self) -> str:
        """Where the provider is: ``MASSIVE_URL``, or ``BACKFILL_PROVIDER_URL``."""
        return self.massive_url or self.provider_url or self.provider.base_url

    @property
    def adjustment(self) -> str:
        """``BACKFILL_ADJUSTMENT``, or the provider's first."""
        return self.adjustment_override or self.provider.adjustments[0]

    def proxy_of(self, url: str) -> str | None:
        """Return the URL of the proxy through which an address is asked; None for none."""
        return self.proxies.of(url) if self.proxies else None

    def since_day(self, today: date) -> date:
        """Return how deep to go by default: ``BACKFILL_SINCE``, or as deep as the plan reads."""
        if self.since is not None:
            return parse_since(self.since, today)
        return self.terms.window_start(today)

    def api_key(self) -> str:
        """Return the provider's key.

        Raises
        ------
        UsageError
            If there is none, or it can't be one.
        """
        names = " or ".join(self.provider.key_variables)
        key = self.massive_key.reveal().strip() if self.massive_key else ""
        if not key:
            raise UsageError(f"no key for {self.provider.name}: set {names}")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise UsageError(f"{names} holds characters that no key has")
        return key

    def database(self) -> str | None:
        """Return the database's URL; None for the embedded Postgres.

        Raises
        ------
        UsageError
            If ``DATABASE_URL`` is empty, or unset where an embedded database would be lost.
        """
        if self.database_url is not None and self.database_url.reveal().strip():
            return self.database_url.reveal().strip()
        if self.database_url is not None or "DATABASE_URL" in os.environ:
            raise UsageError(
                "DATABASE_URL is empty: set it to postgresql://…, or unset it to use "
                "an embedded Postgres"
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
        own = (self.massive_key, self.database_url, self.ping_url)
        values = [_secrets_of(secret.reveal().strip()) for secret in own if secret is not None]
        proxies = self.proxies.secrets() if self.proxies is not None else ()
        return list(dict.fromkeys([*chain(*values), *proxies, *secrets_in(os.environ)]))


def secrets_in(environment: Mapping[str, str]) -> list[str]:
    """Return every value of an environment that must never be shown, used or not, valid or not.

    Beside our own variables those that libraries read: the password of libpq, those of proxies.
    """
    variables = map(variable_of, fields(Settings))
    ours = [name for one in variables if one.is_secret for name in one.names]
    said = [environment[name].strip() for name in ours if name in environment]
    proxies = [url for name, url in environment.items() if name.lower().endswith("_proxy")]
    whole = [url if "://" in url else f"http://{url}" for url in proxies]
    values = [*map(_secrets_of, said), *map(_passwords, whole)]
    found = [*chain(*values), environment.get("PGPASSWORD", "")]
    return [value for value in found if value]


def _secrets_of(text: str) -> list[str]:
    """Return a secret and, where it is a URL, the parts of it that are secret by themselves."""
    if "://" not in text:
        return [text] if text else []
    parts = _passwords(text) if text.startswith("postgres") else _long_parts(text)
    return [text, *parts]


def terms_of(provider: Provider, plan: str) -> Terms:
    """Return the terms of a plan: one word, or a plan per asset class, ``free`` where none is said.

    Raises
    ------
    UsageError
        If the provider has no such plan or class; the message begins with the plan.
    """
    if ":" not in plan:
        return _plan_named(provider, plan)
    chosen = dict.fromkeys(provider.plan_classes, "free")
    for part in plan.split(","):
        name, _, word = (text.strip() for text in part.partition(":"))
        if name not in chosen:
            classes = ", ".join(chosen)
            raise UsageError(
                f"{plan!r} names the class {name!r}, which {provider.name} has no bars of here: "
                f"choose from {classes}"
            )
        chosen[name] = word
    first, *others = chosen
    return Terms.joined(
        _plan_named(provider, chosen[first]),
        {provider.plan_classes[name]: _plan_named(provider, chosen[name]) for name in others},
    )


def _plan_named(provider: Provider, plan: str) -> Terms:
    if plan not in provider.terms:
        plans = ", ".join(provider.terms)
        raise UsageError(f"{plan!r} is not a plan of {provider.name}: choose from {plans}")
    return provider.terms[plan]


def _is_base_url(url: str) -> bool:
    """Whether paths can be added to a URL; a user, a query or a fragment has no place in it."""
    parts = urlsplit(url) if _is_web_url(url) else None
    return parts is not None and not (parts.query or parts.fragment or "@" in parts.netloc)


def _is_web_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port_is_one


def _long_parts(url: str) -> list[str]:
    """Return what of a URL's path and query is long enough to be the secret in it."""
    path, _, query = url.partition("://")[2].partition("?")
    values = [value for _, value in parse_qsl(query)]
    return [part for part in [*path.split("/")[1:], *values] if len(part) >= _SECRET_LENGTH]


def _passwords(url: str) -> list[str]:
    """Return the passwords in a URL, as they are written and as they are meant.

    One whose characters should have been encoded may end at any of these: each is one.
    """
    login = re.search(r"://[^:/?#@]*:(.*)", url)
    rest = login[1] if login else ""
    written = [rest[: at.start()] for at in re.finditer("@", rest)]
    queried = [part.partition("=") for part in url.partition("?")[2].split("&")]
    written += [value for name, _, value in queried if name.endswith("password")]
    return [*written, *map(unquote, written)]
