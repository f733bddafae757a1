"""API keys in the database of the history, so that all services on it know the same ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from vigie.config import Settings
from vigie.errors import ConflictError, InvalidDataError
from vigie.history.address import history_url
from vigie.history.records import microseconds, time_of
from vigie.history.store import History
from vigie.keys import ApiKey, Scope

_COLUMNS = "id, name, digest, scopes, created_us, used_us, expires_us, revoked_us"
ALL = text(f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_us, id")
ADD = text(
    f"INSERT INTO api_keys ({_COLUMNS}) VALUES "
    "(:id, :name, :digest, :scopes, :created_us, NULL, :expires_us, NULL)"
)
NAMED = text(f"SELECT {_COLUMNS} FROM api_keys WHERE name = :name AND revoked_us IS NULL")
BY_ID = text(f"SELECT {_COLUMNS} FROM api_keys WHERE id = :id")
REVOKE = text("UPDATE api_keys SET revoked_us = :now_us WHERE id = :id AND revoked_us IS NULL")
# Several services may have seen the key.
USED = text(
    "UPDATE api_keys SET used_us = :used_us "
    "WHERE id = :id AND (used_us IS NULL OR used_us < :used_us)"
)


class KeyStore:
    """The table of keys; thread-safe.

    It exists with or without stored readings: ``VIGIE_HISTORY_ENABLED=false`` does not turn it off.

    Parameters
    ----------
    settings : Settings
        Where the history is.

    Raises
    ------
    HistoryError
        From every method too, if the database fails.
    """

    def __init__(self, settings: Settings):
        self._history = History(history_url(settings))

    @property
    def is_gone(self) -> bool:
        """Whether the file was deleted or replaced, so that another one must be opened."""
        return self._history.is_gone

    @property
    def place(self) -> str:
        """Where the table is, without a password."""
        return self._history.engine.url.render_as_string(hide_password=True)

    def all(self) -> list[ApiKey]:
        """Return all keys, oldest first; also those that are revoked or expired."""
        with self._history.connection(writes=False) as connection:
            return [_key(row) for row in connection.execute(ALL)]

    def add(self, key: ApiKey) -> None:
        """Store a new key.

        Raises
        ------
        ConflictError
            If another key that is not revoked has its name.
        """
        with self._history.connection() as connection:
            if row := connection.execute(NAMED, {"name": key.name}).first():
                other = _key(row)
                raise ConflictError(
                    f"There is a key {key.name!r} already ({other.id}).",
                    field="NAME",
                    remedy=f"Give another name, or first: `vigie keys revoke {other.id}`.",
                )
            connection.execute(
                ADD,
                {
                    "id": key.id,
                    "name": key.name,
                    "digest": key.digest,
                    "scopes": " ".join(sorted(key.scopes)),
                    "created_us": microseconds(key.created),
                    "expires_us": key.expires and microseconds(key.expires),
                },
            )

    def revoke(self, which: str) -> ApiKey:
        """Revoke a key by its id, or by its name; return it as it was.

        Raises
        ------
        InvalidDataError
            If there is none.
        """
        with self._history.connection() as connection:
            for statement, parameter in ((BY_ID, "id"), (NAMED, "name")):
                if row := connection.execute(statement, {parameter: which}).first():
                    key = _key(row)
                    now_us = microseconds(datetime.now(UTC))
                    connection.execute(REVOKE, {"id": key.id, "now_us": now_us})
                    return key
        raise InvalidDataError(
            f"There is no key {which!r} to revoke.",
            field="KEY",
            remedy="`vigie keys list` shows them.",
        )

    def note_use(self, number: str, used: datetime) -> None:
        """Store when a key was last used, unless a later use is stored."""
        with self._history.connection() as connection:
            connection.execute(USED, {"id": number, "used_us": microseconds(used)})

    def close(self) -> None:
        """Close all connections to the database."""
        self._history.close()


def _key(row: Any) -> ApiKey:
    number, name, digest, scopes, *times = row
    created, used, expires, revoked = (None if us is None else time_of(us) for us in times)
    known = frozenset(Scope(word) for word in scopes.split() if word in [*Scope])
    return ApiKey(number, name, digest, known, created or time_of(0), used, expires, revoked)
