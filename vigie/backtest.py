"""Backtest the detectors on a recording with labelled faults.

The detectors are trained on the first rows and then walk forward: each later row is assessed from
the rows before it, without retraining. Nothing is recorded in MLflow or in the history.

For the asset, a row is positive while the asset is in alarm. Rates count rows, as the published
benchmarks do; faults and alarms are counted as an operator would have seen them. Rows in other
states, as in drift, are counted beside them: they are no alarms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.engine import alone, since
from vigie.assessment.false_alarms import MONTH_S, without_times
from vigie.assessment.status import STATES
from vigie.assessment.timeline import Times, as_datetime
from vigie.config import Settings
from vigie.detectors.base import Floats, no_progress
from vigie.errors import InvalidDataError, VigieError
from vigie.events.event import Event
from vigie.events.gathering import TOLD, Events, Rows, stretches
from vigie.models.anomaly_data import AssetState
from vigie.services.anomaly_detection_service import AnomalyDetectionService

if TYPE_CHECKING:
    import pandas as pd

LARGEST_TRAINING_SHARE = 0.4
"""Largest share of a recording to train on, unless a number of rows is given."""
DAY_S = 86_400.0

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix; those of several files can be added."""

    tp: int
    fp: int
    tn: int
    fn: int

    @classmethod
    def of(cls, verdict: Flags, labels: Flags) -> Confusion:
        """Compare a verdict with labels, both of shape (n,)."""
        return cls(
            tp=int((verdict & labels).sum()),
            fp=int((verdict & ~labels).sum()),
            tn=int((~verdict & ~labels).sum()),
            fn=int((~verdict & labels).sum()),
        )

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(
            self.tp + other.tp, self.fp + other.fp, self.tn + other.tn, self.fn + other.fn
        )

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None without a faulty row."""
        if self.tp + self.fn == 0:
            return None
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn)

    @property
    def far(self) -> float | None:
        """False-alarm rate, the share of healthy rows called faulty; None without healthy rows."""
        return self.fp / (self.fp + self.tn) if self.fp + self.tn else None

    @property
    def mar(self) -> float | None:
        """Missed-alarm rate, the share of faulty rows called healthy; None without faulty rows."""
        return self.fn / (self.fn + self.tp) if self.fn + self.tp else None

    def figures(self) -> dict[str, Any]:
        """Return the rates and the counts as plain numbers."""
        counts = {"tp": self.tp, "fp": self.fp, "tn": self.tn, "fn": self.fn}
        return {"f1": self.f1, "far": self.far, "mar": self.mar, "confusion": counts}


@dataclass(frozen=True)
class Fault:
    """Consecutive labelled rows after the training rows, and when the alarm was raised.

    Attributes
    ----------
    first, last : int
        Rows, counted from 0. A fault that began in the training rows starts after them.
    delay_rows : int or None
        Rows from the first one to the first in alarm; 0 if the asset was in alarm already, None
        if the fault was missed.
    delay_s : float or None
        The same in seconds; also None without times.
    stood_already : bool
        Whether the asset was in alarm before the fault, so that the alarm is no detection.
    """

    first: int
    last: int
    delay_rows: int | None
    delay_s: float | None
    stood_already: bool = False


@dataclass(frozen=True, eq=False)
class Backtest:
    """The verdicts on the rows after the training rows, and the labels.

    Attributes
    ----------
    labels : ndarray of bool of shape (n_rows,)
        Whether each row of the whole recording is labelled as faulty.
    train_rows : int
        Rows before the first assessed one.
    left_out_rows : int
        Training rows that were labelled as faulty and left out.
    states : ndarray of int of shape (n_assessed,)
        The states of the asset, as indices into ``vigie.assessment.status.STATES``.
    p_values : ndarray of shape (n_assessed,)
        p-value of each reading; NaN where all models abstain.
    models : mapping of str to ndarray of bool of shape (n_assessed,)
        Whether the asset would have been in alarm by each model alone.
    asset : ndarray of shape (n_rows,)
        p-value of the asset; NaN with too few readings. Those of the training rows are for
        display and enter no figure.
    contamination : float
        The target false-alarm rate.
    alarm_limit : float
        The p-value of the asset below which an alarm is raised; the median over the rows where
        it follows their sampling interval.
    times : ndarray of datetime64[us] of shape (n_rows,) or None
        When the rows were measured; None if unknown.
    max_gap_s : float
        A longer pause, in seconds, does not count as recorded time.
    false_alarms_per_month : float or None
        False alarms asked for in 30 days, at most; None if the limit follows the contamination.
    """

    labels: Flags
    train_rows: int
    left_out_rows: int
    states: NDArray[np.integer[Any]]
    p_values: Floats
    models: Mapping[str, Flags]
    asset: Floats
    contamination: float
    alarm_limit: float
    times: Times | None
    max_gap_s: float
    false_alarms_per_month: float | None = None

    @cached_property
    def confusions(self) -> dict[str, Confusion]:
        """Confusion matrices: ``asset``, ``reading``, and each model by name."""
        labels = self.labels[self.train_rows :]
        verdicts = {"asset": self.alarm, **self.models, "reading": self.reading}
        return {name: Confusion.of(verdict, labels) for name, verdict in verdicts.items()}

    def in_state(self, state: AssetState) -> Flags:
        """Return whether the asset was in a state, shape (n_assessed,)."""
        found: Flags = self.states == STATES.index(state)
        return found

    @property
    def alarm(self) -> Flags:
        """Whether the asset was in alarm, shape (n_assessed,)."""
        return self.in_state(AssetState.ALARM)

    @cached_property
    def rows_in_state(self) -> dict[AssetState, int]:
        """Assessed rows in each state that is told, the most severe first."""
        return {state: int(self.in_state(state).sum()) for state in reversed(TOLD)}

    @property
    def reading(self) -> Flags:
        """Whether each reading was an anomaly by itself, shape (n_assessed,)."""
        anomalous: Flags = self.p_values < self.contamination
        return anomalous

    @cached_property
    def events(self) -> list[Event]:
        """All events in time order, without their sensors."""
        events = Events(most=None)
        events.add(
            Rows(
                first=self.train_rows,
                states=self.states,
                is_anomaly=self.reading,
                asset_p_values=self.asset[self.train_rows :],
                p_values=self.p_values,
                contamination=self.contamination,
                times=None if self.times is None else self.times[self.train_rows :],
            )
        )
        return events.told()

    @property
    def alarms(self) -> list[Event]:
        """The alarms, each from its first row to the last row before it cleared."""
        return [event for event in self.events if event.is_alarm]

    @property
    def false_alarms(self) -> list[Event]:
        """Alarms that share no row with a fault."""
        return [
            alarm for alarm in self.alarms if not self.labels[alarm.first : alarm.last + 1].any()
        ]

    @cached_property
    def faults(self) -> list[Fault]:
        """Labelled faults after the training rows, in order."""
        labelled = stretches(self.labels[self.train_rows :], self.train_rows)
        return [self._fault(first, last) for first, last in labelled]

    @cached_property
    def judged_s(self) -> float | None:
        """Duration of the assessed rows in seconds, without pauses; None without times."""
        if self.times is None:
            return None
        steps = np.diff(self.times[self.train_rows - 1 :]) / np.timedelta64(1, "s")
        return float(steps[steps <= self.max_gap_s].sum())

    @property
    def alarms_per_day(self) -> float | None:
        """Alarms per day of assessed rows; None without times."""
        return len(self.alarms) * DAY_S / self.judged_s if self.judged_s else None

    @property
    def false_alarms_per_day(self) -> float | None:
        """Alarms without a fault per day of assessed rows; None without times."""
        return len(self.false_alarms) * DAY_S / self.judged_s if self.judged_s else None

    @property
    def asked_per_day(self) -> float | None:
        """False alarms asked for per day, at most; None if the limit follows the contamination."""
        asked = self.false_alarms_per_month
        return None if asked is None else asked * DAY_S / MONTH_S

    def figures(self) -> dict[str, Any]:
        """Return all figures as plain numbers, None if undefined; rows count from 1."""
        n_detected = sum(fault.delay_rows is not None for fault in self.faults)
        asset = {
            **self.confusions["asset"].figures(),
            "events": len(self.faults),
            "events_found": n_detected,
            "events_missed": len(self.faults) - n_detected,
            "event_rows": [[fault.first + 1, fault.last + 1] for fault in self.faults],
            "event_times": [self._between(fault.first, fault.last) for fault in self.faults],
            "delay_rows": [fault.delay_rows for fault in self.faults],
            "delay_s": [fault.delay_s for fault in self.faults],
            "stood_already": [fault.stood_already for fault in self.faults],
            "alarms": len(self.alarms),
            "alarm_rows": [[alarm.first + 1, alarm.last + 1] for alarm in self.alarms],
            "alarm_times": [self._between(alarm.first, alarm.last) for alarm in self.alarms],
            "alarm_durations_s": [alarm.duration_s for alarm in self.alarms],
            "false_alarms": len(self.false_alarms),
            "alarms_per_day": self.alarms_per_day,
            "false_alarms_per_day": self.false_alarms_per_day,
            "asked_false_alarms_per_day": self.asked_per_day,
            "rows_in_state": {state.value: n for state, n in self.rows_in_state.items()},
        }
        return {
            "asset": asset,
            "models": {name: self.confusions[name].figures() for name in self.models},
            "reading": self.confusions["reading"].figures(),
            "train_rows": self.train_rows,
            "left_out_rows": self.left_out_rows,
            "judged_rows": len(self.alarm),
            "judged_s": self.judged_s,
            "contamination": self.contamination,
        }

    def _between(self, first: int, last: int) -> list[str] | None:
        """Return the times of two rows in ISO 8601; None if they are unknown."""
        if self.times is None:
            return None
        ends = as_datetime(self.times[first]), as_datetime(self.times[last])
        return [end.isoformat().replace("+00:00", "Z") for end in ends]

    def _fault(self, first: int, last: int) -> Fault:
        start = first - self.train_rows
        in_alarm = np.flatnonzero(self.alarm[start : last + 1 - self.train_rows])
        if len(in_alarm) == 0:
            return Fault(first, last, None, None)
        delay = int(in_alarm[0])
        stood = delay == 0 and start > 0 and bool(self.alarm[start - 1])
        if self.times is None:
            return Fault(first, last, delay, None, stood)
        passed = self.times[first + delay] - self.times[first]
        return Fault(first, last, delay, float(passed / np.timedelta64(1, "s")), stood)


def backtest(
    table: pd.DataFrame,
    labels: NDArray[Any],
    train_rows: int,
    settings: Settings,
    times: Times | None = None,
    model_names: Sequence[str] | None = None,
    progress: Callable[[str, float], None] = no_progress,
    context_features: Sequence[str] = (),
) -> Backtest:
    """Train on the first rows of a recording, and assess the others in order.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_features)
        Readings of one asset in time order, features only.
    labels : ndarray of shape (n_rows,)
        0 where the machine was healthy. Models never see the labels, but training rows with
        another label are left out.
    train_rows : int
        Rows before the first assessed one.
    settings : Settings
        How to train and assess; tracking is always disabled.
    times : ndarray of datetime64[us] of shape (n_rows,), optional
        When the rows were measured; by default at intervals of one second.
    model_names : sequence of str, optional
        Registered names of the detectors; by default all.
    progress : callable, optional
        Called with the current step and the share that is finished, 0 to 1.
    context_features : sequence of str, optional
        Columns that say how the machine is run.

    Returns
    -------
    Backtest

    Raises
    ------
    InvalidDataError
        If there are no rows to train on or to assess, a name is unknown, or there are no times
        and false alarms are asked for by time.
    VigieError
        If a detector could not be trained.
    """
    faulty = np.asarray(labels) != 0
    _check(len(table), faulty, train_rows)
    if settings.false_alarms_per_month is not None and times is None:
        # Said before the training, which takes long.
        raise without_times("--time")
    healthy = table.iloc[:train_rows][~faulty[:train_rows]]
    service = AnomalyDetectionService(settings.model_copy(update={"mlflow_enabled": False}))
    outcome = service.train_all_models(
        healthy,
        model_names=model_names,
        context_features=context_features,
        progress=lambda step, share: progress(step, 0.9 * share),
    )
    for name, result in outcome.items():
        if result["status"] != "trained":
            raise VigieError(
                f"{name} cannot be trained on {len(healthy)} rows: {result['error']}",
                remedy="Give more rows with --train-rows, or name other detectors with --model.",
            )
    progress("the rows are assessed", 0.9)
    whole = service.detect_table(table, times, "impute")
    # Figures must not include rows that the models were trained on.
    assessment = since(whole, train_rows)
    progress("the rows are assessed", 1.0)
    return Backtest(
        labels=faulty,
        train_rows=train_rows,
        left_out_rows=int(faulty[:train_rows].sum()),
        states=assessment.statuses.states,
        p_values=assessment.p_values,
        models={name: alone(assessment, name).in_alarm for name in outcome},
        asset=np.append(whole.asset_p_values[:train_rows], assessment.asset_p_values),
        contamination=assessment.contamination,
        alarm_limit=assessment.alarm_limit,
        times=times,
        max_gap_s=settings.max_gap_s,
        false_alarms_per_month=settings.false_alarms_per_month,
    )


def usual_train_rows(labels: Flags) -> int:
    """Return the default number of training rows: those before the first fault, up to a limit.

    Raises
    ------
    InvalidDataError
        If there are none.
    """
    before = int(np.argmax(labels)) if labels.any() else len(labels)
    rows = min(before, int(LARGEST_TRAINING_SHARE * len(labels)))
    if rows > 0:
        return rows
    if not labels.any() or before > 0:
        raise InvalidDataError(
            f"Too few rows to train on some and assess the others: {len(labels)}.", field="FILE"
        )
    raise InvalidDataError(
        f"{'Every row' if labels.all() else 'The first row'} is labelled as faulty.",
        field="--labels",
        remedy="Give a recording that begins with healthy rows, or set --train-rows to the number "
        "of first rows to train on; rows labelled as faulty are left out.",
    )


def _check(n_rows: int, faulty: Flags, train_rows: int) -> None:
    if faulty.shape != (n_rows,):
        raise InvalidDataError(
            f"There are {n_rows} rows, but the labels have the shape {faulty.shape}.",
            field="labels",
            remedy="Give one label for each row.",
        )
    if not 0 < train_rows < n_rows:
        missing = "nothing to train on" if train_rows < 1 else "no row to assess"
        raise InvalidDataError(
            f"{train_rows} of {n_rows} rows leave {missing}.",
            field="--train-rows",
            remedy=f"Give a number from 1 to {n_rows - 1}." if n_rows > 1 else None,
        )
    if faulty[:train_rows].all():
        raise InvalidDataError(
            f"All of the first {train_rows} rows are labelled as faulty.",
            field="--train-rows",
            remedy="Give a number of first rows that include healthy ones.",
        )
