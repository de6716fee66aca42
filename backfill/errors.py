"""Every error that backfill raises on purpose.

::

    BackfillError
    ├── UsageError                 exit 2   a flag, a setting or the environment is wrong
    │   ├── EmptyWatchlist
    │   ├── NotKnown               what is named isn't in the database
    │   └── NotSet                 a secret that is needed is empty, or isn't set
    ├── SharedFault                exit 3   a cause all series share; ends the run
    │   ├── DatabaseError
    │   │   ├── LoginRefused
    │   │   └── SchemaMismatch
    │   ├── Unauthorised
    │   ├── GeoBlocked             exit 1   of one provider: its lane ends, and no other
    │   ├── ClockAhead
    │   ├── ProviderDown
    │   └── Unforeseen             a fault of backfill's own
    ├── SeriesError                exit 1   ends one series, never the others
    │   ├── UnknownSymbol
    │   ├── NotEntitled
    │   ├── RateLimited            retried until the run's patience ends
    │   ├── SymbolsUsedUp          the same for weeks: not retried
    │   ├── ProviderError
    │   │   ├── FileMissing      an archive lacks the file: something else is asked
    │   │   └── ProviderUnavailable  retried: transport, 408, 425, 5xx
    │   ├── BadAnswer
    │   │   └── UnreadableAnswer   retried: a body that is no JSON of the expected shape
    │   ├── SourceMismatch
    │   ├── RowsDropped
    │   └── NotKept                what is written of it in the tables can't be meant
    │       └── NoCalendar
    ├── BeingLoaded                bars that are asked for may be on an old share basis, for now
    ├── UnreadableJob              a job of the queue that this version can't read
    ├── LeaseLost                  the series is another run's now: skipped, nothing failed
    └── Stopped                    the run ends early and can be resumed
        ├── LimitReached           exit 5   --deadline or --max-calls
        │   └── QuotaUsedUp        of one provider, for long: its lane ends, and no other
        └── Interrupted            exit 130 Ctrl-C, SIGTERM

A class knows its ``outcome`` (the word of the summary and the ledger) and its ``exit_code``.
Nothing above the provider that read an answer looks at the text of a message.
"""

from typing import ClassVar


class BackfillError(Exception):
    """Base of every error raised on purpose; as a text it is one line a user can act on.

    ``mend`` is the command that mends it, or shows what does, where there is one.
    """

    outcome: ClassVar[str] = "provider_error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, mend: str | None = None) -> None:
        super().__init__(message)
        self.mend = mend

    def __str__(self) -> str:
        """Return the message, and the command to type."""
        message = super().__str__()
        return f"{message}; run: {self.mend}" if self.mend else message

    def let_go(self) -> None:
        """Hold no longer what the frames that raised it hold: an answer of 64 MiB, say.

        One that came out of the reader's thread is part of a circle, too, which Python looks for
        only now and then. What it has to say is in its message.
        """
        error: BaseException | None = self
        while error is not None:
            error.__traceback__ = None
            error = error.__context__


class UsageError(BackfillError):
    """A flag, a setting or the environment is wrong; nothing was called."""

    exit_code = 2


class EmptyWatchlist(UsageError):
    """The watchlist has no entry that isn't paused."""


class NotKnown(UsageError):
    """What is named, a symbol or series of one, isn't in the database."""


class NotSet(UsageError):
    """A secret that is needed is empty, as one is on GitHub that was never made, or isn't set.

    ``advice`` is where it is had, and what there is without it.
    """

    def __init__(self, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class SharedFault(BackfillError):
    """A cause that every series shares; the run ends."""

    exit_code = 3


class DatabaseError(SharedFault):
    """The database can't be reached, or refused a statement."""

    outcome = "database_error"


class LoginRefused(DatabaseError):
    """There is a server, but it doesn't know the user, the password or the database.

    Or the user may not use the queue there.
    """


class SchemaMismatch(DatabaseError):
    """The schema is not this version's: newer, older, changed by hand, or just being changed."""


class Unauthorised(SharedFault):
    """The provider refused the key (401)."""

    outcome = "unauthorised"


class GeoBlocked(SharedFault):
    """The provider refuses calls from where this machine is (451): no outage, and no key mends it.

    It says nothing of the other providers, nor of whether this one is up.
    """

    outcome = "geo_blocked"
    exit_code = 1


class ClockAhead(SharedFault):
    """The run's clock is ahead of the provider's: it would take a forming bar for a final one."""


class ProviderDown(SharedFault):
    """The provider answers nobody: the breaker is open."""


class Unforeseen(SharedFault):
    """An error that nobody meant to raise: a fault of backfill's own."""

    @classmethod
    def of(cls, error: BaseException) -> "Unforeseen":
        """Return what to tell of an error; of a group the first of it."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        return cls(
            f"a fault of backfill's own ({type(error).__name__}: {error}); what is stored stays, "
            "and the next run goes on from there; please report it with the traceback"
        )


class SeriesError(BackfillError):
    """Ends one series; the others go on."""


class UnknownSymbol(SeriesError):
    """The provider's reference doesn't know the ticker."""

    outcome = "unknown_symbol"


class NotEntitled(SeriesError):
    """The plan may not read the range or the symbol (403)."""

    outcome = "not_entitled"


class RateLimited(SeriesError):
    """The provider asked to slow down (429).

    ``retry_after_s`` is what its ``Retry-After`` header asked for, in seconds, if it had one.
    """

    outcome = "rate_limited"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SymbolsUsedUp(SeriesError):
    """The plan's number of different symbols is used up for weeks: a later call is refused, too.

    That is so of this symbol alone: the others are asked for all the same.
    """

    outcome = "rate_limited"


class ProviderError(SeriesError):
    """The provider answered with an error that another try won't mend."""


class FileMissing(ProviderError):
    """The archive has no such file (404): shorter ones, or calls, are asked instead."""


class ProviderUnavailable(ProviderError):
    """No answer, or one that says to come back: transport errors, 408, 425, 5xx."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BadAnswer(SeriesError):
    """An answer that was read and refused whole: not what was asked for."""

    outcome = "bad_answer"


class UnreadableAnswer(BadAnswer):
    """A body that is no JSON of the expected shape, or larger than a page can be."""


class SourceMismatch(SeriesError):
    """The series holds bars of another provider, feed or adjustment."""

    outcome = "source_mismatch"


class RowsDropped(SeriesError):
    """The table of bars has a rule of its own by which it didn't keep what was written."""

    outcome = "database_error"


class NotKept(SeriesError):
    """What the tables say of a series can't be meant: a depth, a calendar, a timeframe."""

    outcome = "database_error"


class NoCalendar(NotKept):
    """A symbol's calendar isn't one that is kept, or has no session."""


class BeingLoaded(BackfillError):
    """Bars that are asked for are being loaded again: some may be on the basis before a split."""


class UnreadableJob(BackfillError):
    """A job of the queue says what this version can't read; it is held, the others go on."""


class LeaseLost(BackfillError):
    """Another run has taken the series over; this one leaves it."""


class Stopped(BackfillError):
    """The run ends before its work does; another run resumes it."""

    exit_code = 5


class LimitReached(Stopped):
    """``--deadline`` or ``--max-calls`` is used up."""


class QuotaUsedUp(LimitReached):
    """The next call to one provider may be sent only after a long wait; the others go on.

    ``wait_s`` is how long that is, in seconds.
    """

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Interrupted(Stopped):
    """Ctrl-C or SIGTERM."""

    exit_code = 130
