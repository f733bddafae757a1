"""The status of an asset: evidence from many readings, and a state that does not chatter.

One odd reading is a blip, forty are a fault. The evidence on an asset is a p-value, combined from
what the models say of the latest readings together. It moves the asset between states. Strong
evidence raises an alarm at once; only several consecutive readings without evidence clear it. This
is the deadband and off-delay of alarm systems: one fault raises one alarm.

A model that forecasts tells two things apart. A *change* is what the rows before do not announce,
so it shows in the forecast errors of the latest rows, compared with those before. A *drift* does
not. Only a change raises an alarm; strong evidence without one is a drift. From a drift, an alarm
takes strong evidence of a change, because the other evidence is strong all the time; for the same
reason, an alarm ends when the evidence is nearly what it was before.

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
from vigie.detectors.base import USUAL_SURPRISE, Floats, Level
from vigie.detectors.calibration.combination import combine
from vigie.models.anomaly_data import AssetState

OFF_DELAY = 5
"""Consecutive readings without evidence that clear a state."""
READINGS = 20
"""Readings that are combined into one p-value."""
RECENT = READINGS + OFF_DELAY
"""Readings after an unknown operating point in which the evidence still rests on it."""
STEADY = 5
"""Readings within the ranges of the training before a jump to an unknown operating point."""
READINGS_WEIGHT = 1.0 / 30.0
"""Weight of the readings, relative to 1 for each trend, without a model that forecasts."""
FORECAST_WEIGHT = 4.0
"""Weight of a model that forecasts, relative to 1 for all trends together: its errors are alike in
every state of a healthy machine, so its p-values hold under drift; those of averages do not."""
STATES = (
    *(AssetState.UNKNOWN, AssetState.NORMAL, AssetState.WATCH, AssetState.BAD_DATA),
    *(AssetState.DRIFT, AssetState.UNKNOWN_OPERATING_POINT, AssetState.ALARM),
)
"""In order of severity; the first one is that of an asset without any evidence yet."""


DEFAULT_CONTAMINATION = 0.01
LOWEST_ALARM = 1e-6
"""Lowest p-value that may be needed for an alarm: beyond one in a million, only the order of
p-values is kept."""


@dataclass(frozen=True)
class Limits:
    """The p-values of an asset at which its state changes, in contaminations.

    Attributes
    ----------
    alarm, clear : float
        The p-value that raises an alarm, and the larger one that sustains it.
    most_alarm, most_clear : float
        Upper limits of both: by default, half of all healthy readings must never sustain an alarm.
    false_alarms : float
        False alarms per reading, as a multiple of the p-value that raises an alarm: nine of ten
        healthy machines raise fewer. Measured by ``bench/false_alarms.py``.
    """

    alarm: float
    clear: float
    most_alarm: float = 0.25
    most_clear: float = 0.5
    false_alarms: float = 0.2

    def at(self, contamination: float) -> tuple[float, float]:
        """Return the p-values that sustain and that raise an alarm."""
        clear = min(self.clear * contamination, self.most_clear)
        return clear, min(self.alarm * contamination, self.most_alarm)

    def for_rate(self, rates: Floats) -> Floats:
        """Return the p-values that raise an alarm, for rates of false alarms.

        Parameters
        ----------
        rates : ndarray of shape (n,)
            False alarms per reading; NaN where unknown.

        Returns
        -------
        ndarray of shape (n,)
            Between ``LOWEST_ALARM`` and the limit at the default contamination, which is also
            that of an unknown rate: on weaker evidence, a drift would begin with an alarm.
        """
        _, most = self.at(DEFAULT_CONTAMINATION)
        found: Floats = np.fmin(np.maximum(rates / self.false_alarms, LOWEST_ALARM), most)
        return found


OF_AVERAGES = Limits(alarm=2.0, clear=5.0, false_alarms=0.1)
"""Without a model that forecasts. Averages are calibrated on shorter, noisier ones, so that their
true false-alarm rate is far lower."""
OF_FORECASTS = Limits(alarm=0.2, clear=2.0, most_alarm=0.002, most_clear=0.05)
OF_CHANGES = Limits(alarm=0.2, clear=5.0, most_alarm=0.002, most_clear=0.05)
"""A contamination above 0.01 makes readings anomalies sooner, and no alarms: on weaker evidence, a
drift begins with an alarm, which lasts as long as the drift."""


@dataclass(frozen=True)
class AssetStatus:
    """The state of an asset after a reading.

    Attributes
    ----------
    state : AssetState
        One of ``STATES``.
    since : datetime64[us]
        When the asset entered this state.
    began : datetime64[us] or None
        When the change that led to an alarm began; None without an alarm.
    calm : int
        Consecutive readings without evidence so far; ``OFF_DELAY`` of them clear the state.
    usual : float
        The surprise ``-log10 p`` of the asset, smoothed, as it was before an alarm.
    """

    state: AssetState
    since: np.datetime64
    began: np.datetime64 | None = None
    calm: int = 0
    usual: float = USUAL_SURPRISE


@dataclass(frozen=True)
class Evidence:
    """The evidence on an asset at each of consecutive readings.

    Attributes
    ----------
    p_values : ndarray of shape (n,)
        Of the asset; NaN (too few readings) leaves the state as it is.
    changes : ndarray of shape (n,)
        Of a change from the readings before; NaN where unknown.
    odd : ndarray of bool of shape (n,)
        Whether most of the latest readings are anomalies by themselves.
    frozen : ndarray of bool of shape (n,)
        Whether a sensor is frozen.
    operating_point : ndarray of int of shape (n,)
        2 at an unknown operating point, 1 shortly after some row at one, else 0.
    limits : Limits
        For ``p_values``.
    alarm : ndarray of shape (n,), optional
        The p-value that raises an alarm at each reading; by default by ``limits`` and the
        contamination.
    """

    p_values: Floats
    changes: Floats
    odd: NDArray[np.bool_]
    frozen: NDArray[np.bool_]
    operating_point: NDArray[np.uint8]
    limits: Limits
    alarm: Floats | None = None

    @classmethod
    def of(
        cls,
        levels: Sequence[Floats],
        forecasts: Sequence[tuple[Floats, Floats]],
        readings: Floats,
        frozen: NDArray[np.bool_],
        operating_point: NDArray[np.uint8],
        contamination: float,
        rates: Floats | None = None,
    ) -> Evidence:
        """Combine what the models say of the latest readings together.

        Parameters
        ----------
        levels : sequence of ndarray of shape (n,)
            p-values of the trends of models that do not forecast; NaN where one abstains.
        forecasts : sequence of pairs of ndarray of shape (n,)
            p-values of the trends and the changes of models that forecast.
        readings : ndarray of shape (n,)
            Combined p-value of the latest ``READINGS`` readings; see ``combined_readings``.
        frozen : ndarray of bool of shape (n,)
            Whether a sensor is frozen.
        operating_point : ndarray of int of shape (n,)
            See ``near_unknown_points``.
        contamination : float
            The p-value below which a reading is an anomaly.
        rates : ndarray of shape (n,), optional
            False alarms per reading that are asked for; by default, the limit of an alarm follows
            the contamination.

        Notes
        -----
        An average shows a shift that no single reading shows, and a fault that leaves the averages
        unchanged still shows in the readings. These do not account for drift, so without a model
        that forecasts their weight is small. But where the calibration supports a p-value that
        low, they raise an alarm by themselves: averages of hundreds of sensors hide one that is
        far off, however long it is.
        """
        odd = readings <= 2.0 * contamination
        certain: float | Floats
        if rates is None:
            _, certain = OF_FORECASTS.at(contamination)
        else:
            certain = OF_FORECASTS.for_rate(rates)
        if forecasts:
            trends, changes = zip(*forecasts, strict=True)
            weights = [1.0 / max(len(levels), 1)] * len(levels) + [FORECAST_WEIGHT] * len(forecasts)
            p_values = combine(np.array([*levels, *trends]), np.array(weights), most_normal=0.5)
            changed = changes[0] if len(changes) == 1 else combine(np.array(changes))
        else:
            weights = [1.0] * len(levels) + [READINGS_WEIGHT]
            p_values = combine(np.array([*levels, readings]), np.array(weights))
            changed = np.full(len(readings), np.nan)
        p_values = np.where(readings < certain, np.fmin(p_values, readings), p_values)
        limits = OF_FORECASTS if forecasts else OF_AVERAGES
        alarm = None if rates is None else limits.for_rate(rates)
        return cls(p_values, changed, odd, frozen, operating_point, limits, alarm)

    def limits_at(self, contamination: float) -> tuple[Floats, Floats]:
        """Return the p-values that sustain and that raise an alarm, and those of a change.

        Both have the shape (n, 2) where the limit of an alarm is one for each reading, else (1, 2).
        A rate that is asked for moves what raises an alarm, and nothing else: a watch begins as
        early, and an alarm ends as late.
        """
        limits = np.array([self.limits.at(contamination)])
        of_changes = np.array([OF_CHANGES.at(contamination)])
        alarm = self.alarm
        if alarm is None:
            return limits, of_changes

        def raised_at(pair: Floats) -> Floats:
            clear = np.full(len(self.p_values), pair[0, 0])
            return np.column_stack([clear, np.minimum(alarm, clear)])

        return raised_at(limits), raised_at(of_changes)


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
        Consecutive readings without evidence so far, unless the state is normal or unknown.
    usual : ndarray of shape (n,)
        See ``AssetStatus``.
    """

    before: AssetStatus | None
    times: Times
    states: NDArray[np.uint8]
    entered: NDArray[np.int64]
    calm: NDArray[np.uint8]
    usual: Floats

    @classmethod
    def following(
        cls, before: AssetStatus | None, times: Times, evidence: Evidence, contamination: float
    ) -> StatusSeries:
        """Compute the states of an asset from the evidence at each reading.

        Parameters
        ----------
        before : AssetStatus or None
            The status before the first reading.
        times : ndarray of datetime64[us] of shape (n,)
            When the readings were measured.
        evidence : Evidence
            At each reading.
        contamination : float
            The p-value below which a reading is an anomaly.
        """
        n = len(times)
        [code], [first_usual] = cls.codes_of([before])
        states, calm, entered = np.empty(n, np.uint8), np.empty(n, np.uint8), np.empty(n, np.int64)
        usual = np.empty(n)
        compiled.evidence.follow(
            *_as_arguments(evidence, contamination),
            *(int(code), float(first_usual), states, calm, entered, usual),
        )
        return cls(before, times, states, entered, calm, usual)

    @staticmethod
    def codes_of(statuses: Sequence[AssetStatus | None]) -> tuple[NDArray[np.int64], Floats]:
        """Return the codes of some statuses for ``TRANSITIONS``, and their usual surprises."""
        codes = np.zeros(len(statuses), np.int64)
        usual = np.full(len(statuses), USUAL_SURPRISE)
        for number, of_asset in enumerate(statuses):
            if of_asset is not None:
                # A history may have been written under a longer off-delay.
                calm = min(of_asset.calm, OFF_DELAY - 1)
                codes[number] = OFF_DELAY * STATES.index(of_asset.state) + calm
                usual[number] = of_asset.usual
        return codes, usual

    def at(self, row: int) -> AssetStatus:
        """Return the status after one reading; ``began`` is not set for a new alarm."""
        entered, calm, usual = int(self.entered[row]), int(self.calm[row]), float(self.usual[row])
        if entered >= 0:
            return AssetStatus(STATES[self.states[row]], self.times[entered], None, calm, usual)
        before = self.before or AssetStatus(AssetState.UNKNOWN, self.times[0])
        return replace(before, calm=calm, usual=usual)


Mask = NDArray[np.bool_]
Codes = NDArray[np.uint8]
_Arguments = tuple[Floats, Floats, Mask, Mask, Codes, Floats, Floats, Codes, int, int, int]


def follow_each(
    evidence: Evidence, contamination: float, codes: NDArray[np.int64], usual: Floats
) -> None:
    """Replace the codes and the usual surprises of assets by those after one reading of each.

    Parameters
    ----------
    evidence : Evidence
        At the reading of each asset.
    contamination : float
        The p-value below which a reading is an anomaly.
    codes, usual : ndarray of shape (n,)
        See ``StatusSeries.codes_of``.
    """
    compiled.evidence.follow_each(*_as_arguments(evidence, contamination), codes, usual)


def _as_arguments(evidence: Evidence, contamination: float) -> _Arguments:
    """Return what the compiled functions that follow a state need of the evidence."""
    return (
        *(evidence.p_values, evidence.changes, evidence.odd, evidence.frozen),
        *(evidence.operating_point, *evidence.limits_at(contamination), TRANSITIONS, OFF_DELAY),
        *(STATES.index(AssetState.BAD_DATA), STATES.index(AssetState.UNKNOWN_OPERATING_POINT)),
    )


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


def near_unknown_points(
    places: NDArray[np.uint8], by_context: NDArray[np.bool_], n_last: int
) -> NDArray[np.uint8]:
    """Return for each of the last rows whether the asset is at an unknown operating point.

    It comes to one if its context is new, or if the sensors jump to one: two rows in a row are at
    an unknown one, and the ``STEADY`` rows before them were within the ranges of the training. One
    such row is a glitch, and what leaves the ranges slowly is a drift.

    Parameters
    ----------
    places : ndarray of int of shape (n,)
        Where the sensors are; see ``OperatingPoints.places``.
    by_context : ndarray of bool of shape (n,)
        Whether the context of each row is new.
    n_last : int
        The last rows that count.

    Returns
    -------
    ndarray of int of shape (n_last,)
        2 where the asset comes to an unknown operating point; 1 with a row at one among the last
        ones, which the evidence rests on; else 0.
    """
    first = len(places) - n_last
    new = 2 * by_context[first:].astype(np.uint8)
    if not (places == 2).any():
        return new
    padded = np.concatenate([np.zeros(RECENT, np.uint8), places])
    far, left = padded == 2, np.cumsum(padded > 0)
    counts = np.cumsum(far)
    lingers = counts[RECENT:] > counts[:-RECENT]
    was_steady = left[RECENT - 2 : -2] == left[RECENT - 2 - STEADY : -2 - STEADY]
    jumps = far[RECENT:] & far[RECENT - 1 : -1] & was_steady
    near = np.where(jumps, 2, lingers).astype(np.uint8)
    return np.maximum(near[first:], new)


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
    normal, watch, drift, alarm = (
        STATES.index(state)
        for state in (AssetState.NORMAL, AssetState.WATCH, AssetState.DRIFT, AssetState.ALARM)
    )
    state, calm = divmod(code, OFF_DELAY)
    match level:
        case Level.UNKNOWN:
            return code
        case Level.WEAK:
            return OFF_DELAY * max(state, watch)
        case Level.DRIFTED:
            return OFF_DELAY * max(state, drift)
        case Level.CHANGED:
            return OFF_DELAY * (drift if state == drift else alarm)
        case Level.CHANGED_ANEW:
            return OFF_DELAY * alarm
        case Level.EASED if state == alarm:
            return code + 1 if calm + 1 < OFF_DELAY else OFF_DELAY * drift
        case Level.EASED:
            return OFF_DELAY * max(state, watch)
        case Level.ODD if state <= watch or calm + 1 == OFF_DELAY:
            return OFF_DELAY * watch
    return OFF_DELAY * normal if state <= normal or calm + 1 == OFF_DELAY else code + 1


TRANSITIONS = np.array(
    [[_next_code(code, level) for level in Level] for code in range(len(STATES) * OFF_DELAY)],
    dtype=np.uint8,
)
"""The next code, by code and level of evidence."""
