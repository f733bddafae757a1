"""Train on readings that the service has seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from vigie.assessment.timeline import as_times
from vigie.config import Settings
from vigie.detectors.catalogue import checked_names
from vigie.detectors.data.matrices import training_table
from vigie.errors import InvalidDataError, listed
from vigie.history.address import history_url
from vigie.history.records import EPOCH, Reading, Stored
from vigie.models.anomaly_data import AssetState
from vigie.models.from_json import from_json
from vigie.models.jobs import JobData
from vigie.models.training import MOST_ROWS, HistoryRange, HistoryTrainRequest, moment
from vigie.training.prepared import Prepared
from vigie.training.requests import About
from vigie.training.train import as_given, checked_parameters

if TYPE_CHECKING:
    from vigie.history.store import History

HEALTHY = (AssetState.NORMAL, AssetState.UNKNOWN)
"""States of an asset whose readings are learnt. Single unusual readings of such an asset belong to
them: without the one in a hundred that every healthy machine has, a model would raise too many
alarms."""
OFTEN = 0.5
"""Share of the readings that have a sensor, if it is learnt without being named."""
MOST_ASSETS = 1000
"""Assets among which the one that was meant is looked for."""


@dataclass
class Selection:
    """The readings that are learnt.

    Attributes
    ----------
    times : list of datetime
        When they were measured.
    values : list of mapping
        Their values.
    left_out : Counter
        How many are not learnt, by the state of the asset.
    """

    only_healthy: bool
    times: list[datetime] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, reading: Reading) -> None:
        """Add a reading, unless the asset was not healthy."""
        state = reading.assessed.state
        # Histories of versions without states know single readings only.
        is_healthy = state in HEALTHY if state else not reading.assessed.is_anomaly
        if self.only_healthy and not is_healthy:
            self.left_out[state.value if state else "anomaly"] += 1
            if state is AssetState.ALARM and reading.assessed.began is not None:
                # What led to an alarm was called normal, before there was enough evidence.
                began = datetime.fromisoformat(reading.assessed.began).replace(tzinfo=UTC)
                while self.times and self.times[-1] >= began:
                    del self.times[-1], self.values[-1]
                    self.left_out[state.value] += 1
            return
        self.times.append(reading.measured)
        self.values.append(reading.features)


def prepare_history(body: bytes, settings: Settings, about: About) -> Prepared:
    """Read and check a ``HistoryTrainRequest`` in JSON, and the readings that it names.

    Raises
    ------
    InvalidDataError
        If it cannot be used.
    HistoryError
        If the database fails.
    """
    request = from_json(TypeAdapter(HistoryTrainRequest), body)
    names = checked_names(request.model_names)
    given = checked_parameters(names, settings, request.contamination, request.parameters)
    asked = request.history
    first = EPOCH if asked.start is None else moment(asked.start, about.created)
    last = about.created if asked.end is None else moment(asked.end, about.created)
    if not settings.history_enabled:
        raise InvalidDataError(
            "The history is disabled, so there are no readings to train on.",
            field="history",
            remedy="Send the rows as data, or set VIGIE_HISTORY_ENABLED=true.",
        )
    if first >= last:
        raise InvalidDataError(
            f"It begins at {_written(first)}, but ends at {_written(last)}.",
            field="history.to",
            remedy="Give a later time, or leave it out.",
        )
    selected = _selected(asked, settings, first, last)
    features = request.feature_names or about.serving_features or None
    context = request.context_features
    if context is None:
        context = [] if request.feature_names else about.serving_context
    columns = _columns(selected.values, features, context)
    rows = [
        [_number(values.get(name), name in context) for name in columns]
        for values in selected.values
    ]
    table = training_table(rows, columns, settings.sensor_ranges, context)
    data = JobData(
        source="history",
        asset_id=asked.asset_id,
        sensor_id=asked.sensor_id,
        start=first if asked.start is not None else selected.times[0],
        end=last,
        n_rows=len(table.values),
        feature_names=list(table.feature_names),
        left_out=dict(selected.left_out),
    )
    return Prepared(
        names,
        table,
        data,
        given,
        request.contamination,
        as_given(given),
        times=as_times(selected.times),
    )


def _selected(
    asked: HistoryRange, settings: Settings, first: datetime, last: datetime
) -> Selection:
    """Read the readings that are learnt.

    Raises
    ------
    InvalidDataError
        If there are none, or too many.
    """
    # Imported here: SQLAlchemy is not needed for other requests.
    from vigie.history.store import History

    selected = Selection(asked.only_healthy)
    history = History(history_url(settings))
    try:
        for reading in history.between(asked.asset_id, asked.sensor_id, first, last):
            selected.add(reading)
            if len(selected.times) > MOST_ROWS:
                raise InvalidDataError(
                    f"There are more than {MOST_ROWS:,} readings.",
                    field="history.from",
                    remedy="Ask for a shorter time.",
                )
        if not selected.times and not selected.left_out:
            raise _nothing(asked, history, first, last)
    finally:
        history.close()
    if not selected.times:
        states = ", ".join(f"{number} {state}" for state, number in selected.left_out.items())
        raise InvalidDataError(
            f"None of the readings was healthy: {states}.",
            field="history",
            remedy='Ask for another time, or give "only_healthy": false if you know better.',
        )
    return selected


def _nothing(
    asked: HistoryRange, history: History, first: datetime, last: datetime
) -> InvalidDataError:
    """Return the error for an asset without readings: what there is instead."""
    assets = list(islice(history.assets_before(datetime.max.replace(tzinfo=UTC)), MOST_ASSETS))
    groups = [sensor_id for asset_id, sensor_id in assets if asset_id == asked.asset_id]
    if asked.sensor_id in groups:
        return InvalidDataError(
            f"There are no readings of {asked.asset_id!r} from {_written(first)} to "
            f"{_written(last)}.",
            field="history.from",
            remedy=f"The newest is of {_written(newest)}: ask for another time."
            if (newest := _newest(history, asked))
            else "Ask for another time.",
        )
    if groups:
        return InvalidDataError(
            f"{asked.asset_id!r} has no readings of this group of sensors.",
            field="history.sensor_id",
            remedy=f"It has {listed(group or 'readings without a sensor_id' for group in groups)}.",
        )
    known = list(dict.fromkeys(asset_id for asset_id, _ in assets))
    near = get_close_matches(asked.asset_id, known, n=1)
    return InvalidDataError(
        f"The history has no readings of {asked.asset_id!r}.",
        field="history.asset_id",
        remedy=f"Did you mean {near[0]!r}?"
        if near
        else f"It has {listed(known)}."
        if known
        else "Send readings to /api/v1/anomalies/detect first.",
    )


def _newest(history: History, asked: HistoryRange) -> datetime | None:
    with history.transaction(asked.asset_id, asked.sensor_id) as transaction:
        return transaction.revision(1).newest


def _columns(
    readings: Sequence[Any], features: Sequence[str] | None, context: Sequence[str]
) -> list[str]:
    """Return the names of the columns: those that are asked for, or that the readings have.

    Raises
    ------
    InvalidDataError
        If no reading has one that is asked for.
    """
    counts = Counter(name for values in readings for name in _given(values.items()))
    if features is None:
        often = [name for name, number in counts.items() if number >= OFTEN * len(readings)]
        words = {
            name for values in readings for name, value in values.items() if isinstance(value, str)
        }
        return [name for name in often if name not in words or name in context]
    columns = list(dict.fromkeys([*features, *context]))
    for name in columns:
        if not counts[name]:
            raise InvalidDataError(
                f"No reading has {name!r}.",
                field="feature_names",
                remedy=f"The readings have {listed(counts)}: name those to learn in feature_names.",
            )
    return columns


def _given(values: Iterable[tuple[str, Stored]]) -> list[str]:
    return [name for name, value in values if value is not None]


def _number(value: Stored, is_context: bool) -> float | str:
    """Return a value as a training has it: NaN for a missing one; of the context, a word too."""
    if value is None:
        return math.nan
    if is_context and isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else float(value)


def _written(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
