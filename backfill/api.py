"""backfill as a library: the same as the command ``run``, awaited.

>>> import asyncio
>>> from backfill import api
>>> from backfill.settings import AccountSettings, Settings
>>> job = api.Job(symbols=("AAPL",))
>>> summary = asyncio.run(api.run(Settings.load(), job))  # doctest: +SKIP
"""

from backfill.audit.repair import Findings, Repair, gaps, repair
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.run.connect import open_database
from backfill.run.execution import Running, plan, run, run_in
from backfill.run.job import Job
from backfill.run.outcomes import Summary
from backfill.run.planned import Plan
from backfill.settings import AccountSettings, Settings

__all__ = [
    "AccountSettings",
    "Bound",
    "Findings",
    "Job",
    "Mode",
    "Plan",
    "Repair",
    "Running",
    "Settings",
    "Summary",
    "gaps",
    "open_database",
    "plan",
    "repair",
    "run",
    "run_in",
]
