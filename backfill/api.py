"""backfill as a library: every verb of the command, awaited, and the values they take and return.

>>> import asyncio
>>> from backfill import api
>>> job = api.Job(symbols=("AAPL",))
>>> summary = asyncio.run(api.run(api.Settings.load(), job))  # doctest: +SKIP
"""

from backfill.admin import actions, names, symbols, watchlist
from backfill.admin.query import answer
from backfill.admin.schema import adopt, migrate
from backfill.audit import doctor, quarantine
from backfill.audit.against import Against, verify
from backfill.audit.bars import Question, looked_up
from backfill.audit.export import Exported, ExportJob, export
from backfill.audit.health import Health, health
from backfill.audit.overview import Overview, overview
from backfill.audit.queue import QueueState, queue_state
from backfill.audit.repair import Findings, Repair, gaps, repair
from backfill.audit.status import SeriesStatus, status
from backfill.core.filed import Reading
from backfill.core.tolerance import Tolerances
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.run.connect import open_database
from backfill.run.execution import Running, plan, run, run_in
from backfill.run.file_job import FileJob
from backfill.run.filing import FilePlan
from backfill.run.importing import import_file, plan_import
from backfill.run.job import Job, Scope
from backfill.run.outcomes import Summary
from backfill.run.pace import Progress
from backfill.run.planned import Plan
from backfill.run.rounds import Ending, Waiting, run_rounds
from backfill.settings import AccountSettings, Secret, Settings
from backfill.settings.offers import Offer, offers
from backfill.workers import queue
from backfill.workers.enqueue import Enqueued
from backfill.workers.queue import enqueue

__all__ = [
    "AccountSettings",
    "Against",
    "Bound",
    "Ending",
    "Enqueued",
    "ExportJob",
    "Exported",
    "FileJob",
    "FilePlan",
    "Findings",
    "Health",
    "Job",
    "Mode",
    "Offer",
    "Overview",
    "Plan",
    "Progress",
    "Question",
    "QueueState",
    "Reading",
    "Repair",
    "Running",
    "Scope",
    "Secret",
    "SeriesStatus",
    "Settings",
    "Summary",
    "Tolerances",
    "Waiting",
    "actions",
    "adopt",
    "answer",
    "doctor",
    "enqueue",
    "export",
    "gaps",
    "health",
    "import_file",
    "looked_up",
    "migrate",
    "names",
    "offers",
    "open_database",
    "overview",
    "plan",
    "plan_import",
    "quarantine",
    "queue",
    "queue_state",
    "repair",
    "run",
    "run_in",
    "run_rounds",
    "status",
    "symbols",
    "verify",
    "watchlist",
]
