"""A build of the command, so that another checkout can be measured beside this one."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Build:
    """One build of the command: its name, and the checkout that holds it."""

    name: str
    python: Path
    folder: Path


HERE: Final = Build("this build", Path(sys.executable), Path(__file__).parents[1])


def builds_with(beside: Path | None) -> list[Build]:
    """Return this build, and before it that of a checkout with a virtual environment of its own."""
    if beside is None:
        return [HERE]
    return [Build("the other", beside / ".venv" / "bin" / "python", beside), HERE]
