"""Read back what was measured and said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vigie.errors import InvalidDataError, listed
from vigie.models.anomaly_data import CriticalityLevel
from vigie.models.readings import (
    Key,
    Order,
    ReadingPage,
    ReadingSearch,
    StoredReading,
    utc,
)

if TYPE_CHECKING:
    from vigie.history.records import Reading
    from vigie.history.search import Search
    from vigie.history.store import History

MOST_NAMED = 5
"""Assets that an error names."""


def found_readings(history: History, asked: ReadingSearch) -> ReadingPage:
    """Return the stored readings that are asked for.

    Raises
    ------
    InvalidDataError
        If the times or the cursor cannot be used, or a picture of several assets is asked for.
    HistoryError
        If the database fails.
    """
    # Imported here: SQLAlchemy and numpy would slow the start down.
    from vigie.history.search import Search, Wanted

    first, last = asked.times(datetime.now(UTC))
    order = asked.order if asked.points is None else Order.OLDEST
    after = None if asked.cursor is None else Key.of(asked.cursor, order)
    levels = _levels(asked.is_anomaly, asked.criticality)
    wanted = Wanted(asked.asset_id, asked.sensor_id, first, last, levels, order)
    search = Search(history, wanted)
    if asked.points is not None:
        from vigie.history.thinning import thinned

        _require_one(search)
        readings, n = thinned(search, asked.points)
        return ReadingPage(readings=_stored(readings), next=None, thinned_from=n)
    readings, end = search.page(after, asked.offset, asked.n_wanted)
    return ReadingPage(readings=_stored(readings), next=end and end.cursor(order))


def _levels(
    is_anomaly: bool | None, criticalities: list[CriticalityLevel]
) -> frozenset[int] | None:
    from vigie.history.packed import LEVEL_OF, LEVELS, NORMAL

    if criticalities:
        return frozenset(LEVEL_OF[criticality] for criticality in criticalities)
    if is_anomaly is None:
        return None
    return frozenset(range(NORMAL + 1, len(LEVELS))) if is_anomaly else frozenset((NORMAL,))


def _require_one(search: Search) -> None:
    """Raise if there are several assets, or several groups of sensors."""
    if len(search.assets) <= 1:
        return
    assets = sorted({asset_id for asset_id, _ in search.assets.values()})
    if len(assets) > 1:
        raise InvalidDataError(
            "A picture is of one asset, but several fit.",
            field="asset_id",
            remedy=f"Give one: {listed(assets[:MOST_NAMED])}.",
        )
    groups = sorted(sensor_id for _, sensor_id in search.assets.values())
    raise InvalidDataError(
        f"{assets[0]!r} has several groups of sensors.",
        field="sensor_id",
        remedy=f"Give one: {listed(group or 'none (empty)' for group in groups[:MOST_NAMED])}.",
    )


def _stored(readings: list[Reading]) -> list[StoredReading]:
    stored = []
    for reading in readings:
        features, context = dict(reading.features), {}
        if reading.context:
            context = {
                name: features.pop(name) for name in reading.features if name in reading.context
            }
        assessed = reading.assessed
        stored.append(
            StoredReading(
                asset_id=reading.asset_id,
                sensor_id=reading.sensor_id,
                timestamp=reading.measured,
                features=features,  # type: ignore[arg-type]
                context=context,
                models=dict(assessed.versions),
                final_score=assessed.final_score,
                p_value=assessed.p_value,
                is_anomaly=assessed.is_anomaly,
                criticality=assessed.criticality,
                state=assessed.state,
                since=utc(assessed.since),
                began=utc(assessed.began),
            )
        )
    return stored
