"""What was seen on assets: their events, and the readings around one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from vigie.errors import ConflictError, EventNotFoundError
from vigie.history.records import Reading
from vigie.models.events import AssetEvent, EventLabel, EventReading, Label

if TYPE_CHECKING:
    from vigie.history.events import EventFilter, Place
    from vigie.history.store import History

ID = re.compile(r"[0-9a-f]{1,32}")
BEFORE = 40
"""Most readings from before an event that are shown with it."""
SHOWN = 400
"""Most readings from its start on."""
US = timedelta(microseconds=1)


class AssetEvents:
    """The events of the history.

    Parameters
    ----------
    history : callable
        Returns the history; None if it is disabled.

    Raises
    ------
    ConflictError
        From every method, if there is no history.
    HistoryError
        From every method, if the database fails.
    """

    def __init__(self, history: Callable[[], History | None]):
        self._history = history

    def newest(
        self, asked: EventFilter, limit: int, after: Place | None = None
    ) -> tuple[list[AssetEvent], Place | None]:
        """Return events, the last to begin first; see ``EventTable.newest``."""
        from vigie.history.events import EventTable

        return EventTable(self.history()).newest(asked, limit, after)

    def get(self, number: str) -> tuple[AssetEvent, list[EventLabel], list[EventReading]]:
        """Return an event, the labels that it has had, and the readings around it.

        Raises
        ------
        EventNotFoundError
            If there is none.
        """
        from vigie.history.events import EventTable

        history = self.history()
        event, last = self._found(number)
        assert event.asset_id is not None
        assert event.start is not None
        with history.transaction(event.asset_id, event.sensor_id) as transaction:
            before = transaction.around(min(event.began or event.start, event.start), None, BEFORE)
        first = before[-1].timestamp + US if before else event.start
        # As long again as the event lasted, so that its end is seen.
        until = last + max(last - event.start, event.start - first, timedelta(minutes=1))
        since = history.between(event.asset_id, event.sensor_id, first, until)
        shown = [_shown(reading) for reading in (*before, *islice(since, SHOWN))]
        return event, EventTable(history).labels(number), shown

    def label(
        self, number: str, label: Label, cause: str | None, note: str | None, by: str | None
    ) -> None:
        """Record what somebody says of an event, in place of what was said before.

        Raises
        ------
        EventNotFoundError
            If there is none.
        """
        event, _ = self._found(number)
        assert event.asset_id is not None
        with self.history().transaction(event.asset_id, event.sensor_id) as transaction:
            now_us = time.time_ns() // 1000
            transaction.execute("replace label", id=number, now_us=now_us)
            given = {"label": label.value, "cause": cause, "note": note, "by_whom": by}
            transaction.execute("label", id=number, now_us=now_us, **given)

    def _found(self, number: str) -> tuple[AssetEvent, datetime]:
        """Return an event, and when its last reading so far was measured."""
        from vigie.history.events import EventTable

        is_id = ID.fullmatch(number) is not None
        if (found := EventTable(self.history()).get(number) if is_id else None) is None:
            raise EventNotFoundError(
                f"There is no event {number[:100]!r}.",
                field="event_id",
                remedy="GET /api/v1/events lists them.",
            )
        return found

    def history(self) -> History:
        """Return the history, which all this rests on."""
        if (history := self._history()) is None:
            raise ConflictError(
                "There is no history that could have events.",
                remedy="Set VIGIE_HISTORY_ENABLED=true.",
            )
        return history


def _shown(reading: Reading) -> EventReading:
    return EventReading(
        timestamp=reading.measured,
        values=reading.features,
        score=reading.assessed.final_score,
        is_anomaly=reading.assessed.is_anomaly,
        state=reading.assessed.state,
    )
