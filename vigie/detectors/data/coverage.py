"""Whether training rows cover what a machine repeats: the day, the shift, the batch.

A training on half a day knows one half of a daily cycle, and calls the other one odd. In such rows
most sensors follow one slow curve from the first row to the last. Half a period or one of a sine is
nearly a cubic polynomial, two periods are not, and neither is healthy noise with a long memory.
"""

from __future__ import annotations

import numpy as np

from vigie.detectors.base import Floats, standardisation

DEGREE = 3
FEWEST_ROWS = 40
"""With fewer, a cubic may follow noise."""
MOST_ROWS = 2048
"""Most rows that are looked at, evenly spread."""
SLOW = 0.5
"""Share of a sensor's variance that the curve explains, in a sensor that follows it ..."""
MOSTLY = 0.5
"""... and share of the sensors that do, where rows cover no cycle.

See ``docs/concepts/scores.md``.
"""


def slow_share(X: Floats) -> float:
    """Return the share of the varying sensors that follow one slow curve through all rows.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows in time order.

    Returns
    -------
    float
        0 with too few rows, or without a sensor that varies.
    """
    if len(X) < FEWEST_ROWS:
        return 0.0
    rows = X[:: -(-len(X) // MOST_ROWS)]
    center, scale = standardisation(rows)
    scaled = (rows - center) / scale
    curves, _ = np.linalg.qr(np.vander(np.linspace(-1.0, 1.0, len(rows)), DEGREE + 1))
    variance = np.square(scaled).sum(axis=0)
    varies = variance > 0.0
    if not varies.any():
        return 0.0
    explained = np.square(curves.T @ scaled[:, varies]).sum(axis=0) / variance[varies]
    return float(np.mean(explained > SLOW))
