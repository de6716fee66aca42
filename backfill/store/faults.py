"""What can go wrong between us and a database: which of it passes, and how it is told."""

import asyncio
import ssl
from typing import Any, Final

import asyncpg

from backfill.errors import BackfillError, DatabaseError, LoginRefused, UsageError

FAULTS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
FULL: Final = (asyncpg.TooManyConnectionsError, asyncpg.ProtocolViolationError)
"""The server, or the pooler before it, takes no more sessions of this login."""

_LOGIN: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
_PASSING: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.TransactionTimeoutError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_LASTING: Final = (ssl.SSLCertVerificationError, asyncpg.ClientConfigurationError)
_UNTOLD: Final = (ConnectionError, asyncpg.ProtocolViolationError)
_SAID_TO_LAST: Final = (
    "rejected SSL upgrade",  # asyncpg 0.32; the type is that of any lost connection
    "does not exist",  # PgBouncer 1.18; the type is that of a pooler that is full
    "no such database",
    "password authentication failed",
)
"""Words of what no later try mends, where the error's type doesn't tell."""
_LOST: Final = "another operation (2) is in progress"
"""How asyncpg (0.32) says that it is in the midst of an error that it didn't ask for."""


def passes(error: BaseException) -> bool:
    """Whether what failed may well succeed in a moment."""
    if isinstance(error, _LASTING):
        return False
    if type(error) in _UNTOLD and any(words in str(error) for words in _SAID_TO_LAST):
        return False
    return isinstance(error, _PASSING)


def said(error: BaseException | None) -> str:
    """Return what a fault says, on one line; it is shortened where it leaves, without secrets."""
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "no server of DATABASE_URL is what target_session_attrs asks for"
    text = str(error).strip() or type(error).__name__
    if isinstance(error, asyncpg.InternalClientError) and _LOST in text:
        return "the server ended the session between two statements"
    return " ".join(text.split())


def tell_unless_lost(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tell of an error that nobody awaited, as a loop does, but for that a session is gone.

    Whoever works in a session learns of its end there. asyncpg (0.32) has one future more for it
    where it ends between two statements, the next of which is a COPY
    (`findings/asyncpg-forgets-a-copy-in-an-ended-session.sh`).
    """
    if not isinstance(context.get("exception"), asyncpg.ConnectionDoesNotExistError):
        loop.default_exception_handler(context)


def unreachable(error: Exception) -> BackfillError:
    """Return the error to raise where no connection came about."""
    if isinstance(error, asyncpg.ClientConfigurationError):
        return UsageError(f"DATABASE_URL can't be used: {said(error)}")
    if isinstance(error, UnicodeError):
        return UsageError("DATABASE_URL can't be used: its host is no name of a host")
    if isinstance(error, ssl.SSLCertVerificationError):
        return DatabaseError(f"the database's certificate is refused: {error.verify_message}")
    kind = LoginRefused if isinstance(error, _LOGIN) else DatabaseError
    return kind(f"the database can't be reached: {said(error)}")
