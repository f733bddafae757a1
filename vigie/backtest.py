"""A backtest: how the detectors would have done on a recording whose faults are known.

They learn from its first rows, as they would on the day they are put to work, and then walk
forward: every later row is judged from what came before it, and nothing that was learnt changes.
Nothing is recorded either, neither in MLflow nor in the history.

A row of the verdict on the asset is positive while the asset is in alarm. Rates count rows, as the
published benchmarks do; faults and alarms count what an operator would have lived through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.engine import alone, since
from vigie.assessment.timeline import Times
from vigie.config import Settings
from vigie.detectors.base import Floats, Progress, no_progress
from vigie.errors import InvalidDataError, VigieError
from vigie.events.event import Event
from vigie.events.gathering import Events, Rows, stretches
from vigie.services.anomaly_detection_service import AnomalyDetectionService

if TYPE_CHECKING:
    import pandas as pd

LARGEST_TRAINING_SHARE = 0.4
"""Share of a recording that is trained on at most, unless a number of rows is given."""
DAY_S = 86_400.0

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Confusion:
    """Rows by what was said of them and what they were; those of several files can be added."""

    tp: int
    fp: int
    tn: int
    fn: int

    @classmethod
    def of(cls, said: Flags, labels: Flags) -> Confusion:
        """Count a verdict against labels, both of shape (n,)."""
        return cls(
            tp=int((said & labels).sum()),
            fp=int((said & ~labels).sum()),
            tn=int((~said & ~labels).sum()),
            fn=int((~said & labels).sum()),
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
        """False-alarm rate, the share of healthy rows called faulty; None without any."""
        return self.fp / (self.fp + self.tn) if self.fp + self.tn else None

    @property
    def mar(self) -> float | None:
        """Missing-alarm rate, the share of faulty rows called healthy; None without any."""
        return self.fn / (self.fn + self.tp) if self.fn + self.tp else None

    def figures(self) -> dict[str, Any]:
        """Return the rates and the counts as plain numbers."""
        counts = {"tp": self.tp, "fp": self.fp, "tn": self.tn, "fn": self.fn}
        return {"f1": self.f1, "far": self.far, "mar": self.mar, "confusion": counts}


@dataclass(frozen=True)
class Fault:
    """Consecutive labelled rows after the training, and when the alarm came.

    Attributes
    ----------
    first, last : int
        Rows, counted from 0. A fault that goes on from the training rows begins after them.
    delay_rows : int or None
        Rows from the first one to the first in alarm; 0 if the alarm stood already, None if the
        fault was missed.
    delay_s : float or None
        The same in seconds; None without times, too.
    stood_already : bool
        Whether the alarm came before the fault, which is no credit to it.
    """

    first: int
    last: int
    delay_rows: int | None
    delay_s: float | None
    stood_already: bool = False


@dataclass(frozen=True, eq=False)
class Backtest:
    """What was said of the rows after the training, and what they were.

    Attributes
    ----------
    labels : ndarray of bool of shape (n_rows,)
        Whether each row of the whole recording is labelled as faulty.
    train_rows : int
        Rows before the first one judged.
    left_out_rows : int
        How many of these were labelled as faulty, and not trained on.
    alarm : ndarray of bool of shape (n_judged,)
        Whether the asset was in alarm.
    p_values : ndarray of shape (n_judged,)
        Of each reading by itself; NaN where nothing can be said.
    models : mapping of str to ndarray of bool of shape (n_judged,)
        Whether the asset would have been in alarm by each model alone.
    asset : ndarray of shape (n_rows,)
        p-value of the asset; NaN while nothing can be said. Those of the training rows, which
        the models know, are there to be looked at and enter no figure.
    contamination : float
        The false-alarm rate that was asked for.
    times : ndarray of datetime64[us] of shape (n_rows,) or None
        When the rows were measured, if that is known.
    max_gap_s : float
        A pause longer than this, in seconds, is time in which nothing was recorded.
    """

    labels: Flags
    train_rows: int
    left_out_rows: int
    alarm: Flags
    p_values: Floats
    models: Mapping[str, Flags]
    asset: Floats
    contamination: float
    times: Times | None
    max_gap_s: float

    @cached_property
    def confusions(self) -> dict[str, Confusion]:
        """The counts of each verdict: ``asset``, ``reading``, and each model by name."""
        labels = self.labels[self.train_rows :]
        verdicts = {"asset": self.alarm, **self.models, "reading": self.reading}
        return {name: Confusion.of(said, labels) for name, said in verdicts.items()}

    @property
    def reading(self) -> Flags:
        """Whether each reading was an anomaly by itself, shape (n_judged,)."""
        anomalous: Flags = self.p_values < self.contamination
        return anomalous

    @cached_property
    def events(self) -> list[Event]:
        """What an operator would have been told of, without its sensors, in order."""
        events = Events(most=None)
        events.add(
            Rows(
                first=self.train_rows,
                in_alarm=self.alarm,
                is_anomaly=self.reading,
                asset_p_values=self.asset[self.train_rows :],
                p_values=self.p_values,
                contamination=self.contamination,
            )
        )
        return events.told()

    @property
    def alarms(self) -> list[Event]:
        """The alarms, each from where it was raised to where it was last kept."""
        return [event for event in self.events if event.is_alarm]

    @property
    def false_alarms(self) -> list[Event]:
        """Alarms that share no row with a fault."""
        return [
            alarm for alarm in self.alarms if not self.labels[alarm.first : alarm.last + 1].any()
        ]

    @cached_property
    def faults(self) -> list[Fault]:
        """Labelled faults after the training, in order."""
        labelled = stretches(self.labels[self.train_rows :], self.train_rows)
        return [self._fault(first, last) for first, last in labelled]

    @cached_property
    def judged_s(self) -> float | None:
        """Time over which rows were judged, in seconds, pauses left out; None without times."""
        if self.times is None:
            return None
        steps = np.diff(self.times[self.train_rows - 1 :]) / np.timedelta64(1, "s")
        return float(steps[steps <= self.max_gap_s].sum())

    @property
    def alarms_per_day(self) -> float | None:
        """None where no time is known to have passed."""
        return len(self.alarms) * DAY_S / self.judged_s if self.judged_s else None

    def figures(self) -> dict[str, Any]:
        """Return all figures as plain numbers; None for what is not defined. Rows count from 1."""
        found = [fault for fault in self.faults if fault.delay_rows is not None]
        asset = {
            **self.confusions["asset"].figures(),
            "events": len(self.faults),
            "events_found": len(found),
            "events_missed": len(self.faults) - len(found),
            "event_rows": [[fault.first + 1, fault.last + 1] for fault in self.faults],
            "delay_rows": [fault.delay_rows for fault in self.faults],
            "delay_s": [fault.delay_s for fault in self.faults],
            "stood_already": [fault.stood_already for fault in self.faults],
            "alarms": len(self.alarms),
            "false_alarms": len(self.false_alarms),
            "alarms_per_day": self.alarms_per_day,
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
    progress: Progress = no_progress,
) -> Backtest:
    """Train on the first rows of a recording, and judge the others as they would have come.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_features)
        Readings of one asset in time order, features only.
    labels : ndarray of shape (n_rows,)
        0 where the machine was healthy. It is never shown to a model, but labelled rows among
        the first ones are not trained on.
    train_rows : int
        How many rows come before the first one judged.
    settings : Settings
        How to train and judge; tracking is disabled whatever they say.
    times : ndarray of datetime64[us] of shape (n_rows,), optional
        When the rows were measured; by default a second apart.
    model_names : sequence of str, optional
        Registered names of the detectors; by default all.
    progress : callable, optional
        Told what is being done and the share of it that is finished.

    Returns
    -------
    Backtest

    Raises
    ------
    InvalidDataError
        If there is nothing to train on or nothing to judge, or a name is unknown.
    VigieError
        If a detector could not be trained.
    """
    faulty = np.asarray(labels) != 0
    _check(len(table), faulty, train_rows)
    healthy = table.iloc[:train_rows][~faulty[:train_rows]]
    service = AnomalyDetectionService(settings.model_copy(update={"mlflow_enabled": False}))
    outcome = service.train_all_models(
        healthy, model_names=model_names, progress=lambda step, share: progress(step, 0.9 * share)
    )
    for name, result in outcome.items():
        if result["status"] != "trained":
            raise VigieError(
                f"{name} cannot be trained on {len(healthy)} rows: {result['error']}",
                remedy="Give more rows with --train-rows, or name other detectors with --model.",
            )
    progress("the rows are judged", 0.9)
    seen = service.detect_table(table, times, "impute")
    # What is said of the rows that the models have learnt would not be fair.
    judged = since(seen, train_rows)
    progress("the rows are judged", 1.0)
    return Backtest(
        labels=faulty,
        train_rows=train_rows,
        left_out_rows=int(faulty[:train_rows].sum()),
        alarm=judged.in_alarm,
        p_values=judged.p_values,
        models={name: alone(judged, name).in_alarm for name in outcome},
        asset=np.append(seen.asset_p_values[:train_rows], judged.asset_p_values),
        contamination=judged.contamination,
        times=times,
        max_gap_s=settings.max_gap_s,
    )


def usual_train_rows(labels: Flags) -> int:
    """Return how many rows to train on: those before the first fault, but not too many.

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
            f"Too few rows to train on some and judge the others: {len(labels)}.", field="FILE"
        )
    raise InvalidDataError(
        f"{'Every row' if labels.all() else 'The first row'} is labelled as faulty.",
        field="--labels",
        remedy="Give a recording that begins with healthy rows, or say with --train-rows how many "
        "of its first rows to train on; those that are labelled are left out.",
    )


def _check(n_rows: int, faulty: Flags, train_rows: int) -> None:
    if faulty.shape != (n_rows,):
        raise InvalidDataError(
            f"There are {n_rows} rows, but labels of the shape {faulty.shape}.",
            field="labels",
            remedy="Give one label for each row.",
        )
    if not 0 < train_rows < n_rows:
        lacking = "nothing to train on" if train_rows < 1 else "no row to judge"
        raise InvalidDataError(
            f"{train_rows} of {n_rows} rows leave {lacking}.",
            field="--train-rows",
            remedy=f"Give a number from 1 to {n_rows - 1}." if n_rows > 1 else None,
        )
    if faulty[:train_rows].all():
        raise InvalidDataError(
            f"All of the first {train_rows} rows are labelled as faulty.",
            field="--train-rows",
            remedy="Train on rows of which some are healthy.",
        )
