"""An account: who we are to one provider, by variables of the environment that are its own.

``<NAME>_URL``, ``<NAME>_PLAN`` and ``<NAME>_QUOTA`` go before ``BACKFILL_PROVIDER_URL``, ``_PLAN``
and ``_QUOTA``, which mean the default provider alone: no key reaches another's address. Feeds of
one service have one account (`account_name`).
"""

import os
from collections.abc import Iterable

from backfill.core.dataclass import dataclass
from backfill.core.terms import Quota, Terms
from backfill.errors import NotSet, UsageError
from backfill.providers import PROVIDERS, account_name
from backfill.providers.base import Archives, ByNameOnly, MarketArchives, OtherHost, Provider
from backfill.settings.address import is_base_url
from backfill.settings.environment import Secret, Variable, file_name, said_by


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """What the environment says of an account; None where it says nothing."""

    url: str | None = None
    other_url: str | None = None
    archive_url: str | None = None
    plan: str | None = None
    quota: str | None = None
    keys: tuple[Secret | None, ...] = ()
    file_keys: tuple[Secret | None, ...] = ()
    secrets: tuple[Secret, ...] = ()
    """Every key that a variable holds, also one that another goes before."""


@dataclass(frozen=True, slots=True)
class Account:
    """What holds with one provider: where it is, its plan's terms, the quota, our keys.

    ``adjustment`` is the wanted one; timeframes that can't be had so are as the provider has them.
    ``keys`` are in the order of the provider's ``key_variables``, None for one that isn't set;
    ``other_url`` is where its other host is, and ``archive_url`` its archive, if it has one; none
    is said to be where the service is another than the public one and its archive isn't named.
    ``proxy`` is the URL of what all calls go through.
    """

    provider: Provider
    url: str
    terms: Terms
    quota: Quota
    adjustment: str
    keys: tuple[Secret | None, ...]
    other_url: str | None = None
    archive_url: str | None = None
    proxy: str | None = None
    file_keys: tuple[Secret, ...] = ()

    @property
    def name(self) -> str:
        """Whose quota it is, and whose pauses: the name that feeds of one service share."""
        return account_name(self.provider.name)

    def api_keys(self) -> tuple[str, ...]:
        """Return the keys that the provider takes; none where it takes none.

        Raises
        ------
        NotSet
            If one is missing; the message names its variables.
        UsageError
            If one can't be one.
        """
        held = (*self.keys, *[None] * len(self.provider.key_variables))
        return tuple(
            _checked(self.provider, names, key)
            for names, key in zip(self.provider.key_variables, held, strict=False)
        )


def variables_of(provider: Provider) -> dict[str, Variable]:
    """Return the variables of a provider's account, but for its keys, by what they say."""
    name, where = account_name(provider.name).upper(), _where(provider)
    other = (
        {"other_url": Variable((provider.other_variable,), provider.other_meaning, str)}
        if isinstance(provider, OtherHost)
        else {}
    )
    archive = (
        {"archive_url": Variable((provider.archive_variable,), provider.archive_meaning, str)}
        if isinstance(provider, Archives)
        else {}
    )
    return {
        "url": Variable((f"{name}_URL",), f"where {where} is; before `BACKFILL_PROVIDER_URL`", str),
        "plan": Variable(
            (f"{name}_PLAN",),
            f"the plan at {where}{_classes(provider)}; before `BACKFILL_PLAN`",
            str,
        ),
        "quota": Variable(
            (f"{name}_QUOTA",),
            f"another quota than the plan's at {where}; before `BACKFILL_QUOTA`",
            str,
        ),
        **other,
        **archive,
    }


def keys_of(provider: Provider) -> list[Variable]:
    """Return the variables of a provider's keys."""
    meaning = f"a key of {_where(provider)}, sent in a header only. Secret"
    return [Variable(names, meaning, Secret) for names in provider.key_variables]


def file_keys_of(provider: Provider) -> list[Variable]:
    """Return the variables of the keys of a provider's files, where those take any."""
    if not isinstance(provider, MarketArchives):
        return []
    files = f"{_where(provider)}'s flat files"
    meaning = f"a key of {files}, which are read where both are set. Secret"
    return [Variable((name,), meaning, Secret) for name in provider.file_key_variables]


def read_account(provider: Provider) -> AccountSettings:
    """Return what the environment says of an account with a provider."""
    values = {what: _first(said_by(one)) for what, one in variables_of(provider).items()}
    keys, file_keys = (
        [[Secret(text) for _, text in said_by(one)] for one in variables]
        for variables in (keys_of(provider), file_keys_of(provider))
    )
    return AccountSettings(
        **values,
        keys=tuple(held[0] if held else None for held in keys),
        file_keys=tuple(held[0] if held else None for held in file_keys),
        secrets=tuple(key for held in (*keys, *file_keys) for key in held),
    )


def account_of(
    provider: Provider, said: AccountSettings, default: AccountSettings, adjustment: str | None
) -> Account:
    """Return an account by what is said of it, else by ``default``, else as the provider has it.

    Raises
    ------
    UsageError
        If something said can't be meant; the message names the variable.
    """
    names = {what: one.names[0] for what, one in variables_of(provider).items()}
    common = {"url": "BACKFILL_PROVIDER_URL", "plan": "BACKFILL_PLAN", "quota": "BACKFILL_QUOTA"}
    url = said.url or default.url or provider.base_url
    if not is_base_url(url):
        name = names["url"] if said.url else common["url"]
        raise UsageError(f"{name} must be a URL like {provider.base_url}")
    other_url = archive_url = None
    if isinstance(provider, OtherHost):
        other_url = _beside(names["other_url"], said.other_url, provider.other_url)
    if isinstance(provider, Archives):
        # Bars of another place and the public files would be mixed.
        usual = provider.archive_url if url == provider.base_url else None
        if said.archive_url or usual:
            archive_url = _beside(names["archive_url"], said.archive_url, provider.archive_url)
    try:
        terms = terms_of(provider, said.plan or default.plan or "free")
    except UsageError as error:
        raise UsageError(f"{names['plan'] if said.plan else common['plan']} {error}") from None
    quota = said.quota or default.quota
    try:
        held = terms.quota if quota is None else Quota.parse(quota)
        held.check(provider.can.cost)
    except UsageError as error:
        raise UsageError(f"{names['quota'] if said.quota else common['quota']}: {error}") from None
    adjusted = adjustment or provider.can.adjustments[0]
    file_keys = _file_keys(provider, said.file_keys)
    if isinstance(provider, MarketArchives) and not file_keys:
        archive_url = None
    return Account(
        provider, url, terms, held, adjusted, said.keys, other_url, archive_url, file_keys=file_keys
    )


def _beside(name: str, said: str | None, usual: str) -> str:
    """Return where something that a provider has beside its service is."""
    url = said or usual
    if not is_base_url(url):
        raise UsageError(f"{name} must be a URL like {usual}")
    return url


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
        {
            asset_type: _plan_named(provider, chosen[name]).of(asset_type)
            for name in others
            for asset_type in provider.plan_classes[name]
        },
    )


def secrets_of(said: Iterable[AccountSettings]) -> list[str]:
    """Return every key that is said of some accounts, each once."""
    held = [
        key for one in said for key in (*one.keys, *one.file_keys, *one.secrets) if key is not None
    ]
    return list(dict.fromkeys(key.reveal().strip() for key in held))


def _file_keys(provider: Provider, said: tuple[Secret | None, ...]) -> tuple[Secret, ...]:
    """Return the keys of a provider's files, all of them or none."""
    held = tuple(key for key in said if key is not None and key.reveal().strip())
    if held and isinstance(provider, MarketArchives) and len(held) < len(said):
        names = " and ".join(provider.file_key_variables)
        raise UsageError(f"{names} go together: set both, or neither")
    return held


def _checked(provider: Provider, names: tuple[str, ...], secret: Secret | None) -> str:
    said = " or ".join(names)
    key = secret.reveal().strip() if secret else ""
    if not key:
        empty = [one for name in names for one in (name, file_name(name)) if one in os.environ]
        are = "are" if len(empty) > 1 else "is"
        what = f"{' and '.join(empty)} {are} empty" if empty else f"set {said}"
        raise NotSet(f"no key for {provider.name}: {what}", advice=_advice(provider))
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"{said} holds characters that no key has")
    return key


def keyless() -> list[Provider]:
    """Return the providers that take no key, but for those that nobody is led to."""
    return [
        one
        for one in PROVIDERS.values()
        if not one.key_variables and not isinstance(one, ByNameOnly)
    ]


def _advice(provider: Provider) -> str:
    """Return where a key is had, and what there is without one."""
    *most, last = [one.name for one in keyless()]
    named = f"{', '.join(most)} or {last}" if most else last
    return (
        f"get one at {provider.keys_at}. Without a key: backfill simulate serves a market to try, "
        f"--provider {named} needs none"
    )


def _classes(provider: Provider) -> str:
    """How a plan per asset class is said, where there are such plans."""
    if not provider.plan_classes:
        return ""
    example = ",".join(f"{name}:free" for name in provider.plan_classes)
    return f": one word for all, or a plan per asset class as `{example}`"


def _plan_named(provider: Provider, plan: str) -> Terms:
    if plan not in provider.terms:
        plans = ", ".join(provider.terms)
        raise UsageError(f"{plan!r} is not a plan of {provider.name}: choose from {plans}")
    return provider.terms[plan]


def _where(provider: Provider) -> str:
    return account_name(provider.name).capitalize()


def _first(said: list[tuple[str, str]]) -> str | None:
    return said[0][1] if said else None
