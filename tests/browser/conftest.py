"""Debian's Chromium, driven by Playwright, that hears of whatever a page does beside showing."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.conftest import database_url, settings_here, shared_url  # fixtures

__all__ = ["database_url", "settings_here", "shared_url"]

_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option by which pictures are taken."""
    parser.addoption("--pictures", metavar="FOLDER", help="take the pictures of the docs anew")


@dataclass
class Shown:
    """A page in the browser, what it complained of, and the addresses that it asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def assert_quiet(self, address: str) -> None:
        """Nothing on the console, and no request but for the page itself."""
        assert self.complaints == []
        assert set(self.asked) <= {address, "data:,"}


@pytest.fixture
def opened() -> Callable[..., AbstractContextManager[Shown]]:
    """Open an address in a browser of its own; options as of Playwright's contexts.

    Playwright keeps a loop running in this thread meanwhile: nothing else that wants one goes then.
    """
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    assert program is not None, "install Chromium: apt-get install chromium"

    @contextmanager
    def opening(address: str, **options: Any) -> Iterator[Shown]:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program)
            shown = Shown(browser.new_context(**options).new_page())
            shown.page.on("console", lambda said: shown.complaints.append(said.text))
            shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
            shown.page.on("request", lambda request: shown.asked.append(request.url))
            shown.page.goto(address)
            yield shown
            browser.close()

    return opening


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Any, str], None]:
    """Take a picture of a page for the docs, if one is asked for."""
    folder = request.config.getoption("--pictures", default=None)

    def take(page: Any, name: str) -> None:
        if folder:
            page.screenshot(path=Path(folder) / name)

    return take
