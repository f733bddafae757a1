"""Retention: delete old readings in small transactions, in the background.

There is always something to delete, and the history is always in use. Each portion is a transaction
of milliseconds, and a new reading waits for one at most.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

from vigie.errors import HistoryError
from vigie.history.store import History

logger = logging.getLogger(__name__)

PORTION = 200
"""Readings that are deleted in one transaction."""
PAUSE_S = 0.02
"""Between two portions, so that other transactions can proceed."""
CLOSE_TIMEOUT_S = 2.0
"""Limit of the wait for a hung database when the service ends."""
EVERY_S = 3600.0
"""Between two searches for old readings."""


class Retention:
    """Delete old readings of a history in the background, until closed.

    Parameters
    ----------
    history : History
        The history.
    days : float
        Age above which readings are deleted, in days.
    """

    def __init__(self, history: History, days: float):
        self._history, self._days = history, days
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the current portion."""
        self._closed.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            before = datetime.now(UTC) - timedelta(days=self._days)
            try:
                n_deleted = prune(self._history, before, self._closed)
            except HistoryError as error:
                logger.error("Old readings were not deleted. %s", error)
            else:
                if n_deleted:
                    logger.info("Deleted %d readings from before %s.", n_deleted, before.date())
            self._closed.wait(EVERY_S)


def prune(history: History, before: datetime, stop: threading.Event) -> int:
    """Delete readings measured before a time; return how many.

    The newest readings of each asset stay: see ``AssetTransaction.delete_before``.

    Parameters
    ----------
    history : History
        The history.
    before : datetime
        The time.
    stop : threading.Event
        Stops the deletion after the current portion.

    Raises
    ------
    HistoryError
        If the database fails; earlier portions stay deleted.
    """
    n_deleted = 0
    for asset in history.assets_before(before):
        n_last = PORTION
        while n_last == PORTION and not stop.is_set():
            with history.transaction(*asset) as transaction:
                n_last = transaction.delete_before(before, PORTION)
            n_deleted += n_last
            stop.wait(PAUSE_S)
    return n_deleted
