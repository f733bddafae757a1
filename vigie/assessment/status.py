"""The status of an asset: evidence from many readings, and a state that does not chatter.

One odd reading is a blip, forty are a fault. The evidence on an asset is a p-value, combined from
the trends of the models and from the readings themselves. It moves the asset between ``normal``,
``watch`` and ``alarm``. Strong evidence raises an alarm at once; only several consecutive readings
without evidence clear it. This is the deadband and off-delay of alarm systems: one fault raises
one alarm.

References
----------
ANSI/ISA-18.2. Management of alarm systems for the process industries.
EEMUA publication 191. Alarm systems: a guide to design, management and procurement.
Rüger. Das maximale Signifikanzniveau des Tests "Lehne H0 ab, wenn k unter n gegebenen Tests zur
Ablehnung führen". Metrika 25, 1978.
Hinkley. Inference about the change-point in a sequence of random variables. Biometrika 57, 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.timeline import Times
from vigie.detectors import compiled
from vigie.detectors.base import Floats
from vigie.detectors.calibration.combination import combine
from vigie.models.anomaly_data import AssetState

ALARM, CLEAR = 2.0, 5.0
"""p-value that raises an alarm, and the larger one that sustains it, in contaminations."""
WEAKEST_ALARM, WEAKEST_CLEAR = 0.25, 0.5
"""Upper limits of both p-values: half of all healthy readings must never sustain an alarm."""
OFF_DELAY = 5
"""Consecutive readings without evidence that clear an alarm."""
READINGS_WEIGHT = 1.0 / 30.0
"""Weight of the readings, relative to 1 for each trend."""
READINGS = 20
"""Readings that are combined into one p-value."""
STATES = (AssetState.NORMAL, AssetState.WATCH, AssetState.ALARM)
"""In order of severity."""
NORMAL = AssetState.NORMAL


@dataclass(frozen=True)
class AssetStatus:
    """The state of an asset after a reading.

    Attributes
    ----------
    state : AssetState
        Normal, watch or alarm.
    since : datetime64[us]
        When the asset entered this state.
    began : datetime64[us] or None
        When the change that led to an alarm began; None without an alarm.
    calm : int
        Consecutive readings without evidence so far; ``OFF_DELAY`` of them clear the state.
    """

    state: AssetState
    since: np.datetime64
    began: np.datetime64 | None = None
    calm: int = 0


@dataclass(frozen=True)
class StatusSeries:
    """The state of an asset after each of consecutive readings, as arrays.

    Attributes
    ----------
    before : AssetStatus or None
        The status before the first reading; None if the asset has no earlier one.
    times : ndarray of datetime64[us] of shape (n,)
        When the readings were measured.
    states : ndarray of int of shape (n,)
        Indices into ``STATES``.
    entered : ndarray of int of shape (n,)
        The reading at which the asset entered its state; -1 if that was before the first.
    calm : ndarray of int of shape (n,)
        Consecutive readings without evidence so far, during an alarm or a watch.
    """

    before: AssetStatus | None
    times: Times
    states: NDArray[np.uint8]
    entered: NDArray[np.int64]
    calm: NDArray[np.uint8]

    @classmethod
    def following(
        cls, before: AssetStatus | None, times: Times, p_values: Floats, contamination: float
    ) -> StatusSeries:
        """Compute the states of an asset from the evidence at each reading.

        Parameters
        ----------
        before : AssetStatus or None
            The status before the first reading.
        times : ndarray of datetime64[us] of shape (n,)
            When the readings were measured.
        p_values : ndarray of shape (n,)
            See ``evidence``. NaN (too few readings) leaves the state as it is.
        contamination : float
            The p-value below which a reading is an anomaly.
        """
        weak = min(CLEAR * contamination, WEAKEST_CLEAR)
        strong, n, code = alarm_limit(contamination), len(p_values), 0
        if before is not None:
            # A history may have been written under a longer off-delay.
            code = OFF_DELAY * STATES.index(before.state) + min(before.calm, OFF_DELAY - 1)
        states, calm, entered = np.empty(n, np.uint8), np.empty(n, np.uint8), np.empty(n, np.int64)
        compiled.evidence.follow(
            *(p_values, weak, strong, TRANSITIONS, OFF_DELAY, code, states, calm, entered)
        )
        return cls(before, times, states, entered, calm)

    def at(self, row: int) -> AssetStatus:
        """Return the status after one reading; ``began`` is not set for a new alarm."""
        entered, calm = int(self.entered[row]), int(self.calm[row])
        if entered >= 0:
            return AssetStatus(STATES[self.states[row]], self.times[entered], None, calm)
        before = self.before or AssetStatus(NORMAL, self.times[0])
        return before if before.calm == calm else replace(before, calm=calm)


def alarm_limit(contamination: float) -> float:
    """Return the p-value of an asset below which an alarm is raised."""
    return min(ALARM * contamination, WEAKEST_ALARM)


def evidence(trends: Sequence[Floats], readings: Floats) -> Floats:
    """Return the p-value of an asset at each reading, shape (n,); NaN with too few readings.

    Parameters
    ----------
    trends : sequence of ndarray of shape (n,)
        p-values of each model's trend; NaN where it abstains.
    readings : ndarray of shape (n,)
        Combined p-value of the latest ``READINGS`` readings; see ``combined_readings``.

    Notes
    -----
    An average shows a shift that no single reading shows, and a fault that leaves the averages
    unchanged still shows in the readings. These do not account for drift, so their weight is
    small.
    """
    weights = [1.0] * len(trends) + [READINGS_WEIGHT]
    return combine(np.array([*trends, readings]), np.array(weights))


def combined_readings(p_values: Floats, rows_since_gap: NDArray[np.intp]) -> Floats:
    """Return one p-value for each ``READINGS`` consecutive readings: twice their median.

    That is a valid p-value under any dependence between the readings (Rüger 1978), and it is
    small only if half of the readings are unusual.

    Parameters
    ----------
    p_values : ndarray of shape (n,)
        Of all rows of a timeline; NaN where a reading was not assessed.
    rows_since_gap : ndarray of int of shape (n_last,)
        Rows from the last gap to each of the last rows, itself counted.

    Returns
    -------
    ndarray of shape (n_last,)
        NaN where there are too few readings.
    """
    combined = np.empty(len(rows_since_gap))
    compiled.evidence.twice_the_median(p_values, rows_since_gap, READINGS, combined)
    return combined


def change_point(values: Floats) -> int:
    """Return the row at which the mean of values of shape (n,) changed, by least squares."""
    n = np.arange(1, len(values))
    sums = np.cumsum(values)[:-1]
    gap = sums / n - (values.sum() - sums) / (len(values) - n)
    return int(np.argmax(n * (len(values) - n) * gap**2)) + 1 if len(n) else 0


def _next_code(code: int, level: int) -> int:
    """Return the code of the state that follows, given the level of evidence.

    A code is ``OFF_DELAY`` times the index into ``STATES``, plus the calm readings.
    """
    state, calm = divmod(code, OFF_DELAY)
    if level == UNKNOWN:
        return code
    if level == STRONG:
        return OFF_DELAY * STATES.index(AssetState.ALARM)
    if level == WEAK:
        return OFF_DELAY * max(state, STATES.index(AssetState.WATCH))
    return 0 if state == 0 or calm + 1 == OFF_DELAY else code + 1


UNKNOWN, NONE, WEAK, STRONG = range(4)
"""Levels of evidence at a reading."""
TRANSITIONS = np.array(
    [[_next_code(code, level) for level in range(4)] for code in range(len(STATES) * OFF_DELAY)],
    dtype=np.uint8,
)
"""The next code, by code and level of evidence."""
