"""The sensors that serving models know: what of a reading can be used, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vigie.detectors import compiled
from vigie.detectors.base import Floats
from vigie.detectors.data.quality import TOO_LARGE, Kind, Range, SensorFault, faulty
from vigie.detectors.trained import TrainedModel
from vigie.errors import InvalidDataError

LARGEST = float(np.finfo(np.float64).max)
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
        As ``vigie.detectors.data.quality`` has learnt them in training.
    ranges : mapping of str to (low, high)
        Physical ranges, where they are known.
    """

    names: tuple[str, ...]
    magnitude: Floats
    frozen_after: NDArray[np.intp]
    ranges: Mapping[str, Range]
    _places: dict[tuple[str, ...], NDArray[np.intp]] = field(
        default_factory=dict, repr=False, compare=False
    )

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

    def matrix(self, rows: Iterable[Mapping[str, float | None]]) -> Floats:
        """Return rows given by name, shape (n_rows, n_sensors); NaN where there is no value."""
        values = [list(map(row.get, self.names)) for row in rows]
        return np.array(values, dtype=np.float64).reshape(-1, len(self.names))

    def places(self, names: tuple[str, ...]) -> NDArray[np.intp]:
        """Return where in a row these sensors stand, shape (n_names,)."""
        if names not in self._places:
            self._places[names] = np.array([self.names.index(name) for name in names], np.intp)
        return self._places[names]

    def examine(self, values: Floats) -> Examined:
        """Find what is wrong with rows of shape (n_rows, n_sensors)."""
        values = np.ascontiguousarray(values)
        if compiled.rows.all_within(values, *self._surely_sound):
            return Examined(self, values, values, {})
        masks = faulty(values, self.names, self.ranges, self.magnitude)
        bad = masks["missing"] | masks["out_of_range"] | masks["wrong_unit"]
        return Examined(self, values, np.where(bad, np.nan, values), masks)

    @cached_property
    def _surely_sound(self) -> tuple[Floats, Floats]:
        """The least and the most that a value can be with which nothing is wrong by any rule."""
        ranges = [self.ranges.get(name, (None, None)) for name in self.names]
        low = [-np.inf if low is None else low for low, _ in ranges]
        high = [np.inf if high is None else high for _, high in ranges]
        # A little less than what is too large, for that is found by a division.
        limit = np.where(self.magnitude > 0.0, 0.99 * TOO_LARGE * self.magnitude, LARGEST)
        return np.maximum(low, -limit), np.minimum(high, limit)

    @cached_property
    def soonest_still(self) -> int:
        """How many rows with one value it takes at least until a sensor stands still."""
        return int(self._longest_held.min()) + 1

    @cached_property
    def _longest_held(self) -> NDArray[np.intp]:
        """The rows for which each sensor may hold one value; without a limit, all there are."""
        return np.where(self.frozen_after > 0, self.frozen_after, np.iinfo(np.intp).max)


@dataclass(frozen=True)
class Examined:
    """Rows of sensors, and what is wrong with them.

    Attributes
    ----------
    values, usable : ndarray of shape (n_rows, n_sensors)
        As they came, and with NaN in place of what cannot be used.
    masks : mapping of str to ndarray of bool of shape (n_rows, n_sensors)
        By kind of fault, where it is; empty where nothing is wrong.
    held_before : ndarray of int of shape (n_sensors,), optional
        For how many rows each sensor has had the value of the first row, that row counted; by
        default, for that row alone.
    """

    sensors: Sensors
    values: Floats
    usable: Floats
    masks: Mapping[Kind, NDArray[np.bool_]]
    held_before: NDArray[np.intp] | None = None

    @property
    def sound(self) -> bool:
        """Whether every value can be used, as far as that is known without a look at them."""
        return self.usable is self.values

    @cached_property
    def held(self) -> NDArray[np.intp]:
        """For how many rows each sensor has had its very value, (n_rows, n_sensors)."""
        before = self.held_before
        counts = np.empty(self.values.shape, np.int64)
        once = np.ones(self.values.shape[1], np.int64)
        compiled.rows.held(self.values, once if before is None else before, counts)
        return counts

    @cached_property
    def still(self) -> NDArray[np.bool_]:
        """Where a sensor stands still, shape (n_rows, n_sensors)."""
        return self.held > self.sensors._longest_held

    def at(self, rows: Sequence[int]) -> Examined:
        """Return some rows, one after the other, without what is wrong with them."""
        values = self.values[rows]
        return Examined(self.sensors, values, values if self.sound else self.usable[rows], {})

    def since(self, row: int) -> Examined:
        """Return what is wrong from a row on, counted from there."""
        masks = {kind: mask[row:] for kind, mask in self.masks.items()}
        later = Examined(self.sensors, self.values[row:], self.usable[row:], masks)
        # It has been counted already.
        later.__dict__["held"] = self.held[row:]
        return later

    def unusable(self, row: int) -> dict[str, Kind]:
        """Return the sensors of a row that have no usable value, and why."""
        return {
            self.sensors.names[column]: kind
            for kind, mask in self.masks.items()
            for column in np.flatnonzero(mask[row]).tolist()
        }

    def frozen(self, row: int) -> dict[str, int]:
        """Return the sensors that stand still at a row, with the rows since when."""
        if self.held_before is None and row + 1 < self.sensors.soonest_still:
            return {}
        return self._told(row, self.held[row] > self.sensors._longest_held)

    def held_for(self, row: int) -> dict[str, int]:
        """Return the sensors that have the value of the row before, with the rows since when."""
        return self._told(row, self.held[row] > 1)

    def faults(self) -> list[SensorFault]:
        """Return all that is wrong, by sensor and kind."""
        found = []
        for kind, mask in {**self.masks, "frozen": self.still}.items():
            for column in np.flatnonzero(mask.any(axis=0)).tolist():
                name, here = self.sensors.names[column], mask[:, column]
                longest = int(self.held[here, column].max()) if kind == "frozen" else None
                found.append(SensorFault.of(name, kind, self.values[:, column], here, longest))
        return found

    def _told(self, row: int, which: NDArray[np.bool_]) -> dict[str, int]:
        columns = which.nonzero()[0].tolist()
        return {self.sensors.names[i]: int(self.held[row, i]) for i in columns}

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
