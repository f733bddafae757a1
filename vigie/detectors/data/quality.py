"""Faulty sensor readings: missing or impossible values, wrong units, frozen sensors.

The same rules apply to training and live data. A value is *missing* if it is NaN or infinite, and
*out of range* if it is outside the sensor's physical range.

It is in a *wrong unit* if it is at least 300 times the sensor's usual magnitude. A heavy tail
thins out from decade to decade, so it has more values just below that limit than beyond it; values
in a wrong unit cluster beyond a gap.

A sensor is *frozen* while it holds one value for longer than its usual behaviour explains. Coarse
resolution, slow phases and set-points produce runs of every length up to the longest; a frozen
sensor leaves a gap between the lengths of its usual runs and that of the frozen one.
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
"""The physical range of a sensor; None for no limit."""

TOO_LARGE, LARGE = 300.0, 10.0
MIN_VALUES = 20
SHORTEST_FROZEN = 10
BY_CHANCE = 1e-6
LIVE_MARGIN = 3
"""How many times longer than in training a sensor may hold a value; healthy ones reach 2.7."""

_DESCRIPTION: dict[Kind, str] = {
    "missing": "are missing",
    "out_of_range": "are outside the physical range",
    "wrong_unit": "are hundreds of times too large, as in a wrong unit",
    "frozen": "are frozen",
}

_FILLED = "each takes the sensor's last good value before it"
_KEPT = "they are learnt as they are"


@dataclass(frozen=True)
class SensorFault:
    """One kind of fault of one sensor in a table; ``str`` gives a sentence.

    Rows count from 0, in the sentence from 1. ``example`` is the value in ``first_row``, None
    if it is missing; ``longest`` is the longest run of a frozen sensor in rows, else None.
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
        """Describe the faulty readings of one sensor; both arrays have the shape (n_samples,)."""
        rows = np.flatnonzero(mask)
        first = int(rows[0])
        example = None if kind == "missing" else float(readings[first])
        return cls(sensor, kind, len(rows), len(readings), first, example, longest)

    def __str__(self) -> str:
        text = _DESCRIPTION[self.kind]
        held = f", for up to {self.longest} consecutive rows" if self.longest is not None else ""
        example = f" ({self.example:g})" if self.example is not None else ""
        return (
            f"{self.sensor}: {self.n_rows} of {self.n_samples} values {text}{held}, "
            f"first in row {self.first_row + 1}{example}"
        )


@dataclass(frozen=True)
class DataQuality:
    """The faults of a table, in the order of its columns, and the number of filled values."""

    n_samples: int
    faults: tuple[SensorFault, ...]
    n_filled: int

    def sentences(self) -> list[str]:
        """Return the faults, and what is done with them; missing values of all sensors in one."""
        missing = [fault for fault in self.faults if fault.kind == "missing"]
        others = [fault for fault in self.faults if len(missing) < 2 or fault.kind != "missing"]
        told = [f"{fault}; {_KEPT if fault.kind == 'frozen' else _FILLED}" for fault in others]
        if len(missing) < 2:
            return told
        n_values = sum(fault.n_rows for fault in missing)
        worst = max(missing, key=lambda fault: fault.n_rows)
        return [
            f"{n_values:,} values of {len(missing)} sensors are missing, most in {worst.sensor} "
            f"({worst.n_rows:,} of {worst.n_samples:,}); {_FILLED}",
            *told,
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-compatible values, each fault with its sentence."""
        faults = [{**asdict(fault), "sentence": str(fault)} for fault in self.faults]
        return {"n_samples": self.n_samples, "n_filled": self.n_filled, "faults": faults}


def examine(
    values: Floats,
    feature_names: Sequence[str],
    ranges: Mapping[str, Range] = {},
    context: Sequence[int] = (),
) -> tuple[Floats, DataQuality]:
    """Find faulty readings in training data, and fill all but frozen ones.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_features)
        Readings in time order, NaN and infinities allowed; never changed.
    feature_names : sequence of str
        Names of the columns.
    ranges : mapping of str to (low, high), optional
        Physical ranges of those sensors for which they are known.
    context : sequence of int, optional
        Columns that are settings: these may hold any value, for as long as they like.

    Returns
    -------
    filled : ndarray of shape (n_samples, n_features)
        A copy in which each value that is missing, out of range or in a wrong unit is replaced
        by the sensor's last good one before it; at the start, by the first good one. Frozen
        values stay as they are. With nothing to fill, ``values`` itself.
    quality : DataQuality
        The faults.

    Raises
    ------
    InvalidDataError
        If more than half of a sensor's values, or of the rows, would have to be filled.
    """
    masks = faulty(values, feature_names, ranges)
    masks["wrong_unit"][:, context] = False
    bad = np.logical_or.reduce(list(masks.values()))
    _require_half_good(bad, feature_names)
    faults = []
    for column, sensor in enumerate(feature_names):
        readings = values[:, column]
        for kind, mask in masks.items():
            if mask[:, column].any():
                faults.append(SensorFault.of(sensor, kind, readings, mask[:, column]))
        if column in context:
            continue
        good = ~bad[:, column]
        _, lengths, frozen = _runs(readings[good])
        if frozen.any():
            mask = np.zeros(len(readings), dtype=bool)
            mask[good] = np.repeat(frozen, lengths)
            longest = int(lengths[frozen].max())
            faults.append(SensorFault.of(sensor, "frozen", readings, mask, longest))
    quality = DataQuality(len(values), tuple(faults), int(bad.sum()))
    return (_filled(values, bad) if bad.any() else values), quality


def faulty(
    values: Floats,
    feature_names: Sequence[str],
    ranges: Mapping[str, Range],
    usual: Floats | None = None,
) -> dict[Kind, NDArray[np.bool_]]:
    """Mark the faulty values of a table or a row; no value has two faults.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_features) or (n_features,)
        Readings; NaN for a missing value.
    feature_names : sequence of str
        Names of the columns.
    ranges : mapping of str to (low, high)
        Physical ranges of those sensors for which they are known.
    usual : ndarray of shape (n_features,), optional
        Result of ``magnitude`` in training; by default computed from these values.

    Returns
    -------
    dict of str to ndarray of bool
        By kind of fault except frozen, in the shape of ``values``.
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
    """Return the usual magnitude of each sensor; 300 times as much is a wrong unit.

    It is the median of the absolute values. For a heavy-tailed sensor it is larger, so that the
    limit is at least ten times the largest value.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_features)
        Readings; NaN and infinities are ignored.

    Returns
    -------
    ndarray of shape (n_features,)
        0 for no limit: if a sensor is mostly zero, or has too few values.
    """
    sizes = np.zeros(values.shape[1])
    for column, readings in enumerate(values.T):
        size = np.sort(np.abs(readings[np.isfinite(readings)]))
        median = size[len(size) // 2] if len(size) >= MIN_VALUES else 0.0
        if median > 0.0:
            beyond = np.count_nonzero(size / TOO_LARGE >= median)
            between = np.count_nonzero(size / LARGE >= median) - beyond
            wrong_unit = between < beyond <= len(size) / 4
            sizes[column] = median if wrong_unit else max(median, size[-1] / TOO_LARGE * LARGE)
    return sizes


def frozen_runs(readings: Floats) -> list[tuple[int, int]]:
    """Return the runs in which a sensor is frozen, in the order of the rows.

    Parameters
    ----------
    readings : ndarray of shape (n_rows,)
        Of one sensor in time order; NaN and infinities allowed.

    Returns
    -------
    list of (first, last)
        Rows from 0, both inclusive; a run goes on over missing values.
    """
    rows = np.flatnonzero(np.isfinite(readings))
    starts, lengths, frozen = _runs(readings[rows])
    return [
        (int(rows[start]), int(rows[start + length - 1]))
        for start, length in zip(starts[frozen], lengths[frozen], strict=True)
    ]


def longest_runs(values: Floats) -> NDArray[np.intp]:
    """Return the longest run of equal values of each sensor in rows, shape (n_features,).

    Frozen runs (see ``examine``) do not count, and NaN and infinities are ignored. Pass the
    unfilled rows: filled gaps look like runs.
    """
    longest = np.zeros(values.shape[1], dtype=np.intp)
    for column, readings in enumerate(values.T):
        _, lengths, frozen = _runs(readings[np.isfinite(readings)])
        longest[column] = lengths[~frozen].max(initial=0)
    return longest


def frozen_after(values: Floats) -> NDArray[np.intp]:
    """Return the longest run of rows that a live sensor may hold one value, shape (n_features,).

    A sensor that holds it for longer is frozen. 0 for no limit: for a constant, or a switch with
    two values.
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
    reason = "missing, outside the physical range or in a wrong unit"
    if by_sensor[worst] > half:
        raise InvalidDataError(
            f"{by_sensor[worst]} of {len(bad)} values are {reason}.",
            field=f"data.{feature_names[worst]}",
            remedy="Leave the column out, or record again with a sensor that works. If it is only "
            "recorded less often than the others, hold its last value: --hold 10min, say.",
        )
    if by_row > half:
        raise InvalidDataError(
            f"{by_row} of {len(bad)} rows have a value that is {reason}.",
            field="data",
            remedy=f"Leave out the worst columns, '{feature_names[worst]}' first.",
        )


def _filled(values: Floats, bad: NDArray[np.bool_]) -> Floats:
    rows = np.arange(len(values))[:, np.newaxis]
    source = np.maximum.accumulate(np.where(bad, -1, rows), axis=0)
    return np.take_along_axis(values, np.where(source < 0, (~bad).argmax(axis=0), source), axis=0)


def _runs(readings: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Return start and length of each run of equal values, and whether it is frozen."""
    starts = np.flatnonzero(np.append(len(readings) > 0, readings[1:] != readings[:-1]))
    lengths = np.diff(starts, append=len(readings))
    frozen = lengths >= _unexplained(lengths)
    values = readings[starts]
    # Frequent long runs are usual, and a switch with two values may stay at one for any time.
    usual = frozen.sum() > 1 and 3 * lengths[frozen].sum() > len(readings)
    if usual or (frozen.any() and len(np.unique(values)) <= 2):
        frozen[:] = False
    for run in np.flatnonzero(frozen):
        # A value with other long runs is a resting value of the sensor, often zero.
        others = values == values[run]
        others[run] = False
        frozen[run] = lengths[run] > 5 * lengths[others].max(initial=0)
    return starts, lengths, frozen


def _unexplained(lengths: NDArray[np.intp]) -> float:
    """Return the length from which runs are longer than the shorter ones explain; or inf.

    The shorter runs estimate the probability that the sensor repeats its value, as a beta
    distribution, to account for few runs. It counts rows instead of runs, since slow phases
    consist of few runs of many rows.
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
