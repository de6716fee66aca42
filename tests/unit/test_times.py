"""Spans as Postgres reads them."""

import re
from datetime import datetime

import pytest

from backfill.core.coverage import Spans
from backfill.store.times import to_ms, to_text


@pytest.mark.parametrize("many", [3, 250])
def test_spans_are_spelled_as_the_same_instants_however_many_they_are(many: int) -> None:
    spans = Spans.of(*((at, at + 61_001) for at in range(-(10**12), 10**12, 2 * 10**12 // many)))
    told = re.fullmatch(r"\{(.*)\}", to_text(spans))
    assert told is not None
    bounds = [to_ms(datetime.fromisoformat(one)) for one in re.findall(r"[^][(),]+", told[1])]
    assert bounds == [bound for span in spans for bound in span]
    assert told[1].count("[") == told[1].count(")") == len(spans) >= many
