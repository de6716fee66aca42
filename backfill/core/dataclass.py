"""Dataclasses that are made quickly: for the modules that every command loads.

`dataclasses` (Python 3.11) compiles up to six functions for a class, which takes longer than all
else of loading it: a third of what a command takes that finds nothing to do. Only ``__init__`` has
to be compiled for each class, so here only that is. For ``fields``, ``replace``, ``asdict`` and
type checkers it is a dataclass like any other.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

__all__ = ["dataclass"]

_Class = TypeVar("_Class", bound=type[Any])

_NOT_GIVEN: Final = object()
"""The default of a parameter that a factory makes the value of."""


def _dataclass(
    *, frozen: bool = False, slots: bool = False, eq: bool = True, kw_only: bool = False
) -> Callable[[_Class], _Class]:
    """Make a class a dataclass, as ``dataclasses.dataclass`` does."""

    def make(cls: _Class) -> _Class:
        made: Any = dataclasses.dataclass(
            init=False, repr=False, eq=False, slots=slots, kw_only=kw_only
        )(cls)
        every = fields(made)
        methods: dict[str, Any] = {"__init__": _init(every, hasattr(cls, "__post_init__"))}
        methods["__repr__"] = _repr
        if eq:
            methods |= _comparing([one.name for one in every if one.compare], frozen=frozen)
        if frozen:
            methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
        if frozen and slots:
            methods |= {"__getstate__": _state, "__setstate__": _restore}
        for name, method in methods.items():
            if name not in cls.__dict__:
                setattr(made, name, method)
        return made  # type: ignore[no-any-return]  # the class, or its twin with slots

    return make


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = _dataclass


def _init(every: Sequence["Field[Any]"], then: bool) -> Callable[..., None]:  # noqa: FBT001
    """Compile an ``__init__`` that sets each field, and calls ``__post_init__`` ``then``."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_NOT_GIVEN": _NOT_GIVEN}
    by_place, by_name, body = ["self"], ["*"], []
    for one in every:
        name = value = parameter = one.name
        default = f"_default_{name}"
        if one.default is not MISSING:
            known[default] = one.default
            parameter = f"{name}={default}"
        elif one.default_factory is not MISSING:
            known[default] = one.default_factory
            parameter = f"{name}=_NOT_GIVEN"
            value = f"{default}() if {name} is _NOT_GIVEN else {name}"
        (by_name if one.kw_only else by_place).append(parameter)
        body.append(f" _set(self, {name!r}, {value})")
    if then:
        body.append(" self.__post_init__()")
    given = ", ".join(by_place + (by_name if len(by_name) > 1 else []))
    exec("\n".join([f"def __init__({given}):", *(body or [" pass"])]), known)  # noqa: S102
    made: Callable[..., None] = known["__init__"]
    made.__annotations__ = {one.name: one.type for one in every} | {"return": None}
    return made


def _comparing(names: Sequence[str], *, frozen: bool) -> dict[str, Any]:
    """Return the methods that tell values apart by some of their fields."""
    key: Callable[[Any], object] = attrgetter(*names) if names else type

    def is_equal(self: object, other: object) -> bool:
        return key(self) == key(other) if type(other) is type(self) else NotImplemented

    def hashed(self: object) -> int:
        return hash(key(self))

    return {"__eq__": is_equal, "__hash__": hashed if frozen else None}


def _repr(value: Any) -> str:
    shown = [one.name for one in fields(value) if one.repr]
    told = ", ".join(f"{name}={getattr(value, name)!r}" for name in shown)
    return f"{type(value).__qualname__}({told})"


def _refuse(_value: object, name: str, *_: object) -> NoReturn:
    raise FrozenInstanceError(f"{name!r} can be neither set nor deleted")


def _state(value: Any) -> list[object]:
    return [getattr(value, one.name) for one in fields(value)]


def _restore(value: Any, state: Sequence[object]) -> None:
    for one, held in zip(fields(value), state, strict=True):
        object.__setattr__(value, one.name, held)
