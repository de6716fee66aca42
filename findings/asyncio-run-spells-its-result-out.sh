#!/usr/bin/env bash
# asyncio.run (CPython 3.11 and 3.12; not 3.13) has its result spelled out by repr() when it puts the handler of
# Ctrl-C back: the handler is a partial of the task, `signal.signal` tries whether it is one of its
# enum's values, and the ValueError of that trial spells it. A dataclass of ten thousand series took
# 30 s and 2 GB for it, with nothing logged anywhere. Leave what is large out of the repr of what a
# command awaits: field(repr=False).
#
# Output seen: Python 3.11.7: repr() of the result was asked for 2 times
set -euo pipefail
python3 - <<'PYTHON'
import asyncio
import sys
from dataclasses import dataclass

SPELLED = []


@dataclass
class Result:
    large: bool = True

    def __repr__(self) -> str:
        SPELLED.append(1)
        return "Result"


async def work() -> Result:
    return Result()


asyncio.run(work())
print(f"Python {sys.version.split()[0]}: repr() of the result was asked for {len(SPELLED)} times")
assert bool(SPELLED) == (sys.version_info < (3, 13)), "another version of Python does it now"
PYTHON
