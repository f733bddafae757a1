"""Forgetting: readings older than wanted are deleted, little by little, beside those that come.

Time moves on, so there is always something to forget, and no moment at which nobody wants the
history. A portion is a turn like any other, of milliseconds, and a reading waits for one at most.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

from vigie.errors import HistoryError
from vigie.history.store import History

logger = logging.getLogger(__name__)

PORTION = 200
"""Readings that are deleted in one turn."""
PAUSE_S = 0.02
"""Between two portions, so that those who wait for a turn get theirs."""
CLOSES_WITHIN_S = 2.0
"""A database that hangs must not keep a service from ending."""
EVERY_S = 3600.0
"""Between two looks for readings that have become too old."""


class Retention:
    """Keep a history free of old readings, in the background, until it is closed.

    Parameters
    ----------
    history : History
        Where to delete.
    days : float
        How old a reading may become.
    """

    def __init__(self, history: History, days: float):
        self._history, self._days = history, days
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the portion under way."""
        self._closed.set()
        self._thread.join(CLOSES_WITHIN_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            before = datetime.now(UTC) - timedelta(days=self._days)
            try:
                n_deleted = prune(self._history, before, self._closed)
            except HistoryError as error:
                logger.error("Old readings were not deleted. %s", error)
            else:
                if n_deleted:
                    logger.info("%d readings of before %s were deleted.", n_deleted, before.date())
            self._closed.wait(EVERY_S)


def prune(history: History, before: datetime, stop: threading.Event) -> int:
    """Delete readings measured before a time; return how many.

    The newest readings of each asset stay, however old: see ``AssetTransaction.forget``.

    Parameters
    ----------
    history : History
        Where to delete.
    before : datetime
        The time.
    stop : threading.Event
        Ends it after a portion.

    Raises
    ------
    HistoryError
        If the database does not do it; what was deleted until then stays so.
    """
    n_deleted = 0
    for asset in history.assets_before(before):
        n_last = PORTION
        while n_last == PORTION and not stop.is_set():
            with history.transaction(*asset) as transaction:
                n_last = transaction.forget(before, PORTION)
            n_deleted += n_last
            stop.wait(PAUSE_S)
    return n_deleted
