"""The data of a training's figures, of bounded size however many rows there were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats
from vigie.detectors.trained import TrainedModel
from vigie.tracking.axes import days_of

Times = NDArray[np.datetime64]

MOST_OUTLIERS, MOST_ROWS, N_BINS, MOST_RANKS = 200, 5000, 50, 400


@dataclass(frozen=True)
class FigureData:
    """A sample of the training rows, and of the model's results for them.

    Attributes
    ----------
    n_rows : int
        Number of training rows.
    scores : ndarray of shape (N_BINS,)
        Histogram of their scores over [0, 1].
    rows : ndarray of shape (n, n_features)
        Every ``stride(n_rows)``-th row.
    windows : ndarray of shape (n, window, n_features)
        The windows that end with these rows; empty unless the model reconstructs.
    outliers : ndarray of shape (n_outliers, ...)
        The rows or windows with the highest scores above the threshold.
    loss_by_epoch : ndarray of shape (n_epochs,)
        Empty if the model has no epochs.
    validation_loss_by_epoch : ndarray of shape (n_epochs_run,)
        Of held-out windows, beyond the best epoch too; empty if there are none.
    highest : ndarray of shape (n,)
        The highest score among the rows from each of ``rows`` to the next one.
    ranks, ranked : ndarray of shape (n_ranks,)
        Counts of rows, from 1 to all, and the least score of so many highest ones.
    units : ndarray of str of shape (n_features,)
        Units of the sensors; empty if they are unknown.
    days : ndarray of shape (n,)
        When ``rows`` were measured, in days since 1970 in UTC; empty if that is unknown, or if
        they are not in the order of time.
    """

    n_rows: int
    scores: Floats
    rows: Floats
    windows: Floats
    outliers: Floats
    loss_by_epoch: Floats
    validation_loss_by_epoch: Floats = field(default_factory=lambda: np.empty(0))
    highest: Floats = field(default_factory=lambda: np.empty(0))
    ranks: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    ranked: Floats = field(default_factory=lambda: np.empty(0))
    units: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, np.str_))
    days: Floats = field(default_factory=lambda: np.empty(0))

    @classmethod
    def of(
        cls,
        model: TrainedModel,
        X: Floats,
        scores: Floats,
        units: Mapping[str, str] | None = None,
        times: Times | None = None,
    ) -> FigureData:
        """Sample training rows of shape (n_rows, n_features), their scores and times (n_rows,)."""
        n_outliers = min(int((scores > model.threshold).sum()), MOST_OUTLIERS)
        every, examples = stride(len(X)), model.examples(X)
        ranks = np.unique(np.geomspace(1, len(X), MOST_RANKS).astype(np.int64))
        of_units = [] if not units else [units.get(name, "") for name in model.feature_names]
        return cls(
            len(X),
            np.histogram(scores, N_BINS, (0.0, 1.0))[0].astype(np.float64),
            X[::every],
            examples[::every] if model.reconstructs else np.empty(0),
            examples[np.argsort(-scores)[:n_outliers]],
            np.array(model.loss_by_epoch),
            np.array(model.validation_loss_by_epoch),
            np.fmax.reduceat(scores, np.arange(0, len(X), every)),
            ranks,
            np.sort(np.nan_to_num(scores))[::-1][ranks - 1],
            np.array(of_units, dtype=np.str_),
            _days(times, every),
        )

    def save(self, path: Path) -> None:
        """Write the data to an ``.npz`` file."""
        np.savez(path, allow_pickle=False, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> FigureData:
        """Read the data from an ``.npz`` file."""
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return cls(**{**arrays, "n_rows": int(arrays["n_rows"])})


def _days(times: Times | None, every: int) -> Floats:
    if times is None or not bool((np.diff(times) >= np.timedelta64(0)).all()):
        return np.empty(0)
    return days_of(times[::every])


def stride(n_rows: int) -> int:
    """Return the step between sampled rows that keeps at most ``MOST_ROWS`` of them."""
    return -(-n_rows // MOST_ROWS)
