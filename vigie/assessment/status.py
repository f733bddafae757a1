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

from vigie.assessment.timeline import Times
from vigie.detectors import compiled
from vigie.detectors.base import Floats
from vigie.detectors.calibration.combination import combine
from vigie.models.anomaly_data import AssetState

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
STATES = (AssetState.NORMAL, AssetState.WATCH, AssetState.ALARM)
"""From well to worst."""
NORMAL = AssetState.NORMAL


@dataclass(frozen=True)
class AssetStatus:
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


@dataclass(frozen=True)
class StatusSeries:
    """The state of an asset after each of consecutive readings, as arrays.

    Attributes
    ----------
    before : AssetStatus or None
        From before the first reading; None if that is the first of all.
    times : ndarray of datetime64[us] of shape (n,)
        When the readings were measured.
    states : ndarray of int of shape (n,)
        Places in ``STATES``.
    entered : ndarray of int of shape (n,)
        The reading that brought the asset into its state; -1 if that was before the first.
    calm : ndarray of int of shape (n,)
        Readings in a row that would end an alarm or a watch.
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
        """Follow an asset by the evidence at each reading.

        Parameters
        ----------
        before : AssetStatus or None
            From before the first reading.
        times : ndarray of datetime64[us] of shape (n,)
            When the readings were measured.
        p_values : ndarray of shape (n,)
            See ``evidence``. A reading on which nothing can be said (NaN) changes nothing.
        contamination : float
            The p-value below which a reading is an anomaly.
        """
        weak = min(CLEAR * contamination, WEAKEST_CLEAR)
        strong = min(ALARM * contamination, WEAKEST_ALARM)
        n, code = len(p_values), 0
        if before is not None:
            code = OFF_DELAY * STATES.index(before.state) + before.calm
        states, calm, entered = np.empty(n, np.uint8), np.empty(n, np.uint8), np.empty(n, np.int64)
        compiled.evidence.follow(
            *(p_values, weak, strong, MOVES, OFF_DELAY, code, states, calm, entered)
        )
        return cls(before, times, states, entered, calm)

    def at(self, row: int) -> AssetStatus:
        """Return the status after one reading, without where a new alarm began."""
        entered, calm = int(self.entered[row]), int(self.calm[row])
        if entered >= 0:
            return AssetStatus(STATES[self.states[row]], self.times[entered], None, calm)
        before = self.before or AssetStatus(NORMAL, self.times[0])
        return before if before.calm == calm else replace(before, calm=calm)


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
    return combine(np.array([*trends, readings]), np.array(votes))


def together(p_values: Floats, rows_since_gap: NDArray[np.intp]) -> Floats:
    """Return one p-value for each ``READINGS`` readings in a row: twice their median.

    That is a p-value however the readings depend on each other (Rüger 1978), and half of the
    readings must be odd before it is small.

    Parameters
    ----------
    p_values : ndarray of shape (n,)
        Of all rows of a timeline; NaN where a reading was not judged.
    rows_since_gap : ndarray of int of shape (n_last,)
        For each of the last rows, how far back it may look.

    Returns
    -------
    ndarray of shape (n_last,)
        NaN where there are too few readings.
    """
    combined = np.empty(len(rows_since_gap))
    compiled.evidence.twice_the_median(p_values, rows_since_gap, READINGS, combined)
    return combined


def where_it_began(values: Floats) -> int:
    """Return the row with which the mean of values of shape (n,) changed, by least squares."""
    n = np.arange(1, len(values))
    sums = np.cumsum(values)[:-1]
    gap = sums / n - (values.sum() - sums) / (len(values) - n)
    return int(np.argmax(n * (len(values) - n) * gap**2)) + 1 if len(n) else 0


def _moved(code: int, level: int) -> int:
    """Return the code of the state that evidence of some strength leads to.

    A code is ``OFF_DELAY`` times the place in ``STATES``, and the calm readings in a row.
    """
    state, calm = divmod(code, OFF_DELAY)
    if level == NOTHING:
        return code
    if level == STRONG:
        return OFF_DELAY * STATES.index(AssetState.ALARM)
    if level == WEAK:
        return OFF_DELAY * max(state, STATES.index(AssetState.WATCH))
    return 0 if state == 0 or calm + 1 == OFF_DELAY else code + 1


NOTHING, NONE, WEAK, STRONG = range(4)
"""What can be said of an asset at a reading: nothing, or how strong the evidence is."""
MOVES = np.array(
    [[_moved(code, level) for level in range(4)] for code in range(len(STATES) * OFF_DELAY)],
    dtype=np.uint8,
)
"""Where each level of evidence leads from each state."""
