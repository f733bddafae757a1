"""From a raw score, whose unit only its algorithm knows, to a probability that means the same.

A reading's *p-value* is the share of healthy readings at least as unusual as it. It is read off
the scores of healthy rows that the model was **not** fitted on: a conformal p-value. Every fold
of the data is scored by a model fitted on the other folds, and all these scores together
calibrate the model fitted on everything (cross-conformal prediction).

Between two calibration scores the p-value is interpolated, so that it falls strictly as the raw
score rises. Beyond the largest one a generalised Pareto tail, fitted to the top tenth, carries
on; and beyond one in a million, where no training set can support odds, only the order of the
readings is kept.

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
from vigie.detectors.base import CEILING, CREDIBLE, Floats

TAIL_SHARE = 0.1
MAX_KNOTS = 4096


@dataclass(frozen=True)
class Calibration:
    """How raw scores of healthy rows are distributed.

    Attributes
    ----------
    knots : ndarray of shape (n_knots,)
        Calibration scores, strictly ascending.
    p_values : ndarray of shape (n_knots,)
        The p-value at each knot, strictly descending.
    tail_start, tail_scale, tail_shape : float
        Threshold, scale and shape (never negative) of the generalised Pareto tail.
    body_scale : float
        How fast the p-value nears 1 below the smallest calibration score, in raw units.
    n_samples : int
        Number of calibration scores that all this rests on.
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
        """Calibrate on raw scores of healthy rows, shape (n_samples,)."""
        scores = np.sort(np.asarray(raw_scores, dtype=np.float64))
        n = len(scores)
        # Of equal scores the first counts: a reading equal to all of them is at most as rare.
        knots, first = np.unique(scores, return_index=True)
        # Windows that share rows are high together: among the highest w of n, one run of w
        # may be all there is. Half a run more than was counted is right on average.
        run = (overlap - 1) / 2
        p_values = 1.0 - (first + 1) / (n + 1 + run)
        if len(knots) > MAX_KNOTS:
            # Evenly spaced in the body, and every single score in the tail that alarms come from.
            body = np.linspace(0, len(knots) - 1 - MAX_KNOTS // 2, MAX_KNOTS // 2).astype(int)
            kept = np.r_[body, np.arange(len(knots) - MAX_KNOTS // 2, len(knots))]
            knots, p_values = knots[kept], p_values[kept]
        n_tail = min(max(10, round(TAIL_SHARE * n)), n - 1)
        start = scores[n - n_tail - 1] if n_tail > 0 else scores[0]
        spread = float(scores.std())
        floor = max(spread, abs(float(scores[-1])), 1e-12) * 1e-9
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
        """Return ``-log10 p``, strictly rising with the raw score and below ``CEILING``."""
        return self._converted(raw_scores, as_surprise=True)

    def p_value(self, raw_scores: Floats) -> Floats:
        """Return the share of healthy readings at least this unusual, in (0, 1)."""
        return self._converted(raw_scores, as_surprise=False)

    def raw_threshold(self, p: float) -> float:
        """Return the raw score at which the p-value is ``p``, in (0, 1); inf if none is so low."""
        surprise = -float(np.log10(p))
        if surprise >= CEILING:
            return float("inf")
        if surprise > CREDIBLE:
            surprise = CREDIBLE * (CEILING - CREDIBLE) / (CEILING - surprise)
        if p > self.p_values[0]:
            nearness = np.log((1.0 - p) / (1.0 - self.p_values[0]))
            return float(self.knots[0] + self.body_scale * nearness)
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
        """Return minus the natural logarithm of the tail's survival function there."""
        depth = float(self.knots[-1] - self.tail_start) / self.tail_scale
        return math.log1p(self.tail_shape * depth) / self.tail_shape if self.tail_shape else depth


def _pareto(excesses: Floats) -> tuple[float, float]:
    """Fit scale and shape by probability-weighted moments (Hosking and Wallis, section 4).

    The shape is kept within [0, 0.5]: a bounded tail would call everything beyond its end
    equally impossible, and a heavier one has no variance to fit it by.
    """
    n = len(excesses)
    if n < 2:
        return float(excesses.sum()), 0.0
    mean = float(excesses.mean())
    weighted = float(np.sum(np.arange(n - 1, -1, -1) * np.sort(excesses)) / (n * (n - 1)))
    spread = mean - 2.0 * weighted
    shape = min(max(2.0 - mean / spread, 0.0), 0.5) if spread > 0 else 0.0
    # Too small a shape is an exponential tail, in which rounding must not have a say.
    shape = shape if shape > 1e-6 else 0.0
    return mean * (1.0 - shape), shape
