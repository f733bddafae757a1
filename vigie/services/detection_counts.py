"""What detection has done since the process started."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats
from vigie.models.anomaly_data import AssetState
from vigie.serving.served import Served

SCORE_BOUNDS = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
"""Upper bounds of the classes into which scores are counted, finer near 1."""
MOST_PENDING = 1000
"""P-values that wait until they are counted together: one by one, that would cost a reading several
times as much. Only numbers wait: arrays would keep what they are views of."""


class Counted(NamedTuple):
    """An assessment of readings of an asset, as far as it is counted.

    Attributes
    ----------
    served : mapping of str to Served
        The models that assessed them.
    p_values : mapping of str to ndarray of shape (n_rows,)
        By model; NaN where it abstains.
    rows : sequence of int or None
        The rows that were asked for; None for all.
    n_readings, n_anomalies : int
        How many readings they are, and how many of them are anomalies.
    entered : sequence of AssetState
        The states that the asset entered with them.
    """

    served: Mapping[str, Served]
    p_values: Mapping[str, Floats]
    rows: Sequence[int] | None
    n_readings: int
    n_anomalies: int
    entered: Sequence[AssetState]


@dataclass
class ScoreCounts:
    """The scores that a version has given.

    Attributes
    ----------
    threshold : float
        A higher score is an anomaly.
    by_class : ndarray of shape (n_bounds + 1,)
        How many scores are in each class of ``SCORE_BOUNDS``; the last one has no upper bound.
    total : float
        Their sum.
    n_anomalies : int
        How many are anomalies.
    """

    threshold: float
    by_class: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(len(SCORE_BOUNDS) + 1, np.int64)
    )
    total: float = 0.0
    n_anomalies: int = 0
    _pending: list[float] = field(default_factory=list)

    def add(self, p_values: list[float]) -> None:
        """Count scores by their p-values; NaN is that of a model that abstains."""
        self._pending += p_values
        if len(self._pending) > MOST_PENDING:
            self.settle()

    def settle(self) -> None:
        """Bring the attributes up to date."""
        p_values = np.array(self._pending)
        self._pending.clear()
        scores = 1.0 - p_values[~np.isnan(p_values)]
        classes = np.searchsorted(SCORE_BOUNDS, scores)
        self.by_class += np.bincount(classes, minlength=len(self.by_class))
        self.total += float(scores.sum())
        self.n_anomalies += int(np.count_nonzero(scores > self.threshold))


class DetectionCounts:
    """Counters of detection; thread-safe.

    Attributes
    ----------
    n_readings, n_anomalies : int
        Readings that were assessed, and those that all models together call anomalies.
    n_replaced : int
        Readings that took the place of another one of their asset and time.
    n_unstored, n_outages : int
        Readings that could not be stored, and how often that began.
    entered : Counter of AssetState
        How often an asset entered a state.
    scores : dict
        Scores by model and version; those of a model without a version, by None.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._served: Mapping[str, Served] = {}
        self._of_served: list[tuple[str, ScoreCounts]] = []
        self.n_readings = self.n_anomalies = self.n_replaced = 0
        self.n_unstored = self.n_outages = 0
        self.entered = Counter[AssetState]()
        self.scores: dict[tuple[str, int | None], ScoreCounts] = {}

    def add(self, counted: Counted) -> None:
        """Count an assessment; its scores at the latest by the next ``settle``."""
        served, p_values, rows, n_readings, n_anomalies, entered = counted
        with self._lock:
            self.n_readings += n_readings
            self.n_anomalies += n_anomalies
            if entered:
                self.entered.update(entered)
            if served is not self._served:
                self._served, self._of_served = (
                    served,
                    [(name, self._scores_of(name, one)) for name, one in served.items()],
                )
            for name, scores in self._of_served:
                values = p_values[name]
                scores.add((values if rows is None else values[rows]).tolist())

    def settle(self) -> None:
        """Bring the attributes up to date."""
        with self._lock:
            for scores in self.scores.values():
                scores.settle()

    def _scores_of(self, name: str, served: Served) -> ScoreCounts:
        version = name, served.version
        return self.scores.setdefault(version, ScoreCounts(served.model.threshold))

    def add_replaced(self, n_replaced: int) -> None:
        """Count readings that took the place of others."""
        with self._lock:
            self.n_replaced += n_replaced

    def add_unstored(self, n_unstored: int, *, is_outage: bool) -> None:
        """Count readings that could not be stored, and whether they are the first in turn."""
        with self._lock:
            self.n_unstored += n_unstored
            self.n_outages += is_outage
