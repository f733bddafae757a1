"""What the figures of a training are drawn from: little, however long the training was."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vigie.detectors.base import Floats
from vigie.detectors.trained import TrainedModel

MOST_OUTLIERS, MOST_ROWS, N_BINS = 200, 5000, 50


@dataclass(frozen=True)
class FigureData:
    """Parts of the training rows, and of what the model says of them.

    Attributes
    ----------
    n_rows : int
        Training rows.
    scores : ndarray of shape (N_BINS,)
        How many of them have a score in each part of [0, 1].
    rows : ndarray of shape (n, n_features)
        Every ``stride(n_rows)``-th of them.
    windows : ndarray of shape (n, window, n_features)
        What a model of windows looks at for these rows; empty for others.
    outliers : ndarray of shape (n_outliers, ...)
        What the model looks at for the most unusual ones beyond its threshold.
    loss_by_epoch : ndarray of shape (n_epochs,)
        Empty where there are no epochs.
    """

    n_rows: int
    scores: Floats
    rows: Floats
    windows: Floats
    outliers: Floats
    loss_by_epoch: Floats

    @classmethod
    def of(cls, model: TrainedModel, X: Floats, scores: Floats) -> FigureData:
        """Take what is drawn from training rows (n_rows, n_features) and their scores (n_rows,)."""
        n_outliers = min(int((scores > model.threshold).sum()), MOST_OUTLIERS)
        every, examples = stride(len(X)), model.examples(X)
        return cls(
            len(X),
            np.histogram(scores, N_BINS, (0.0, 1.0))[0].astype(np.float64),
            X[::every],
            examples[::every] if model.window > 1 else np.empty(0),
            examples[np.argsort(-scores)[:n_outliers]],
            np.array(model.loss_by_epoch),
        )

    def save(self, path: Path) -> None:
        """Write it into a file of numpy's."""
        np.savez(path, allow_pickle=False, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> FigureData:
        """Read it back."""
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        return cls(**{**found, "n_rows": int(found["n_rows"])})


def stride(n_rows: int) -> int:
    """Return how many rows to go on by, so that no more are drawn than can be seen."""
    return -(-n_rows // MOST_ROWS)
