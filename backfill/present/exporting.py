"""What an export did, as people see it."""

from typing import TYPE_CHECKING

from backfill.present.tables import amount, console

if TYPE_CHECKING:
    from backfill.api import Exported


def exported(done: "Exported") -> None:
    """Print what lies there now, and what of it is new."""
    what = "adjusted bars" if done.adjusted else "bars"
    news = [
        *([f"{amount(done.bars_written, 'bar')} written"] if done.written else ["nothing new"]),
        *([f"{amount(done.removed, 'file')} removed"] if done.removed else []),
    ]
    if done.reloading:
        news.append(f"{done.reloading:,} series only in part, being loaded again")
    console().print_wrapped(
        f"{done.out}: {done.bars:,} {what} of {done.series:,} series in "
        f"{amount(done.partitions, 'file')} ({done.format}); {', '.join(news)}."
    )
