"""The sensors that the models use: which values of a reading are usable, and why others are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vigie.detectors import compiled
from vigie.detectors.base import Floats
from vigie.detectors.data.context import code
from vigie.detectors.data.quality import TOO_LARGE, Kind, Range, faulty
from vigie.detectors.trained import TrainedModel
from vigie.errors import InvalidDataError

LARGEST = float(np.finfo(np.float64).max)
_DESCRIPTION: dict[Kind, str] = {
    "out_of_range": "is outside the sensor's physical range",
    "wrong_unit": "is hundreds of times what the sensor read in training, as in a wrong unit",
}


@dataclass(frozen=True)
class Sensors:
    """What the models learnt about each sensor, and its physical range.

    Attributes
    ----------
    names : tuple of str
        All sensors that any of the models uses.
    magnitude, frozen_after : ndarray of shape (n_sensors,)
        Learnt in training by ``vigie.detectors.data.quality``.
    ranges : mapping of str to (low, high)
        Physical ranges, where they are known.
    words : frozenset of str
        Columns of the context whose values are words; rows have their codes.
    """

    names: tuple[str, ...]
    magnitude: Floats
    frozen_after: NDArray[np.intp]
    ranges: Mapping[str, Range]
    words: frozenset[str] = frozenset()
    _columns: dict[tuple[str, ...], NDArray[np.intp]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def of(cls, models: Iterable[TrainedModel], ranges: Mapping[str, Range]) -> Sensors:
        """Collect the sensors of some models; of a shared sensor, the first model's facts count."""
        known: dict[str, tuple[float, int]] = {}
        words: set[str] = set()
        for model in models:
            words |= model.words - known.keys()
            facts = zip(model.magnitude.tolist(), model.frozen_after.tolist(), strict=True)
            for name, fact in zip(model.feature_names, facts, strict=True):
                known.setdefault(name, fact)
        magnitude, frozen_after = zip(*known.values(), strict=True)
        facts_of_all = np.array(magnitude), np.array(frozen_after)
        return cls(tuple(known), *facts_of_all, ranges, frozenset(words))

    def matrix(self, rows: Iterable[Mapping[str, float | bool | str | None]]) -> Floats:
        """Return rows given by name as an array (n_rows, n_sensors); NaN for a missing value."""
        values: list[list[Any]] = [list(map(row.get, self.names)) for row in rows]
        for column in [self.names.index(name) for name in self.words]:
            for row in values:
                row[column] = code(row[column])
        return np.array(values, dtype=np.float64).reshape(-1, len(self.names))

    def columns(self, names: tuple[str, ...]) -> NDArray[np.intp]:
        """Return the columns of some sensors, shape (n_names,)."""
        if names not in self._columns:
            self._columns[names] = np.array([self.names.index(name) for name in names], np.intp)
        return self._columns[names]

    def examine(self, values: Floats) -> Examined:
        """Find the faults of rows of shape (n_rows, n_sensors)."""
        values = np.ascontiguousarray(values)
        if compiled.rows.all_within(values, *self._surely_sound):
            return Examined(self, values, values, {})
        masks = faulty(values, self.names, self.ranges, self.magnitude)
        bad = np.logical_or.reduce(list(masks.values()))
        return Examined(self, values, np.where(bad, np.nan, values), masks)

    @cached_property
    def longest_held(self) -> NDArray[np.intp]:
        """The rows for which each sensor may hold one value; the largest integer for no limit."""
        return np.where(self.frozen_after > 0, self.frozen_after, np.iinfo(np.intp).max)

    @cached_property
    def _surely_sound(self) -> tuple[Floats, Floats]:
        """Lower and upper limits within which a value breaks no rule, both (n_sensors,).

        A value within them is never given to ``quality.faulty``, so each of its rules counts here.
        """
        ranges = [self.ranges.get(name, (None, None)) for name in self.names]
        low = [-np.inf if low is None else low for low, _ in ranges]
        high = [np.inf if high is None else high for _, high in ranges]
        # A margin for rounding: ``quality.faulty`` divides where this multiplies.
        limit = np.where(self.magnitude > 0.0, 0.99 * TOO_LARGE * self.magnitude, LARGEST)
        return np.maximum(low, -limit), np.minimum(high, limit)


@dataclass(frozen=True)
class Examined:
    """Rows of sensors, and the faults of single values.

    Attributes
    ----------
    values, usable : ndarray of shape (n_rows, n_sensors)
        The values as received, and with NaN in place of unusable ones; the same array object if
        all are usable.
    masks : mapping of str to ndarray of bool of shape (n_rows, n_sensors)
        Where each kind of fault occurs; empty without faults.
    words : mapping of float to str
        Words by their code, those that no model knows; empty where they are kept elsewhere.
    """

    sensors: Sensors
    values: Floats
    usable: Floats
    masks: Mapping[Kind, NDArray[np.bool_]]
    words: Mapping[float, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def at(self, rows: Sequence[int]) -> Examined:
        """Return some rows, in this order, without their faults."""
        values = self.values[rows]
        usable = values if self.usable is self.values else self.usable[rows]
        return Examined(self.sensors, values, usable, {})

    def since(self, row: int) -> Examined:
        """Return the rows from ``row`` on, with their faults."""
        values = self.values[row:]
        usable = values if self.usable is self.values else self.usable[row:]
        masks = {kind: mask[row:] for kind, mask in self.masks.items()}
        return Examined(self.sensors, values, usable, masks, self.words)

    def followed_by(self, others: Examined) -> Examined:
        """Return these rows followed by others, without their faults."""
        values = usable = np.concatenate([self.values, others.values])
        if self.usable is not self.values or others.usable is not others.values:
            usable = np.concatenate([self.usable, others.usable])
        return Examined(self.sensors, values, usable, {})

    def unusable(self, row: int) -> dict[str, Kind]:
        """Return the sensors of a row without a usable value, each with its kind of fault."""
        return {
            self.sensors.names[column]: kind
            for kind, mask in self.masks.items()
            for column in np.flatnonzero(mask[row]).tolist()
        }

    def refuse(self, row: int, field: str) -> None:
        """Raise if a row has an impossible value; a missing one is allowed.

        Raises
        ------
        InvalidDataError
            Its field is ``field`` followed by the sensor.
        """
        for sensor, kind in self.unusable(row).items():
            if kind in _DESCRIPTION:
                value = self.values[row, self.sensors.names.index(sensor)]
                raise InvalidDataError(
                    f"{value:g} {_DESCRIPTION[kind]}.",
                    field=f"{field}{sensor}",
                    remedy="Check the sensor and its unit, or ignore impossible values: "
                    "VIGIE_FAULTY_VALUES=impute, for a file --faulty impute.",
                )
