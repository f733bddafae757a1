"""The tables of the history, and how those that an earlier Vigie has made become today's.

What the tables are is said by the revisions in ``migrations/versions``, from the first on, and by
nothing else: a new database goes through all of them, an old one through those that it lacks.
"""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from vigie.errors import HistoryError

NEWEST = "0002"
"""The revision that this code works with, said here so that Alembic is only imported to change
something."""
VERSION_TABLE = "history_version"
"""Alembic's own name for it is taken where MLflow has its tables in the same database."""

_alembic = threading.Lock()
"""What Alembic is doing stands in a module of its own: one thing at a time in a process."""


def upgrade(connection: Connection) -> None:
    """Bring the tables up to date, in the transaction of a connection, all or nothing.

    Whoever else may want the same waits for that transaction: the caller holds the lock.

    Raises
    ------
    HistoryError
        If a newer Vigie has made them.
    """
    noted = _noted(connection)
    if noted == NEWEST:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    # A percent sign would ask for another option's value.
    folder = str(Path(__file__).with_name("migrations")).replace("%", "%%")
    config.set_main_option("script_location", folder)
    try:
        with _alembic:
            if noted is None and (unnoted := _unnoted(connection)):
                command.stamp(config, unnoted)
            command.upgrade(config, NEWEST)
    except CommandError as error:
        refusal = HistoryError(
            f"The history has been used by a newer Vigie: its tables have revision {noted}, and "
            f"this one knows them up to {NEWEST}.",
            remedy="Go back to the newer Vigie, or restore the copy from before the upgrade.",
        )
        refusal.is_outage = True
        raise refusal from error


def _noted(connection: Connection) -> str | None:
    """Return the revision that a database is noted to have; None if nothing is noted in it."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    noted: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return noted


def _unnoted(connection: Connection) -> str | None:
    """Return the revision of tables from the time before revisions were noted, if there are any."""
    found = inspect(connection)
    if not found.has_table("readings"):
        return None
    return "0002" if found.get_unique_constraints("readings") else "0001"
