"""Vector autoregression: a linear forecast of each row from the rows before it, and its errors.

A machine that drifts, follows a daily cycle or changes its load by steps is odd for every detector
of single rows, while each row still follows from the rows before it. A fault does not: it changes
how the sensors move together, or what one of them does next. So the forecast errors of a healthy
machine are alike in all of its states, and a control chart of them sees small faults early.

The forecast uses the means of the last 1, 2 and 4 rows of all sensors: a cascade of horizons, by
which few coefficients describe a slow memory as well as a fast one (Corsi 2009), and which is no
longer than needed, since after a change of load a longer memory stays wrong for as long. The ridge
penalty is the one whose forecasts of held-out blocks are best.

References
----------
Alwan, Roberts. Time-series modeling for statistical process control. Journal of Business & Economic
Statistics 6(1), 1988.
Ku, Storer, Georgakis. Disturbance detection and isolation by dynamic principal component analysis.
Chemometrics and Intelligent Laboratory Systems 30(1), 1995.
Pan, Jarrett. Using vector autoregressive residuals to monitor multivariate processes in the
presence of serial correlation. International Journal of Production Economics 106(1), 2007.
Corsi. A simple approximate long-memory model of realized volatility. Journal of Financial
Econometrics 7(2), 2009.
Ledoit, Wolf. A well-conditioned estimator for large-dimensional covariance matrices. Journal of
Multivariate Analysis 88(2), 2004.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy import linalg
from sklearn.covariance import ledoit_wolf

from vigie.detectors.base import Fitted, Floats, Progress, standardisation
from vigie.detectors.vector_autoregression import ALGORITHM
from vigie.detectors.vector_autoregression.estimator import VectorAutoregressionEstimator
from vigie.detectors.vector_autoregression.score import MOST_BEFORE
from vigie.errors import InvalidDataError

PENALTIES = 0.001, 0.01, 0.1, 1.0, 10.0
"""Candidates of the ridge penalty, per row: from nearly none to a forecast of the mean."""
PENALTY_BLOCKS = 5
"""Contiguous blocks of the cross-validation that chooses among them."""
MOST_LOSS = 25.0
"""Limit of a squared error in its choice: five deviations, as of a change of load."""
MOST_FITTED = 16_384
"""Most rows that the forecast is fitted to, evenly spread; more do not change it."""
ROWS_PER_COEFFICIENT = 2
"""With fewer rows for each coefficient of a sensor, longer horizons are left out."""


@dataclass(frozen=True)
class VectorAutoregression:
    """A ridge regression of each row on means of the rows before it.

    Parameters
    ----------
    horizons : tuple of int
        Numbers of last rows whose means the forecast uses; ascending.
    penalty : float or 'auto'
        Ridge penalty per row, in squared standard deviations; 'auto' to choose it.
    contamination : float
        Of the estimator; the threshold in use comes from the calibration.
    accumulated_rows : int, default 0
        Rows that are judged together; 0 for each row alone.
    baseline_rows : int, default 0
        Rows before them, whose mean error is subtracted.
    """

    horizons: tuple[int, ...]
    penalty: float | Literal["auto"]
    contamination: float
    accumulated_rows: int = 0
    baseline_rows: int = 0

    algorithm = ALGORITHM.name
    scores_comparable = True

    @property
    def window(self) -> int:
        return self.horizons[-1] + max(self.accumulated_rows, 1) + self.baseline_rows

    @property
    def context_rows(self) -> int:
        return self.window - max(self.accumulated_rows, 1)

    @property
    def params(self) -> dict[str, Any]:
        return {
            "contamination": self.contamination,
            "horizons": list(self.horizons),
            "penalty": self.penalty,
            "accumulated_rows": self.accumulated_rows,
            "baseline_rows": self.baseline_rows,
            # A forecast takes one row before, and evidence over time half of its rows.
            "spare_rows": self.horizons[-1]
            - 1
            + self.accumulated_rows // 2
            + self.baseline_rows // 2,
        }

    def over(self, n_rows: int, baseline_rows: int = 0) -> VectorAutoregression:
        return replace(self, accumulated_rows=n_rows, baseline_rows=baseline_rows)

    def for_averages(self, n_rows: int) -> VectorAutoregression:
        return self.over(n_rows)

    def for_part(self, share: float) -> VectorAutoregression:
        return self

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        rows = np.concatenate(segments)
        center, scale = standardisation(rows)
        judged = _judged(rows)
        n_features = len(center)
        before, now = self._examples(segments, center, scale)
        if len(now) < 2:
            raise InvalidDataError(
                "There are too few consecutive rows.",
                field="data",
                remedy=f"Give segments of more than {self.horizons[-1] + 1} rows.",
            )
        n_used = len(now) // (ROWS_PER_COEFFICIENT * n_features)
        n_used = min(max(n_used, 1), len(self.horizons))
        before = before[:, : n_used * n_features]
        coefficients = self._coefficients(before, now)
        errors = judged * (now - before @ coefficients)
        covariance, _ = ledoit_wolf(errors, assume_centered=True)
        # With errors of nearly zero everywhere, as of constant sensors, a unit stays a unit.
        floor = 1e-9 * max(float(np.trace(covariance)) / n_features, 1e-9)
        covariance += floor * np.eye(n_features)
        whitening = np.linalg.inv(np.linalg.cholesky(covariance))
        arrays = {
            "center": center,
            "scale": scale,
            "coefficients": np.ascontiguousarray(coefficients),
            "whitening": np.ascontiguousarray(np.tril(whitening).T),
            "judged": judged,
        }
        return Fitted(VectorAutoregressionEstimator(self.horizons, **arrays), arrays)

    def set_threshold(self, estimator: Any, raw_threshold: float) -> None:
        if estimator is not None:
            estimator.threshold_ = raw_threshold

    def _examples(
        self, segments: Sequence[Floats], center: Floats, scale: Floats
    ) -> tuple[Floats, Floats]:
        """Return means of the rows before some rows, and these rows, standardised."""
        longest = self.horizons[-1]
        every = -(-sum(map(len, segments)) // MOST_FITTED)
        before, now = [np.empty((0, len(self.horizons) * len(center)))], [center[None][:0]]
        for rows in segments:
            scaled = np.clip((rows - center) / scale, -MOST_BEFORE, MOST_BEFORE)
            at = np.arange(longest, len(scaled), every)
            means = []
            for n_rows in self.horizons:
                total = np.zeros((len(at), len(center)))
                for ago in range(1, n_rows + 1):
                    total += scaled[at - ago]
                means.append(total / n_rows)
            before.append(np.concatenate(means, axis=1))
            now.append(scaled[at])
        return np.concatenate(before), np.concatenate(now)

    def _coefficients(self, before: Floats, now: Floats) -> Floats:
        """Return ridge coefficients, (n_before, n_features), with the best penalty."""
        blocks = np.array_split(np.arange(len(now)), PENALTY_BLOCKS)
        grams = [before[rows].T @ before[rows] for rows in blocks]
        products = [before[rows].T @ now[rows] for rows in blocks]
        gram, product = sum(grams), sum(products)

        def solved(gram: Any, product: Any, penalty: float, n: int) -> Floats:
            ridged = gram + penalty * n * np.eye(before.shape[1])
            solution: Floats = linalg.solve(ridged, product, assume_a="pos")
            return solution

        def loss(penalty: float) -> float:
            total = 0.0
            for rows, own_gram, own_product in zip(blocks, grams, products, strict=True):
                n = len(now) - len(rows)
                found = solved(gram - own_gram, product - own_product, penalty, n)
                errors = now[rows] - before[rows] @ found
                total += float(np.minimum(errors**2, MOST_LOSS).sum())
            return total

        penalty = min(PENALTIES, key=loss) if self.penalty == "auto" else self.penalty
        return solved(gram, product, float(penalty), len(now))


def _judged(rows: Floats) -> Floats:
    """Return 0 for each switch, and 1 for all other sensors, or for all if there is no other.

    A switch takes two values. It is a command, which no earlier row announces, so its errors say
    nothing of the machine; but the forecast of the other sensors uses it.
    """
    low, high = rows.min(axis=0), rows.max(axis=0)
    is_switch = ((rows == low) | (rows == high)).all(axis=0) & (low < high)
    return np.where(is_switch & ~is_switch.all(), 0.0, 1.0)
