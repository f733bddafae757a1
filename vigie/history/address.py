"""Where the history is."""

from __future__ import annotations

from vigie.config import Settings
from vigie.errors import HistoryError
from vigie.state import make_private


def history_url(settings: Settings) -> str:
    """Return the URL of the history; create the folder of the default SQLite file.

    Raises
    ------
    HistoryError
        If the folder cannot be created.
    """
    if settings.history_url:
        return settings.history_url
    try:
        make_private(settings.state_dir)
    except OSError as error:
        raise HistoryError(
            f"The history's folder cannot be created: {error}.",
            remedy="Set VIGIE_STATE_DIR to a writable folder.",
        ) from error
    return f"sqlite:///{settings.state_dir / 'history.db'}"
