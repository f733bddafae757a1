"""Readings that no machine made: gaps, impossible values, wrong units, sensors that stand still.

Training and live data are judged by the same rules. A value is *missing* if it is NaN or
infinite, and *out of range* if that is physically impossible.

It is in a *wrong unit* if it is at least 300 times the sensor's usual magnitude. Real tails thin
out from decade to decade, so a heavy-tailed sensor has more values on the way there than beyond;
a wrong unit piles up beyond a void.

A sensor is *frozen* while it holds one value for longer than its own habits explain. Coarse
resolution, slow phases and set-points make stays of every length up to the longest; a frozen
sensor leaves a gap between its usual stays and the one in which it stood still.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats
from vigie.errors import InvalidDataError

Kind = Literal["missing", "out_of_range", "wrong_unit", "frozen"]
Range = tuple[float | None, float | None]
"""The physical range of a sensor, either end open."""

TOO_LARGE, ON_THE_WAY = 300.0, 10.0
MIN_VALUES = 20
SHORTEST_FROZEN = 10
BY_CHANCE = 1e-6
LIVE_MARGIN = 3
"""How much longer than ever in training a sensor may hold a value; healthy ones reach 2.7."""

_SAID: dict[Kind, str] = {
    "missing": "are missing",
    "out_of_range": "are outside the physical range",
    "wrong_unit": "are hundreds of times too large, as in a wrong unit",
    "frozen": "are frozen",
}


@dataclass(frozen=True)
class SensorFault:
    """One kind of fault of one sensor in a table; as text, a plain sentence.

    Rows count from 0, in the sentence from 1. ``example`` is the value in ``first_row``, None
    where it is missing; ``longest`` is the most rows for which a frozen sensor held one value,
    else None.
    """

    sensor: str
    kind: Kind
    n_rows: int
    n_samples: int
    first_row: int
    example: float | None = None
    longest: int | None = None

    @classmethod
    def of(
        cls,
        sensor: str,
        kind: Kind,
        readings: Floats,
        mask: NDArray[np.bool_],
        longest: int | None = None,
    ) -> SensorFault:
        """Tell of one sensor's readings, shape (n_samples,), and where they are at fault."""
        rows = np.flatnonzero(mask)
        first = int(rows[0])
        example = None if kind == "missing" else float(readings[first])
        return cls(sensor, kind, len(rows), len(readings), first, example, longest)

    def __str__(self) -> str:
        held = f", for up to {self.longest} rows on end" if self.longest is not None else ""
        example = f" ({self.example:g})" if self.example is not None else ""
        return (
            f"{self.sensor}: {self.n_rows} of {self.n_samples} values {_SAID[self.kind]}{held}, "
            f"first in row {self.first_row + 1}{example}"
        )


@dataclass(frozen=True)
class DataQuality:
    """The faults of a table, in the order of its columns, and how many cells were filled."""

    n_samples: int
    faults: tuple[SensorFault, ...]
    n_filled: int

    def as_dict(self) -> dict[str, Any]:
        """Return all of it in values that JSON knows, each fault with its sentence."""
        faults = [{**asdict(fault), "sentence": str(fault)} for fault in self.faults]
        return {"n_samples": self.n_samples, "n_filled": self.n_filled, "faults": faults}


def examine(
    values: Floats, feature_names: Sequence[str], ranges: Mapping[str, Range] = {}
) -> tuple[Floats, DataQuality]:
    """Find faulty readings in training data, and fill those that nothing can be learnt from.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_features)
        Readings in time order, NaN and infinities allowed; never changed.
    feature_names : sequence of str
        Names of the columns.
    ranges : mapping of str to (low, high), optional
        Physical ranges of those sensors for which they are known.

    Returns
    -------
    filled : ndarray of shape (n_samples, n_features)
        A copy in which each value that is missing, out of range or in a wrong unit is the
        sensor's last good one above it; at the start, the first good one. Frozen values stay as
        they are. With nothing to fill, ``values`` itself.
    quality : DataQuality
        What was found.

    Raises
    ------
    InvalidDataError
        If more than half of a sensor's values, or of the rows, would have to be filled.
    """
    masks = faulty(values, feature_names, ranges)
    bad = np.logical_or.reduce(list(masks.values()))
    _require_half_good(bad, feature_names)
    faults = []
    for column, sensor in enumerate(feature_names):
        readings = values[:, column]
        for kind, mask in masks.items():
            if mask[:, column].any():
                faults.append(SensorFault.of(sensor, kind, readings, mask[:, column]))
        good = ~bad[:, column]
        _, lengths, frozen = _stays(readings[good])
        if frozen.any():
            still = np.zeros(len(readings), dtype=bool)
            still[good] = np.repeat(frozen, lengths)
            longest = int(lengths[frozen].max())
            faults.append(SensorFault.of(sensor, "frozen", readings, still, longest))
    quality = DataQuality(len(values), tuple(faults), int(bad.sum()))
    return (_filled(values, bad) if bad.any() else values), quality


def faulty(
    values: Floats,
    feature_names: Sequence[str],
    ranges: Mapping[str, Range],
    usual: Floats | None = None,
) -> dict[Kind, NDArray[np.bool_]]:
    """Mark what is wrong with a table, or with one row; no value has two faults.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_features) or (n_features,)
        Readings, NaN where there is none.
    feature_names : sequence of str
        Names of the columns.
    ranges : mapping of str to (low, high)
        Physical ranges of those sensors for which they are known.
    usual : ndarray of shape (n_features,), optional
        What ``magnitude`` has learnt in training; by default learnt from these values.

    Returns
    -------
    dict of str to ndarray of bool
        By kind of fault, in the shape of ``values``. A frozen sensor cannot be told from one row.
    """
    limits = [ranges.get(name, (None, None)) for name in feature_names]
    low = np.array([-np.inf if low is None else low for low, _ in limits])
    high = np.array([np.inf if high is None else high for _, high in limits])
    finite = np.isfinite(values)
    outside = finite & ((values < low) | (values > high))
    if usual is None:
        usual = magnitude(np.where(outside, np.nan, values))
    too_large = finite & ~outside & (usual > 0.0) & (np.abs(values) / TOO_LARGE >= usual)
    return {"missing": ~finite, "out_of_range": outside, "wrong_unit": too_large}


def magnitude(values: Floats) -> Floats:
    """Return the size of each sensor's values, 300 times which is a wrong unit.

    It is the median of the absolute values; more where real values come so near to the limit
    that this is moved up, to ten times the largest of them.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_features)
        Readings; NaN and infinities are passed over.

    Returns
    -------
    ndarray of shape (n_features,)
        0 where no value is too large: for a sensor that is mostly zero, or has too few values.
    """
    sizes = np.zeros(values.shape[1])
    for column, readings in enumerate(values.T):
        size = np.sort(np.abs(readings[np.isfinite(readings)]))
        median = size[len(size) // 2] if len(size) >= MIN_VALUES else 0.0
        if median > 0.0:
            beyond = np.count_nonzero(size / TOO_LARGE >= median)
            on_the_way = np.count_nonzero(size / ON_THE_WAY >= median) - beyond
            piled_up = on_the_way < beyond <= len(size) / 4
            sizes[column] = median if piled_up else max(median, size[-1] / TOO_LARGE * ON_THE_WAY)
    return sizes


def longest_runs(values: Floats) -> NDArray[np.intp]:
    """Return for how many rows on end each sensor has held one value at most, (n_features,).

    What ``examine`` calls frozen does not count, and NaN and infinities are passed over. Give
    the rows as they came: filled gaps look like a value that is held.
    """
    longest = np.zeros(values.shape[1], dtype=np.intp)
    for column, readings in enumerate(values.T):
        _, lengths, frozen = _stays(readings[np.isfinite(readings)])
        longest[column] = lengths[~frozen].max(initial=0)
    return longest


def frozen_after(values: Floats) -> NDArray[np.intp]:
    """Return the rows on end that a live sensor may hold one value, shape (n_features,).

    One that holds it for longer is frozen. 0 where any time is usual: for a constant,
    or a switch with its two values.
    """
    varies = [_has_three_values(readings[np.isfinite(readings)]) for readings in values.T]
    return np.where(varies, LIVE_MARGIN * np.maximum(SHORTEST_FROZEN, longest_runs(values)), 0)


def _has_three_values(readings: Floats) -> bool:
    for _ in range(2):
        readings = readings[readings != readings[:1]]
    return len(readings) > 0


def _require_half_good(bad: NDArray[np.bool_], feature_names: Sequence[str]) -> None:
    half, by_sensor, by_row = len(bad) / 2, bad.sum(axis=0), bad.any(axis=1).sum()
    worst = int(by_sensor.argmax())
    wrong = "missing, outside the physical range or in a wrong unit"
    if by_sensor[worst] > half:
        raise InvalidDataError(
            f"{by_sensor[worst]} of {len(bad)} values are {wrong}.",
            field=f"data.{feature_names[worst]}",
            remedy="Leave the column out, or record again with a sensor that works.",
        )
    if by_row > half:
        raise InvalidDataError(
            f"{by_row} of {len(bad)} rows have a value that is {wrong}.",
            field="data",
            remedy=f"Leave out the worst columns, '{feature_names[worst]}' first.",
        )


def _filled(values: Floats, bad: NDArray[np.bool_]) -> Floats:
    rows = np.arange(len(values))[:, np.newaxis]
    source = np.maximum.accumulate(np.where(bad, -1, rows), axis=0)
    return np.take_along_axis(values, np.where(source < 0, (~bad).argmax(axis=0), source), axis=0)


def _stays(readings: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Return start and length of each run of equal values, and whether it is frozen."""
    starts = np.flatnonzero(np.append(len(readings) > 0, readings[1:] != readings[:-1]))
    lengths = np.diff(starts, append=len(readings))
    frozen = lengths >= _unexplained(lengths)
    values = readings[starts]
    # Many long stays are a habit, and a switch with its two values may rest for any time.
    habit = frozen.sum() > 1 and 3 * lengths[frozen].sum() > len(readings)
    if habit or (frozen.any() and len(np.unique(values)) <= 2):
        frozen[:] = False
    for stay in np.flatnonzero(frozen):
        # A value to which the sensor keeps returning is where it rests: zero, mostly.
        others = values == values[stay]
        others[stay] = False
        frozen[stay] = lengths[stay] > 5 * lengths[others].max(initial=0)
    return starts, lengths, frozen


def _unexplained(lengths: NDArray[np.intp]) -> float:
    """Return the length from which on stays are longer than the shorter ones explain; or inf.

    The shorter ones tell how likely the sensor is to repeat its value. That is a beta
    distribution, since few of them tell little, and rows count in it, not stays, since slow
    phases are few stays of many rows.
    """
    ordered = np.sort(lengths).astype(np.float64)
    for length in np.unique(ordered[ordered >= SHORTEST_FROZEN]):
        shorter = ordered[: np.searchsorted(ordered, length)]
        if len(shorter) > 0:
            changes = shorter.sum() ** 2 / (shorter**2).sum()
            repeats = shorter.sum() - changes
            by_chance = _log_beta(repeats + length - 0.5, changes + 0.5)
            by_chance -= _log_beta(repeats + 0.5, changes + 0.5)
            if by_chance < math.log(BY_CHANCE / len(lengths)):
                return float(length)
    return math.inf


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
