"""What became of bars that were written, in numbers."""

from backfill.core.dataclass import dataclass


@dataclass(slots=True)
class Counts:
    """What became of bars: new, corrected, there already, quarantined, withdrawn, ignored."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    withdrawn: int = 0
    ignored: int = 0

    def add(self, other: "Counts") -> None:
        """Add another's counts to these."""
        self.inserted += other.inserted
        self.updated += other.updated
        self.unchanged += other.unchanged
        self.rejected += other.rejected
        self.withdrawn += other.withdrawn
        self.ignored += other.ignored
