"""The sensors that serving models know: what of a reading can be used, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app.detectors.base import Floats
from app.detectors.data import as_number
from app.detectors.data_quality import Kind, Range, SensorFault, faulty
from app.detectors.trained import TrainedModel
from app.errors import InvalidDataError

_WRONG: dict[Kind, str] = {
    "out_of_range": "is outside the sensor's physical range",
    "wrong_unit": "is hundreds of times what the sensor read in training, as in a wrong unit",
}


@dataclass(frozen=True)
class Sensors:
    """What the models have learnt of each sensor, and what its physical range is.

    Attributes
    ----------
    names : tuple of str
        All sensors that any of the models looks at.
    magnitude, frozen_after : ndarray of shape (n_sensors,)
        As ``app.detectors.data_quality`` has learnt them in training.
    ranges : mapping of str to (low, high)
        Physical ranges, where they are known.
    """

    names: tuple[str, ...]
    magnitude: Floats
    frozen_after: NDArray[np.intp]
    ranges: Mapping[str, Range]

    @classmethod
    def of(cls, models: Iterable[TrainedModel], ranges: Mapping[str, Range]) -> Sensors:
        """Collect the sensors of some models; where two know one, the first tells."""
        known: dict[str, tuple[float, int]] = {}
        for model in models:
            facts = zip(model.magnitude.tolist(), model.frozen_after.tolist(), strict=True)
            for name, fact in zip(model.feature_names, facts, strict=True):
                known.setdefault(name, fact)
        magnitude, frozen_after = zip(*known.values(), strict=True)
        return cls(tuple(known), np.array(magnitude), np.array(frozen_after), ranges)

    def matrix(self, rows: Sequence[Mapping[str, float | None]]) -> Floats:
        """Return rows given by name, shape (n_rows, n_sensors); NaN where there is no value."""
        values = np.full((len(rows), len(self.names)), np.nan)
        for place, row in enumerate(rows):
            for column, name in enumerate(self.names):
                number = as_number(row.get(name))
                if number is not None:
                    values[place, column] = number
        return values

    def examine(self, values: Floats, held_before: Mapping[str, int] = {}) -> Examined:
        """Find what is wrong with rows of shape (n_rows, n_sensors).

        ``held_before`` tells for how many rows a sensor has had the value of the first row
        already, that row counted.
        """
        masks = faulty(values, self.names, self.ranges, self.magnitude)
        bad = np.logical_or.reduce(list(masks.values()))
        usable = np.where(bad, np.nan, values) if bad.any() else values
        earlier = np.array([held_before.get(name, 1) - 1 for name in self.names])
        same = values[1:] == values[:-1]
        held = np.ones(values.shape, dtype=np.intp)
        # Most sensors never read one value twice in a row.
        for column in np.flatnonzero(same.any(axis=0) | (earlier > 0)).tolist():
            since = np.flatnonzero(np.append(True, ~same[:, column]))
            since = np.repeat(since, np.diff(since, append=len(values)))
            held[:, column] += np.arange(len(values)) - since
            held[since == 0, column] += earlier[column]
        return Examined(self, values, usable, masks, held)


@dataclass(frozen=True)
class Examined:
    """Rows of sensors, and what is wrong with them.

    Attributes
    ----------
    values, usable : ndarray of shape (n_rows, n_sensors)
        As they came, and with NaN in place of what cannot be used.
    masks : mapping of str to ndarray of bool of shape (n_rows, n_sensors)
        By kind of fault, where it is.
    held : ndarray of int of shape (n_rows, n_sensors)
        For how many rows the sensor has had this very value.
    """

    sensors: Sensors
    values: Floats
    usable: Floats
    masks: Mapping[Kind, NDArray[np.bool_]]
    held: NDArray[np.intp]

    @cached_property
    def still(self) -> NDArray[np.bool_]:
        """Where a sensor stands still, shape (n_rows, n_sensors)."""
        after = self.sensors.frozen_after
        return (after > 0) & (self.held > after)

    def since(self, row: int) -> Examined:
        """Return what is wrong from a row on, counted from there."""
        masks = {kind: mask[row:] for kind, mask in self.masks.items()}
        return Examined(self.sensors, self.values[row:], self.usable[row:], masks, self.held[row:])

    @property
    def columns(self) -> dict[str, Floats]:
        """The usable values by sensor."""
        return dict(zip(self.sensors.names, self.usable.T, strict=True))

    def unusable(self, row: int) -> dict[str, Kind]:
        """Return the sensors of a row that have no usable value, and why."""
        return {
            self.sensors.names[column]: kind
            for kind, mask in self.masks.items()
            for column in np.flatnonzero(mask[row]).tolist()
        }

    def frozen(self, row: int) -> dict[str, int]:
        """Return the sensors that stand still at a row, with the rows since when."""
        still = np.flatnonzero(self.still[row]).tolist()
        return {self.sensors.names[i]: int(self.held[row, i]) for i in still}

    def held_for(self, row: int) -> dict[str, int]:
        """Return the sensors that have the value of the row before, with the rows since when."""
        still = np.flatnonzero(self.held[row] > 1).tolist()
        return {self.sensors.names[i]: int(self.held[row, i]) for i in still}

    def faults(self) -> list[SensorFault]:
        """Return all that is wrong, by sensor and kind."""
        found = []
        for kind, mask in {**self.masks, "frozen": self.still}.items():
            for column in np.flatnonzero(mask.any(axis=0)).tolist():
                name, here = self.sensors.names[column], mask[:, column]
                longest = int(self.held[here, column].max()) if kind == "frozen" else None
                found.append(SensorFault.of(name, kind, self.values[:, column], here, longest))
        return found

    def refuse(self, row: int, field: str) -> None:
        """Raise if a value of a row is impossible; one that is missing is not.

        Raises
        ------
        InvalidDataError
            Naming the value as ``field`` + its sensor.
        """
        for sensor, kind in self.unusable(row).items():
            if kind in _WRONG:
                value = self.values[row, self.sensors.names.index(sensor)]
                raise InvalidDataError(
                    f"{value:g} {_WRONG[kind]}.",
                    field=f"{field}{sensor}",
                    remedy="Check the sensor and its unit, or go on without such a sensor: "
                    "VIGIE_FAULTY_VALUES=impute, for a file --faulty impute.",
                )
