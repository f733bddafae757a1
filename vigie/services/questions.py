"""What a request asks: readings, checked, with the models that answer them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.false_alarms import VARIABLE
from vigie.assessment.sensors import Examined, Sensors
from vigie.assessment.timeline import US, Times, as_times
from vigie.detectors.data.matrices import as_row
from vigie.detectors.trained import TrainedModel
from vigie.errors import InvalidDataError, listed
from vigie.history.records import Reading
from vigie.models.anomaly_data import AnomalyDetectionRequest
from vigie.services.look_back_cache import Asset
from vigie.serving.served import Answering

PART = 100
"""Most readings of an asset in one transaction of the history."""


def keys_of(
    readings: Sequence[AnomalyDetectionRequest], times: Sequence[datetime]
) -> Sequence[datetime]:
    """Return the times under which the history keeps readings: their own, as far as they differ.

    Readings of one asset and time are kept a microsecond apart, in their order, as those of a
    sender whose clock has whole seconds. The same readings then have the same keys whenever they
    are sent. Readings of one time whose values are all the same have one key: they are one reading,
    sent again.

    Raises
    ------
    InvalidDataError
        If no time is left for them before the end of the year 9999.
    """
    groups: dict[tuple[datetime, Asset], list[int]] = {}
    for index, reading in enumerate(readings):
        asset = reading.asset_id, reading.sensor_id
        groups.setdefault((times[index], asset), []).append(index)
    if len(groups) == len(readings):
        return times
    keys, latest = list(times), dict[Asset, datetime]()
    for (time, asset), group in sorted(groups.items(), key=lambda item: item[0][0]):
        values = readings[group[0]].values
        is_one = all(readings[index].values == values for index in group)
        for index in group:
            try:
                if index == group[0] or not is_one:
                    key = max(time, latest[asset] + US) if asset in latest else time
            except OverflowError as error:
                raise InvalidDataError(
                    "Several readings have the last time that there is.",
                    field=f"[{index}].timestamp",
                    remedy="Give when each reading was measured.",
                ) from error
            keys[index] = latest[asset] = key
    return keys


class Turn(NamedTuple):
    """Readings of an asset, by their places in time order."""

    asset: Asset
    places: Sequence[int]


@dataclass(frozen=True)
class Question:
    """Readings of a request, and the models that answer them.

    Attributes
    ----------
    answering : Answering
        The models.
    readings, times : sequence
        All readings of the request.
    keys : sequence of datetime
        The times under which the history keeps them; see ``keys_of``.
    indices : sequence of int
        Indices of the readings that these models answer; a *place* is a position in this list.
    rows : Examined
        Their values, by place.
    missing : mapping of str to mapping of int to str
        By model, the places that it cannot assess because of missing values, and the reason.
    imputes : bool
        Whether unusable values are replaced by usual ones.
    """

    answering: Answering
    readings: Sequence[AnomalyDetectionRequest]
    times: Sequence[datetime]
    keys: Sequence[datetime]
    indices: Sequence[int]
    rows: Examined
    missing: dict[str, dict[int, str]]
    imputes: bool = False

    @classmethod
    def checked(
        cls,
        answering: Answering,
        readings: Sequence[AnomalyDetectionRequest],
        times: Sequence[datetime],
        keys: Sequence[datetime],
        indices: Sequence[int],
        *,
        refuse: bool,
    ) -> Question:
        """Check readings, and return them with the models that answer.

        Parameters
        ----------
        answering, readings, times, keys, indices
            See the attributes.
        refuse : bool
            Whether an impossible value is an error; else the reading is assessed without it.

        Raises
        ------
        InvalidDataError
            If no model can assess a reading, a faulty one is refused, or times are missing from
            several readings of an asset and false alarms are asked for by time.
        """
        sensors = answering.ensemble.sensors
        for index in indices:
            if readings[index].context:
                _refuse_words(readings[index], sensors, f"[{index}]." if len(readings) > 1 else "")
        rows = sensors.examine(sensors.matrix(readings[index].values for index in indices))
        question = cls(answering, readings, times, keys, indices, rows, {}, imputes=not refuse)
        if answering.ensemble.false_alarms_per_month is not None:
            question.require_times()
        if not rows.masks:
            return question
        for place in np.flatnonzero(np.isnan(rows.usable).any(axis=1)).tolist():
            index = indices[place]
            field = f"[{index}]." if len(readings) > 1 else ""
            if refuse:
                rows.refuse(place, f"{field}features.")
            unusable = rows.unusable(place)
            for name, model in answering.ensemble.models.items():
                missing = [sensor for sensor in model.feature_names if sensor in unusable]
                is_blind = len(missing) == model.n_features or set(missing) & model.context_names
                if missing and (refuse or is_blind):
                    reason = f"missing from the reading: {', '.join(missing)}"
                    question.missing.setdefault(name, {})[place] = reason
            if len(question.missing) == len(answering.served) and all(
                place in places for places in question.missing.values()
            ):
                _refuse_another_machine(readings[index], sensors, field)
                _raise_unusable(
                    readings[index], next(iter(answering.ensemble.models.values())), field
                )
        return question

    def reading(self, place: int) -> AnomalyDetectionRequest:
        return self.readings[self.indices[place]]

    def time(self, place: int) -> datetime:
        return self.times[self.indices[place]]

    def key(self, place: int) -> datetime:
        return self.keys[self.indices[place]]

    def turns(self) -> tuple[list[Turn], list[Turn]]:
        """Return the assets with a single reading and those with several, in time order."""
        assets: dict[Asset, list[int]] = {}
        for place, index in enumerate(self.indices):
            reading = self.readings[index]
            assets.setdefault((reading.asset_id, reading.sensor_id), []).append(place)
        alone: list[Turn] = []
        several: list[Turn] = []
        for asset, places in assets.items():
            if len(places) > 1:
                places.sort(key=self.key)
            (alone if len(places) == 1 else several).append(Turn(asset, places))
        return alone, several

    def require_times(self) -> None:
        """Raise if several readings of an asset have no time, so that none is between them."""
        seen = set[Asset]()
        for index in self.indices:
            reading = self.readings[index]
            if reading.timestamp is not None:
                continue
            if (asset := (reading.asset_id, reading.sensor_id)) in seen:
                raise InvalidDataError(
                    f"False alarms are asked for by time ({VARIABLE}), but several readings of "
                    f"{reading.asset_id} have none.",
                    field=f"[{index}].timestamp",
                    remedy=f"Give when each reading was measured, or unset {VARIABLE}.",
                )
            seen.add(asset)

    def in_parts(self, places: Sequence[int], longest_gap_s: float) -> list[list[int]]:
        """Split readings, given in time order, into parts that are assessed in turn.

        A part ends at a gap, so that a single wrong time does not make it span the whole history.
        """
        parts: list[list[int]] = []
        longest, last = timedelta(seconds=longest_gap_s), datetime.min.replace(tzinfo=UTC)
        for place in places:
            time = self.time(place)
            is_full = bool(parts) and len(parts[-1]) >= PART
            if not parts or is_full or time - last > longest:
                parts.append([])
            parts[-1].append(place)
            last = time
        return parts

    def rows_of(self, places: Sequence[int], between: Sequence[Reading]) -> Rows:
        """Return requested readings as rows, with the stored ones in between, in time order.

        Parameters
        ----------
        places : sequence of int
            Of the requested readings, in time order.
        between : sequence of Reading
            Stored readings between the first and the last of them.
        """
        groups: dict[datetime, list[int]] = {}
        for place in places:
            groups.setdefault(self.key(place), []).append(place)
        keys, requested = list(groups), list(groups.values())
        last = [group[-1] for group in requested]
        times = [self.time(place) for place in last]
        rows = self.rows
        if last != list(range(len(rows))):
            rows = rows.at(last)
        if between:
            keys += [reading.timestamp for reading in between]
            times += [reading.measured for reading in between]
            order = sorted(range(len(keys)), key=keys.__getitem__)
            times = [times[place] for place in order]
            requested = [requested[place] if place < len(last) else [] for place in order]
            matrix = rows.sensors.matrix(reading.features for reading in between)
            rows = rows.followed_by(rows.sensors.examine(matrix)).at(order)
        return Rows(requested, as_times(times), rows)


@dataclass(frozen=True)
class Rows:
    """Rows of one asset in time order, each with the places of its requested readings.

    The last reading of a row provides its values. The list of a stored row in between is empty.
    """

    requested: Sequence[Sequence[int]]
    times: Times
    examined: Examined

    def marked(self, places: Container[int]) -> NDArray[np.bool_]:
        """Mark the rows whose values come from one of these places, shape (n_rows,)."""
        return np.array([bool(group) and group[-1] in places for group in self.requested])


def _refuse_words(reading: AnomalyDetectionRequest, sensors: Sensors, field: str) -> None:
    """Raise if a word is given where the models know numbers."""
    for name, value in reading.context.items():
        if isinstance(value, str) and name in sensors.names and name not in sensors.words:
            raise InvalidDataError(
                f"{value!r} is a word, but the models were trained on numbers.",
                field=f"{field}context.{name}",
                remedy="Give it as a number, in the unit of the training data.",
            )


def _refuse_another_machine(reading: AnomalyDetectionRequest, sensors: Sensors, field: str) -> None:
    """Refuse a reading whose features no model knows: to name those missing would not help."""
    if not reading.values or set(reading.values) & set(sensors.names):
        return
    raise InvalidDataError(
        "The reading seems to be of another machine: the models know none of its features "
        f"({listed(reading.values)}).",
        field=f"{field}features",
        remedy=f"They know {listed(sensors.names)}: name the features as in training, or send the "
        "reading to a service with models of its machine.",
    )


def _raise_unusable(reading: AnomalyDetectionRequest, model: TrainedModel, field: str) -> None:
    """Raise the error for a reading that no model can assess."""
    for name in sorted(model.context_names):
        if reading.values.get(name) is None:
            example = '"..."' if name in model.words else "0.5"
            raise InvalidDataError(
                "The context is missing, and the sensors are judged given it.",
                field=f"{field}context.{name}",
                remedy=f'Give it with the reading, such as "context": {{"{name}": {example}}}.',
            )
    try:
        as_row(reading.values, model.feature_names, model.words)
    except InvalidDataError as error:
        error.field = f"{field}{error.field}"
        raise
    raise InvalidDataError(
        "No sensor has a usable value.",
        field=f"{field}features",
        remedy="Check the sensors and their units.",
    )
