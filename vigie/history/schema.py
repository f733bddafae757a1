"""Create and upgrade the tables of the history.

The revisions in ``migrations/versions`` alone define the tables: a new database runs all of them,
an old one those that are missing.
"""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from vigie.errors import HistoryError

NEWEST = "0010"
"""The revision that this code needs; repeated here so that only an upgrade imports Alembic."""
VERSION_TABLE = "history_version"
"""Not Alembic's default name, which MLflow uses if it shares the database."""

_alembic = threading.Lock()
"""Alembic has module-level state, so only one thread may use it."""


def upgrade(connection: Connection) -> None:
    """Upgrade the tables to the newest revision, in the connection's transaction.

    The caller holds a lock against concurrent upgrades.

    Raises
    ------
    HistoryError
        If a newer Vigie has upgraded them.
    """
    revision = _recorded_revision(connection)
    if revision == NEWEST:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    # ConfigParser interpolates percent signs.
    folder = str(Path(__file__).with_name("migrations")).replace("%", "%%")
    config.set_main_option("script_location", folder)
    try:
        with _alembic:
            if revision is None and (inferred := _inferred_revision(connection)):
                command.stamp(config, inferred)
            command.upgrade(config, NEWEST)
    except CommandError as error:
        refusal = HistoryError(
            f"A newer Vigie has upgraded the history: its tables have revision {revision}, but "
            f"this version supports revisions up to {NEWEST}.",
            remedy="Use the newer Vigie, or restore the backup from before the upgrade.",
        )
        refusal.is_outage = True
        raise refusal from error


def _recorded_revision(connection: Connection) -> str | None:
    """Return the revision that a database records; None if it records none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return revision


def _inferred_revision(connection: Connection) -> str | None:
    """Return the revision of tables from before revisions were recorded; None without tables."""
    inspector = inspect(connection)
    if not inspector.has_table("readings"):
        return None
    return "0002" if inspector.get_unique_constraints("readings") else "0001"
