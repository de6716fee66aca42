"""Settings: the environment, read once, checked, and frozen."""

import os
import re
from datetime import date
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from backfill.core.calendar import Night
from backfill.core.terms import Quota, Terms
from backfill.core.when import parse_since
from backfill.errors import UsageError
from backfill.providers import provider_named
from backfill.providers.base import Provider

_SECRET_LENGTH: Final = 16


class Settings(BaseSettings):
    """What the environment says; each field is read from the variable that its alias names.

    Values are stripped of white space around them, and an empty one counts as unset; an empty
    ``DATABASE_URL`` is refused where a database is needed.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        populate_by_name=True,
        extra="ignore",
        case_sensitive=True,
        hide_input_in_errors=True,
    )

    database_url: SecretStr | None = Field(
        None,
        alias="DATABASE_URL",
        description="`postgresql://…`; unset: an embedded Postgres, but in CI an error, as disks "
        "are thrown away there. Secret",
    )
    data_dir: Path | None = Field(
        None,
        alias="BACKFILL_DATA_DIR",
        description="where the embedded Postgres lives; unset: the user's data directory",
    )
    provider_name: str = Field(
        "massive", alias="BACKFILL_PROVIDER", description="the provider; `polygon` is an alias"
    )
    provider_url: str | None = Field(
        None,
        alias="BACKFILL_PROVIDER_URL",
        description="where the provider is; unset: its public address",
    )
    massive_url: str | None = Field(
        None,
        alias="MASSIVE_URL",
        description="where Massive is; before `BACKFILL_PROVIDER_URL`",
    )
    massive_plan: str | None = Field(
        None,
        alias="MASSIVE_PLAN",
        description="the plan at Massive, before `BACKFILL_PLAN`: one word for all, or a plan per "
        "asset class as `stocks:starter,currencies:free`",
    )
    massive_quota: str | None = Field(
        None,
        alias="MASSIVE_QUOTA",
        description="another quota than the plan's at Massive; before `BACKFILL_QUOTA`",
    )
    massive_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("MASSIVE_API_KEY", "POLYGON_API_KEY"),
        description="the provider's key; it travels in a header only. Secret",
    )
    plan: str = Field(
        "free",
        alias="BACKFILL_PLAN",
        description="`free`, `starter`, `developer`, `advanced` or `unlimited`: quota, depth and "
        "settling delays",
    )
    quota_override: str | None = Field(
        None,
        alias="BACKFILL_QUOTA",
        description="another quota than the plan's: `5/60s`, several windows as `8/60s,800/1d`, or "
        "`unlimited`",
    )
    since: str | None = Field(
        None,
        alias="BACKFILL_SINCE",
        description="how deep by default: a date, or a length such as `2y`; unset: as the plan "
        "allows",
    )
    adjustment_override: str | None = Field(
        None,
        alias="BACKFILL_ADJUSTMENT",
        description="`raw` or `split`; unset: `raw` where the provider offers it",
    )
    derive: bool = Field(
        default=True,
        alias="BACKFILL_DERIVE",
        description="`off` fetches every timeframe as the provider has it, instead of rolling some "
        "up",
    )
    night: Night = Field(
        Night.keep,
        alias="BACKFILL_NIGHT",
        description="`keep` or `drop` the bars of the night, where a feed has them "
        "([runbook.md](runbook.md#bars-of-the-night))",
    )
    ping_url: SecretStr | None = Field(
        None,
        alias="BACKFILL_PING_URL",
        description="a dead-man's switch that hears of every run, by the conventions of "
        "healthchecks.io ([runbook.md](runbook.md)). Secret",
    )
    log_format: Literal["json", "console"] | None = Field(
        None,
        alias="BACKFILL_LOG",
        description="`json` or `console`; unset: as fits stderr",
    )
    on_runner: str | None = Field(
        None,
        validation_alias=AliasChoices("CI", "GITHUB_ACTIONS"),
        description="set by whoever runs jobs: `DATABASE_URL` or `BACKFILL_DATA_DIR` must be set "
        "then",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # it strips nothing
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment, stripped; what is then empty counts as unset."""
        read = {name: value for name in _VARIABLES if (value := os.environ.get(name, "").strip())}
        return init_settings, InitSettingsSource(settings_cls, read)

    @classmethod
    def load(cls, *, provider_name: str | None = None) -> Self:
        """Read the environment; ``provider_name`` goes before ``BACKFILL_PROVIDER``.

        Raises
        ------
        UsageError
            If a variable holds what it can't; the message names it and not its value.
        """
        try:
            return cls(BACKFILL_PROVIDER=provider_name) if provider_name else cls()
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise UsageError(f"{first['loc'][0]}: {first['msg']}") from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        """See that the values fit together; what they mean is computed where it is asked for."""
        try:
            terms_of(self.provider, self.massive_plan or self.plan)
        except UsageError as error:
            variable = "MASSIVE_PLAN" if self.massive_plan else "BACKFILL_PLAN"
            raise UsageError(f"{variable} {error}") from None
        if self.adjustment not in self.provider.adjustments:
            raise UsageError(
                f"BACKFILL_ADJUSTMENT {self.adjustment!r} is not offered by "
                f"{self.provider.name}: choose from "
                f"{', '.join(self.provider.adjustments)}"
            )
        for variable, quota in (
            ("BACKFILL_QUOTA", self.quota_override),
            ("MASSIVE_QUOTA", self.massive_quota),
        ):
            if quota is not None:
                try:
                    Quota.parse(quota)
                except UsageError as error:
                    raise UsageError(f"{variable}: {error}") from None
        if not _is_base_url(self.base_url):
            variable = "MASSIVE_URL" if self.massive_url else "BACKFILL_PROVIDER_URL"
            raise UsageError(f"{variable} must be a URL like https://api.massive.com")
        if self.ping_url is not None and not _is_web_url(self.ping_url.get_secret_value()):
            raise UsageError("BACKFILL_PING_URL must be a URL like https://hc-ping.com/<uuid>")
        if self.since is not None:
            try:
                parse_since(self.since, date(2026, 1, 1))
            except UsageError as error:
                raise UsageError(f"BACKFILL_SINCE: {error}") from None
        return self

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
        key = self.massive_key.get_secret_value().strip() if self.massive_key else ""
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
        if self.database_url is not None and self.database_url.get_secret_value().strip():
            return self.database_url.get_secret_value().strip()
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
        return self.data_dir or platformdirs.user_data_path("backfill", appauthor=False)

    def secrets(self) -> list[str]:
        """Return every value that must never be shown."""
        values = [self.massive_key.get_secret_value().strip()] if self.massive_key else []
        if self.database_url is not None:
            url = self.database_url.get_secret_value().strip()
            values += [url, *_passwords(url)]
        if self.ping_url is not None:
            url = self.ping_url.get_secret_value()
            values += [url, *_long_parts(url)]
        return [value for value in values if value]


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


_VARIABLES: Final = tuple(
    variable
    for field in Settings.model_fields.values()
    for variable in (
        field.validation_alias.choices
        if isinstance(field.validation_alias, AliasChoices)
        else [field.alias]
    )
    if isinstance(variable, str)
)


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
    parts = urlsplit(url)
    values = [value for _, value in parse_qsl(parts.query)]
    return [part for part in [*parts.path.split("/"), *values] if len(part) >= _SECRET_LENGTH]


def _passwords(url: str) -> list[str]:
    """Return the passwords in a database's URL, as they are written and as they are meant.

    One whose characters should have been encoded may end at any of these: each is one.
    """
    login = re.search(r"://[^:/?#@]*:(.*)", url)
    rest = login[1] if login else ""
    written = [rest[: at.start()] for at in re.finditer("@", rest)]
    queried = [part.partition("=") for part in url.partition("?")[2].split("&")]
    written += [value for name, _, value in queried if name.endswith("password")]
    return [*written, *map(unquote, written)]
