"""Calibrate raw scores, whose unit depends on the algorithm, to p-values.

A reading's *p-value* is the share of healthy readings at least as unusual. It is computed from
the scores of healthy rows that the model was **not** fitted to: a conformal p-value. Each fold of
the data is scored by a model fitted to the other folds, and all these scores together calibrate
the model fitted to all rows (cross-conformal prediction).

Between two calibration scores the p-value is interpolated, so that it decreases strictly with the
raw score. Beyond the largest one it follows a generalised Pareto tail, fitted to the top tenth.
Beyond one in a million, which no training set can support, only the order of the readings is kept.

References
----------
Vovk, Gammerman, Shafer. Algorithmic learning in a random world. Springer, 2005.
Vovk. Cross-conformal predictors. Annals of Mathematics and AI 74, 2015.
Bates et al. Testing for outliers with conformal p-values. Annals of Statistics 51(1), 2023.
Siffer et al. Anomaly detection in streams with extreme value theory. KDD, 2017.
Hosking, Wallis. Parameter and quantile estimation for the generalized Pareto distribution.
Technometrics 29(3), 1987.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vigie.detectors import compiled
from vigie.detectors.base import CREDIBLE, MAX_SURPRISE, Floats

TAIL_SHARE = 0.1
MAX_KNOTS = 4096


@dataclass(frozen=True)
class Calibration:
    """The distribution of the raw scores of healthy rows.

    Attributes
    ----------
    knots : ndarray of shape (n_knots,)
        Calibration scores, strictly ascending.
    p_values : ndarray of shape (n_knots,)
        The p-value at each knot, strictly descending.
    tail_start, tail_scale, tail_shape : float
        Threshold, scale and shape (never negative) of the generalised Pareto tail.
    body_scale : float
        Scale on which the p-value approaches 1 below the smallest calibration score, in raw units.
    n_samples : int
        Number of calibration scores.
    """

    knots: Floats
    p_values: Floats
    tail_start: float
    tail_scale: float
    tail_shape: float
    body_scale: float
    n_samples: int

    @classmethod
    def fit(cls, raw_scores: Floats, overlap: int = 1) -> Calibration:
        """Calibrate on raw scores of healthy rows, shape (n_samples,).

        ``overlap`` is the number of consecutive scores that share a row.
        """
        scores = np.sort(np.asarray(raw_scores, dtype=np.float64))
        n = len(scores)
        # The rank of tied scores is that of the first: readings equal to them count as unusual.
        knots, first = np.unique(scores, return_index=True)
        # Overlapping windows have high scores together, so the highest ones may be a single run.
        # Half a run more is the correction that is right on average.
        run = (overlap - 1) / 2
        p_values = 1.0 - (first + 1) / (n + 1 + run)
        if len(knots) > MAX_KNOTS:
            # Thin out the body, but keep every score in the tail, which decides on alarms.
            body = np.linspace(0, len(knots) - 1 - MAX_KNOTS // 2, MAX_KNOTS // 2).astype(int)
            selected = np.r_[body, np.arange(len(knots) - MAX_KNOTS // 2, len(knots))]
            knots, p_values = knots[selected], p_values[selected]
        n_tail = min(max(10, round(TAIL_SHARE * n)), n - 1)
        start = scores[n - n_tail - 1] if n_tail > 0 else scores[0]
        # Scores far out may be 1e200, whose square is not finite.
        largest = max(float(np.abs(scores).max()), 1e-12)
        spread = largest * float((scores / largest).std())
        floor = 1e-9 * largest
        scale, shape = _pareto(scores[scores > start] - start)
        return cls(
            knots=knots,
            p_values=p_values,
            tail_start=float(start),
            tail_scale=max(scale, floor),
            tail_shape=shape,
            body_scale=max(spread, floor),
            n_samples=n,
        )

    def surprise(self, raw_scores: Floats) -> Floats:
        """Return ``-log10 p``, strictly increasing in the raw score and below ``MAX_SURPRISE``."""
        return self._converted(raw_scores, as_surprise=True)

    def p_value(self, raw_scores: Floats) -> Floats:
        """Return the share of healthy readings at least this unusual, in (0, 1)."""
        return self._converted(raw_scores, as_surprise=False)

    def raw_threshold(self, p: float) -> float:
        """Return the raw score with p-value ``p``, in (0, 1); inf if no p-value is so low."""
        surprise = -float(np.log10(p))
        if surprise >= MAX_SURPRISE:
            return float("inf")
        if surprise > CREDIBLE:
            surprise = CREDIBLE * (MAX_SURPRISE - CREDIBLE) / (MAX_SURPRISE - surprise)
        if p > self.p_values[0]:
            log_ratio = np.log((1.0 - p) / (1.0 - self.p_values[0]))
            return float(self.knots[0] + self.body_scale * log_ratio)
        if p >= self.p_values[-1]:
            return float(np.interp(-p, -self.p_values, self.knots))
        beyond = surprise + float(np.log10(self.p_values[-1]))
        depth = self._depth_of_last_knot() + beyond * np.log(10.0)
        if self.tail_shape > 0:
            with np.errstate(over="ignore"):
                depth = np.expm1(self.tail_shape * depth) / self.tail_shape
        return float(self.tail_start + self.tail_scale * depth)

    def _converted(self, raw_scores: Floats, *, as_surprise: bool) -> Floats:
        return compiled.odds.p_values(
            *(self.knots, self.p_values, self.tail_start, self.tail_scale, self.tail_shape),
            *(self.body_scale, raw_scores),
            as_surprise=as_surprise,
        )

    def _depth_of_last_knot(self) -> float:
        """Return minus the natural logarithm of the tail's survival function at the last knot."""
        depth = float(self.knots[-1] - self.tail_start) / self.tail_scale
        return math.log1p(self.tail_shape * depth) / self.tail_shape if self.tail_shape else depth


def _pareto(excesses: Floats) -> tuple[float, float]:
    """Fit scale and shape by probability-weighted moments (Hosking and Wallis, section 4).

    The shape is limited to [0, 0.5]: a bounded tail would call all scores beyond its end equally
    impossible, and a heavier one has infinite variance, so the fit fails.
    """
    n = len(excesses)
    if n < 2:
        return float(excesses.sum()), 0.0
    mean = float(excesses.mean())
    weighted = float(np.sum(np.arange(n - 1, -1, -1) * np.sort(excesses)) / (n * (n - 1)))
    spread = mean - 2.0 * weighted
    shape = min(max(2.0 - mean / spread, 0.0), 0.5) if spread > 0 else 0.0
    # Treat a tiny shape as an exponential tail, to avoid rounding errors.
    shape = shape if shape > 1e-6 else 0.0
    return mean * (1.0 - shape), shape
