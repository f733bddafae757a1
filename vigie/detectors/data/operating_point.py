"""Operating points: what training has seen, and rows that are elsewhere, but not broken.

A machine at a load that training has not seen reads unlike training in many sensors at once, and
they still move together as they did. A fault breaks the way they move together. In the words of
process monitoring: the scores of the first principal components leave their ranges, while the
squared prediction error (Q) stays small. No model can say whether such a row is healthy.

Modes of operation show as separate ranges of these scores, so a load between two trained ones is
unknown, too, where the modes are clearly apart.

Another load comes within a few rows. What leaves the ranges slowly is a drift, or ageing.

References
----------
MacGregor, Kourti. Statistical process control of multivariate processes. Control Engineering
Practice 3(3), 1995.
Qin. Statistical process monitoring: basics and beyond. Journal of Chemometrics 17, 2003.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vigie.detectors import compiled
from vigie.detectors.base import Floats, standardisation
from vigie.detectors.data.context import seen_ranges

HOLE, MARGIN = 0.1, 0.05
"""In widths of the central 99 % of the rows: a wider hole was not seen, but for its edges."""
BEYOND = 0.25
"""In the same unit: how far a healthy machine may wander beyond what it did in training."""
FEWEST, SHARE = 3, 0.5
"""Sensors that are outside their ranges at an unknown operating point, at least: so many, and that
share of those that vary."""
MOST_COMPONENTS = 3
"""Operation has few degrees of freedom: load, speed, product."""
USUAL_ERROR = 0.995
"""Quantile of Q in training up to which it counts as none."""
MOST_ERROR = 3.0
"""In usual errors: the largest Q of sensors that still move together."""
MOST_DEVIATIONS = 1e6
"""Limit of a standardised value, so that squares stay finite."""


@dataclass(frozen=True)
class OperatingPoints:
    """The operating points that training has seen.

    Attributes
    ----------
    center, scale : ndarray of shape (n_features,)
        For the standardisation; the scale is inf for the context, which counts as 0.
    components : ndarray of shape (n_components, n_features)
        Principal components in which at least ``FEWEST`` sensors take part.
    usual_error : ndarray of shape (1,)
        The ``USUAL_ERROR`` quantile of Q.
    owner : ndarray of int of shape (n_ranges,)
        To what each range belongs, ascending: a sensor by its column, or a component, counted on
        from ``n_features``.
    ranges : ndarray of shape (n_ranges, 2)
        The lower and upper end of each range, ascending; of sensors in their units.
    limits : ndarray of shape (n_ranges, 2)
        The ends from which on a value is outside.
    """

    center: Floats
    scale: Floats
    components: Floats
    usual_error: Floats
    owner: NDArray[np.int64]
    ranges: Floats
    limits: Floats

    @classmethod
    def of(cls, rows: Floats, context: Sequence[int] = ()) -> OperatingPoints:
        """Learn from training rows (n, n_features); constant columns and context do not count."""
        center, scale = standardisation(rows)
        varying = np.ptp(rows, axis=0) > 0.0
        varying[list(context)] = False
        scale = np.where(varying, scale, np.inf)
        scaled = (rows - center) / scale
        variances, vectors = np.linalg.eigh(scaled.T @ scaled / len(rows))
        first = vectors[:, ::-1].T[: min(MOST_COMPONENTS, int((variances > 1.0).sum()))]
        taking_part = 1.0 / (first**4).sum(axis=1)
        components = np.ascontiguousarray(first[taking_part >= FEWEST])
        scores = scaled @ components.T
        errors = (scaled**2).sum(axis=1) - (scores**2).sum(axis=1)
        values = {int(column): rows[:, column] for column in np.flatnonzero(varying)}
        values |= dict(enumerate(scores.T, start=len(center)))
        found = [seen_ranges(own, HOLE) for own in values.values()]
        owner = np.repeat(list(values), [len(ranges) for ranges, _ in found]).astype(np.int64)
        return cls(
            *(center, scale, components, np.quantile(errors, [USUAL_ERROR]), owner),
            np.concatenate([np.empty((0, 2)), *(ranges for ranges, _ in found)]),
            np.concatenate([np.empty((0, 2)), *(_limits(*seen) for seen in found)]),
        )

    def ranges_of(self, number: int) -> Floats:
        """Return the ranges of a sensor or a component, shape (n_ranges, 2)."""
        own: Floats = self.ranges[self.owner == number]
        return own

    @cached_property
    def fewest(self) -> int:
        """Sensors that are outside their ranges at an unknown operating point, at least."""
        return max(FEWEST, int(np.ceil(SHARE * np.isfinite(self.scale).sum())))

    def distances(self, values: Floats, first: int) -> Floats:
        """Return how far values (n, n_numbers) are from the limits of some numbers, same shape.

        ``first`` is the number of the first column: 0 for sensors. Missing values are at 0.
        """
        distances = np.empty(values.shape)
        compiled.operating_points.distances(values, first, self.owner, self.limits, distances)
        return distances

    def farthest(self, row: Floats) -> list[int]:
        """Return the columns of a row (n_features,) that are outside their ranges.

        If there are none, those of the sensors that take part most in the components that are.
        """
        outside = np.flatnonzero(self.distances(row[None], 0)[0])
        if len(outside):
            return outside.tolist()
        scaled = np.nan_to_num((row - self.center) / self.scale)
        moved = self.distances((scaled @ self.components.T)[None], len(self.center))[0]
        shares = np.abs(moved @ self.components)
        return np.flatnonzero(shares > 0.5 * shares.max(initial=0.0)).tolist()

    def places(self, rows: Floats) -> NDArray[np.uint8]:
        """Return where rows (n, n_features) are, shape (n,).

        0 for a row within the ranges, 2 for one at an unknown operating point, 1 in between.
        """
        places = np.empty(len(rows), np.uint8)
        compiled.operating_points.find_places(
            np.ascontiguousarray(rows),
            *(self.center, self.scale, self.components, self.owner, self.ranges, self.limits),
            *(self.fewest, float(self.usual_error[0]), MOST_ERROR, MOST_DEVIATIONS),
            places,
        )
        return places


def _limits(ranges: Floats, width: float) -> Floats:
    """Return ranges (n_ranges, 2) with the room around them."""
    limits = ranges + MARGIN * width * np.array([-1.0, 1.0])
    limits[0, 0] = ranges[0, 0] - BEYOND * width
    limits[-1, 1] = ranges[-1, 1] + BEYOND * width
    return limits
