"""Which tables PgQueuer works with: those of the migrations, whatever its own variables say."""

from functools import cache

from pgqueuer import Queries
from pgqueuer.adapters.persistence.qb import (
    QueryBuilderEnvironment,
    QueryQueueBuilder,
    QuerySchedulerBuilder,
)
from pgqueuer.domain.settings import DBSettings
from pgqueuer.domain.types import Channel
from pgqueuer.ports.driver import Driver


@cache
def names() -> DBSettings:
    """Return the names of what the migrations make; one that isn't said is the environment's."""
    return DBSettings(
        prefix="",
        db_schema="bf_jobs",
        channel=Channel("ch_pgqueuer"),
        function="fn_pgqueuer_changed",
        trigger="tg_pgqueuer_changed",
        queue_status_type="pgqueuer_status",
        queue_table="pgqueuer",
        queue_table_log="pgqueuer_log",
        statistics_table="pgqueuer_statistics",
        schedules_table="pgqueuer_schedules",
    )


def queries(driver: Driver) -> Queries:
    """Return PgQueuer's statements for these tables."""
    return Queries(
        driver,
        QueryBuilderEnvironment(names()),
        QueryQueueBuilder(names()),
        QuerySchedulerBuilder(names()),
    )
