"""What detection has done since the process started."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vigie.models.anomaly_data import AssetState
from vigie.serving.served import Served

SCORE_BOUNDS = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
"""Upper bounds of the classes into which scores are counted, finer near 1."""
MOST_PENDING = 1000
"""P-values that wait until they are counted together: one by one, each would cost a reading more
than all other counters."""


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

    def add(self, p_values: Sequence[float]) -> None:
        """Count scores by their p-values; NaN is that of a model that abstains."""
        self._pending.extend(p_values)
        if len(self._pending) > MOST_PENDING:
            self.settle()

    def settle(self) -> None:
        """Count the scores that wait."""
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
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scores: dict[tuple[str, int | None], ScoreCounts] = {}
        self.n_readings = self.n_anomalies = self.n_replaced = 0
        self.n_unstored = self.n_outages = 0
        self.entered = Counter[AssetState]()

    def add(
        self,
        served: Mapping[str, Served],
        p_values: Mapping[str, Sequence[float]],
        n_readings: int,
        n_anomalies: int,
        entered: Iterable[AssetState],
    ) -> None:
        """Count readings of an asset.

        Parameters
        ----------
        served : mapping of str to Served
            The models that assessed them.
        p_values : mapping of str to sequence of float
            Of each reading, by model; NaN where it abstains.
        n_readings, n_anomalies : int
            How many they are, and how many of them are anomalies.
        entered : iterable of AssetState
            The states that the asset entered with them.
        """
        with self._lock:
            self.n_readings += n_readings
            self.n_anomalies += n_anomalies
            for state in entered:
                self.entered[state] += 1
            for name, one in served.items():
                version = name, one.version
                if (scores := self._scores.get(version)) is None:
                    scores = self._scores[version] = ScoreCounts(one.model.threshold)
                scores.add(p_values[name])

    def add_replaced(self, n_replaced: int) -> None:
        """Count readings that took the place of others."""
        with self._lock:
            self.n_replaced += n_replaced

    def add_unstored(self, n_unstored: int, *, is_outage: bool) -> None:
        """Count readings that could not be stored, and whether they are the first in turn."""
        with self._lock:
            self.n_unstored += n_unstored
            self.n_outages += is_outage

    def scores(self) -> dict[tuple[str, int | None], ScoreCounts]:
        """Return the scores by model and version; those of a model without a version, by None."""
        with self._lock:
            for scores in self._scores.values():
                scores.settle()
            return dict(self._scores)
