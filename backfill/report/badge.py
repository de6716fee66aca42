"""A badge for a README, as shields.io reads it: https://shields.io/badges/endpoint-badge."""

from typing import Final

from backfill.core.plain import json_text
from backfill.present.tables import amount
from backfill.report.facts import Facts

_SCHEMA: Final = 1


def badge_of(facts: Facts) -> str:
    """Return the badge as a line of JSON: in a word how it stands, with a colour for that."""
    message, color = _told(facts)
    badge = {"schemaVersion": _SCHEMA, "label": "backfill", "message": message, "color": color}
    return json_text(badge)


def _told(facts: Facts) -> tuple[str, str]:
    """Say what is worst of it.

    The problems that this passes over, such as a split that may be one, make no badge red. Series
    that nobody watches are not judged, and none of them is called fresh.
    """
    if not facts.series:
        return "no series", "lightgrey"
    if facts.stale:
        return f"{facts.stale:,} of {facts.judged:,} stale", "red"
    if facts.missing:
        return f"{amount(facts.missing, 'bar')} missing", "orange"
    if facts.problems:
        return amount(len(facts.problems), "problem"), "yellow"
    if not facts.judged:
        return "nothing watched", "lightgrey"
    return f"{amount(facts.judged, 'series', 'series')} fresh", "brightgreen"
