import doctest
import pkgutil
from importlib import import_module

import pytest

import backfill.core

MODULES = [module.name for module in pkgutil.iter_modules(backfill.core.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(import_module(f"backfill.core.{name}")).failed == 0


def test_the_core_has_examples_to_try() -> None:
    tried = [doctest.testmod(import_module(f"backfill.core.{name}")).attempted for name in MODULES]
    assert sum(tried) >= 6
