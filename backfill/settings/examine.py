"""Each setting looked at by itself: where one can't be meant, the others are read all the same."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Final

from backfill.errors import UsageError
from backfill.providers import spoken_of
from backfill.providers.base import Provider
from backfill.settings import Settings
from backfill.settings.account import (
    AccountSettings,
    file_keys_of,
    keys_of,
    read_account,
    variables_of,
)
from backfill.settings.environment import Variable, read_variable, said_by, variable_of

_OURS: Final = "BACKFILL_"
_OF_THE_DEFAULT: Final = ("provider_url", "plan", "quota_override", "adjustment_override")
"""The fields that mean nothing where it isn't known which provider is the default one."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What the environment says, as far as it can be meant, and what of it can't.

    ``said`` are the names of the variables that are set. ``strange`` are names that begin as ours
    do and are none, each with what it may have been meant for.
    """

    settings: Settings
    faults: tuple[UsageError, ...]
    said: tuple[str, ...]
    strange: tuple[tuple[str, str | None], ...]


def examine() -> Examined:
    """Look at every variable of the environment; one that can't be meant is left out, and told."""
    settings, faults = Settings(), []
    for step in _steps():
        try:
            settings = step(settings)
        except UsageError as error:
            faults.append(error)
    known = _variables()
    said = tuple(name for one in known for name in _said(one))
    names = [name for one in known for name in one.all_names]
    unknown = sorted(one for one in os.environ if one.startswith(_OURS) and one not in names)
    strange = tuple((one, next(iter(get_close_matches(one, names, n=1)), None)) for one in unknown)
    return Examined(settings, tuple(faults), said, strange)


def _steps() -> Iterator[Callable[[Settings], Settings]]:
    """Yield what takes one variable after another into settings; each raises what is wrong."""
    has_default = True
    for one in fields(Settings):
        source = variable_of(one)
        if source is None or not (has_default or one.name not in _OF_THE_DEFAULT):
            continue
        if one.name == "provider_name":
            has_default = _is_taken(source)
        yield _field(one.name, source)
    for provider in spoken_of(os.environ):
        for part in fields(AccountSettings):
            yield _part_of_account(provider, part.name)


def _field(name: str, source: Variable) -> Callable[[Settings], Settings]:
    def taken(settings: Settings) -> Settings:
        said = read_variable(source)
        values: dict[str, Any] = {} if said is None else {name: said}
        return replace(settings, **values)

    return taken


def _is_taken(source: Variable) -> bool:
    """Whether there is a provider of the name that is said, or none is said."""
    try:
        _field("provider_name", source)(Settings())
    except UsageError:
        return False
    return True


def _part_of_account(provider: Provider, part: str) -> Callable[[Settings], Settings]:
    def taken(settings: Settings) -> Settings:
        values: dict[str, Any] = {part: getattr(read_account(provider), part)}
        account = replace(settings.accounts.get(provider.name, AccountSettings()), **values)
        return replace(settings, accounts={**settings.accounts, provider.name: account})

    return taken


def _said(variable: Variable) -> list[str]:
    """Return the names under which a variable is said, if it can be read."""
    try:
        return [name for name, _ in said_by(variable)]
    except UsageError:
        return []


def _variables() -> list[Variable]:
    """Return every variable that means something: the common ones, and those of accounts."""
    common = (variable_of(one) for one in fields(Settings))
    found = [one for one in common if one is not None]
    for provider in spoken_of(os.environ):
        found += variables_of(provider).values()
        found += [*keys_of(provider), *file_keys_of(provider)]
    return found
