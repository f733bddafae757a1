"""How an asset is doing: evidence from many readings, and a state that does not chatter.

One odd reading is a blip, forty are a fault. The evidence on an asset is a p-value like a
reading's, from the trends of the models and from the readings themselves, and it moves a state
between ``normal``, ``watch`` and ``alarm``. An alarm is raised at once when the evidence is
strong, and cleared only after several readings in a row that speak well for it (a deadband and an
off-delay, as alarm systems have them, so that one fault is one alarm).

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

from app.detectors.base import Floats
from app.detectors.calibration import combine
from app.models.anomaly_data import AssetState
from app.services.timeline import Times

ALARM, CLEAR = 2.0, 5.0
"""Evidence that raises an alarm, and the weaker evidence that keeps it, in contaminations."""
WEAKEST_ALARM, WEAKEST_CLEAR = 0.25, 0.5
"""However large the contamination is, what half of all healthy readings show keeps no alarm."""
OFF_DELAY = 5
"""Readings in a row, none of which keeps the alarm, that end it."""
VOTE_OF_READINGS = 1.0 / 30.0
"""Weight of the readings themselves beside each trend, which has 1."""
READINGS = 20
"""Readings that speak together."""


@dataclass(frozen=True)
class Standing:
    """The state of an asset after a reading.

    Attributes
    ----------
    state : AssetState
        Normal, watch or alarm.
    since : datetime64[us]
        When it came into this state.
    began : datetime64[us] or None
        Where the change that led to an alarm began; None without one.
    calm : int
        Readings in a row that would clear it.
    """

    state: AssetState
    since: np.datetime64
    began: np.datetime64 | None = None
    calm: int = 0


def evidence(trends: Sequence[Floats], readings: Floats) -> Floats:
    """Return the p-value of an asset at each reading, shape (n,); NaN while nothing can be said.

    Parameters
    ----------
    trends : sequence of ndarray of shape (n,)
        p-values of each model's trend; NaN where it abstains.
    readings : ndarray of shape (n,)
        p-value of the latest ``READINGS`` readings together; see ``together``.

    Notes
    -----
    The average of readings shows a shift that no single reading shows, and a fault that leaves
    all averages alone still shows in the readings; but these, taken one by one, know nothing of
    drift, so that their vote is small.
    """
    votes = [1.0] * len(trends) + [VOTE_OF_READINGS]
    return combine(np.stack([*trends, readings]), np.array(votes))


def together(p_values: Floats, reach: NDArray[np.intp]) -> Floats:
    """Return one p-value for each ``READINGS`` readings in a row: twice their median.

    That is a p-value however the readings depend on each other (Rüger 1978), and half of the
    readings must be odd before it is small.

    Parameters
    ----------
    p_values : ndarray of shape (n,)
        Of all rows of a timeline; NaN where a reading was not judged.
    reach : ndarray of int of shape (n_last,)
        For each of the last rows, how far back it may look.

    Returns
    -------
    ndarray of shape (n_last,)
        NaN where there are too few readings.
    """
    result = np.full(len(reach), np.nan)
    if len(p_values) >= READINGS:
        windows = np.lib.stride_tricks.sliding_window_view(p_values, READINGS)
        found = np.minimum(2.0 * np.median(windows, axis=1), 1.0)[-len(reach) :]
        result[len(reach) - len(found) :] = found
    return np.where(reach >= READINGS, result, np.nan)


def follow(
    before: Standing | None, times: Times, p_values: Floats, contamination: float
) -> list[Standing]:
    """Return the standing after each reading, from the one before the first.

    A reading on which nothing can be said changes nothing.
    """
    standings = []
    for time, p_value in zip(times, p_values, strict=True):
        before = _next(before or Standing(AssetState.NORMAL, time), time, p_value, contamination)
        standings.append(before)
    return standings


def where_it_began(values: Floats) -> int:
    """Return the row with which the mean of values of shape (n,) changed, by least squares."""
    n = np.arange(1, len(values))
    sums = np.cumsum(values)[:-1]
    gap = sums / n - (values.sum() - sums) / (len(values) - n)
    return int(np.argmax(n * (len(values) - n) * gap**2)) + 1 if len(n) else 0


def _next(before: Standing, time: np.datetime64, p_value: float, contamination: float) -> Standing:
    if np.isnan(p_value):
        return before
    weak = p_value < min(CLEAR * contamination, WEAKEST_CLEAR)
    if p_value < min(ALARM * contamination, WEAKEST_ALARM):
        if before.state is AssetState.ALARM:
            return replace(before, calm=0)
        return Standing(AssetState.ALARM, time)
    if before.state is AssetState.NORMAL:
        return Standing(AssetState.WATCH, time) if weak else before
    calm = 0 if weak else before.calm + 1
    if calm >= OFF_DELAY:
        return Standing(AssetState.NORMAL, time)
    return replace(before, calm=calm)
