"""What `doctor` has found, a line for each thing."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from backfill.present.tables import console

if TYPE_CHECKING:
    from backfill.audit.doctor import Finding

_STYLES: Final = {"ok": "green", "warning": "yellow", "wrong": "red", "failed": "red"}


def told(findings: Iterable["Finding"]) -> None:
    """Print what was found, and what mends it."""
    out = console()
    for one in findings:
        mend = f"; {one.mend}" if one.mend else ""
        out.print_head(f"{one.state:<8}", _STYLES[one.state], f"{one.check:<13}{one.said}{mend}")


def as_dict(findings: Iterable["Finding"], exit_code: int) -> dict[str, Any]:
    """Return what was found as JSON's own types."""
    return {
        "exit_code": exit_code,
        "findings": [
            {"check": one.check, "state": str(one.state), "said": one.said, "mend": one.mend}
            for one in findings
        ],
    }
