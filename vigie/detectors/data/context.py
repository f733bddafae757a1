"""Context: columns that say how a machine is run, and what each sensor reads in that context.

Power and temperature follow the load, so a healthy value at full load is odd at half load. Each
sensor is therefore judged given its context: its mean and its spread are regressed on the context,
and the models see the value that corresponds to it in the average context. The regression is
additive over the columns: a curve or straight lines in a number, a level for each word.

This module is pickled by value and imports no part of Vigie, so other tools load a model without.

References
----------
Jardine, Lin, Banjevic. A review on machinery diagnostics and prognostics implementing
condition-based maintenance. Mechanical Systems and Signal Processing 20(7), 2006.
Hastie, Tibshirani, Friedman. The elements of statistical learning, ch. 5 and 9. Springer, 2009.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FIRST_CODE = 1e15
"""Smallest code of a word; all codes are of one magnitude, and above most numbers."""
CODE_BYTES = 6
"""Bytes of a code, such that floats are exact and no two words of a plant have the same."""
MOST_FITTED = 16_384
"""Most rows that the regression is fitted to, evenly spread; more do not change it."""
BLOCKS = 5
"""Contiguous blocks of the cross-validation that chooses the shape of the dependence."""
POINTS = 33
"""Points at which the dependence on a number is tabulated."""
SPREAD_POINTS = 5
"""Points between which the logarithm of a spread is linear."""
HOLE, MARGIN = 0.25, 0.02
"""Of the range of a number: a wider hole was not seen, nor was what is farther from any value."""
PENALTY = 1.0
"""Ridge penalty, in rows."""
ROWS_OF_AVERAGE = 10.0
"""Rows of the average spread that each point is mixed with, so that few rows change little."""
MOST_SQUARE = 25.0
"""Limit of a squared error, in variances, so that an outlier does not decide on a spread."""
MOST_RATIO = 10.0
"""Largest ratio of two spreads."""


@dataclass(frozen=True)
class Shape:
    """A shape of the dependence on a number: a polynomial, or straight lines between points."""

    degree: int = 0
    points: int = 0

    def basis(self, values: Any) -> Any:
        """Return the basis at ascending values (n,), shape (n, n_functions)."""
        if self.points:
            return _hats(values, self.points)
        scaled = 2.0 * (values - values[0]) / (values[-1] - values[0]) - 1.0
        return scaled[:, None] ** np.arange(1, self.degree + 1)


SHAPES = Shape(degree=1), Shape(degree=2), Shape(degree=3), Shape(points=5), Shape(points=9)


@dataclass(frozen=True, eq=False)
class Context:
    """What each sensor reads, by the context.

    Attributes
    ----------
    columns : tuple of int
        Positions of the context among all columns, ascending.
    words : mapping of int to tuple of str
        The words of those columns that hold words.
    center : ndarray of shape (n_features,)
        What each sensor reads in the average context.
    owner : ndarray of int of shape (n_points,)
        The column of each point.
    points : ndarray of shape (n_points,)
        Values of that column, ascending within it; the code of a word.
    effects : ndarray of shape (n_points, n_features)
        What a sensor reads more at a point, in its unit.
    log_ratios : ndarray of shape (n_points, n_features)
        Logarithm of the ratio of its spread to that in the average context.
    seen : mapping of int to ndarray of shape (n_ranges, 2)
        The ranges of each number that training has seen.
    shape : Shape
        Of the dependence on numbers, in the process that fitted it.
    """

    columns: tuple[int, ...]
    words: Mapping[int, tuple[str, ...]]
    center: Any
    owner: Any
    points: Any
    effects: Any
    log_ratios: Any
    seen: Mapping[int, Any]
    shape: Shape = SHAPES[0]

    @classmethod
    def fit(cls, X: Any, columns: Sequence[int], words: Mapping[int, tuple[str, ...]]) -> Context:
        """Fit to rows of shape (n_samples, n_features), with words as codes.

        Of some shapes of the dependence on a number, it is the one that predicts held-out blocks
        best.
        """
        columns = tuple(sorted(columns))
        X = _thinned(X)
        if len(words) == len(columns):
            return cls._fit(X, columns, words, SHAPES[0])
        blocks = np.array_split(np.arange(len(X)), BLOCKS)
        scale = np.maximum(X.std(axis=0), np.finfo(float).tiny)

        def loss(shape: Shape) -> float:
            total = 0.0
            for rows in blocks:
                rest = np.delete(X, rows, axis=0)
                errors = X[rows] - cls._fit(rest, columns, words, shape).expected(X[rows])[0]
                errors[:, columns] = 0.0
                # Blocks in a context that the others have not seen say nothing.
                total += float(np.nansum(np.minimum((errors / scale) ** 2, MOST_SQUARE)))
            return total

        return cls._fit(X, columns, words, min(SHAPES, key=loss))

    def refitted(self, X: Any) -> Context:
        """Return the context fitted to other rows, in the same shape."""
        return self._fit(_thinned(X), self.columns, self.words, self.shape)

    @classmethod
    def _fit(
        cls,
        X: Any,
        columns: tuple[int, ...],
        words: Mapping[int, tuple[str, ...]],
        shape: Shape,
    ) -> Context:
        # Only a fit needs it.
        from scipy.linalg import block_diag

        points = []
        for column in columns:
            found = np.unique(X[:, column])
            if column not in words:
                # A part of the rows may have one value only.
                last = found[-1] if len(found) > 1 else found[0] + 1.0
                found = np.linspace(found[0], last, 2 if len(found) <= 2 else POINTS)
            points.append(found)
        owner = np.repeat(columns, list(map(len, points))).astype(np.int64)
        n_features = X.shape[1]
        fitted = cls(
            *(columns, dict(words), np.zeros(n_features), owner, np.concatenate(points)),
            *(np.zeros((len(owner), n_features)), np.zeros((len(owner), n_features))),
            {c: _seen(X[:, c]) for c in columns if c not in words},
            shape,
        )
        # The basis of each column at its points; their weights give that of any row.
        bases = [
            np.eye(len(own)) if column in words else shape.basis(own)
            for column, own in zip(columns, points, strict=True)
        ]
        at_points = block_diag(*bases)
        sensors = np.delete(np.arange(n_features), columns)
        weights = fitted.weights(X)
        basis = weights @ at_points
        middle = basis.mean(axis=0)
        gram = (basis - middle).T @ (basis - middle) + PENALTY * np.eye(basis.shape[1])
        center = X[:, sensors].mean(axis=0)
        slopes = np.linalg.solve(gram, (basis - middle).T @ (X[:, sensors] - center))
        fitted.center[sensors] = center
        fitted.effects[:, sensors] = at_points @ slopes
        for column in columns:
            # The average context has no effect.
            mine = owner == column
            fitted.effects[mine] -= weights[:, mine].mean(axis=0) @ fitted.effects[mine]
        errors = X[:, sensors] - fitted.expected(X)[0][:, sensors]
        for column, at in zip(columns, points, strict=True):
            mine = owner == column
            coarse = np.eye(len(at)) if column in words else _hats(at, SPREAD_POINTS)
            ratios = _log_ratios(errors, weights[:, mine] @ coarse)
            fitted.log_ratios[np.ix_(mine, sensors)] = coarse @ ratios
            errors /= np.exp(weights[:, mine] @ fitted.log_ratios[np.ix_(mine, sensors)])
        return fitted

    def weights(self, rows: Any) -> Any:
        """Return the weight of each point, shape (n, n_points), for rows (n, n_features).

        The weights of a column add up to 1. They are NaN where the value is missing, or none that
        training has seen.
        """
        weights = np.zeros((len(rows), len(self.points)))
        for column in self.columns:
            own = np.flatnonzero(self.owner == column)
            points, values = self.points[own], rows[:, column]
            if column in self.words:
                weights[:, own] = values[:, None] == points
            else:
                place = np.clip(np.searchsorted(points, values), 1, len(points) - 1)
                low, high = points[place - 1], points[place]
                share = np.clip((values - low) / (high - low), 0.0, 1.0)
                at = np.arange(len(rows))
                weights[at, own[place - 1]] = 1.0 - share
                weights[at, own[place]] = share
            weights[np.ix_(~self.knows(column, values), own)] = np.nan
        return weights

    def knows(self, column: int, values: Any) -> Any:
        """Return whether training has seen values of a column, shape (n,)."""
        if column in self.words:
            return np.isin(values, self.points[self.owner == column])
        low, high = self.seen[column].T
        return ((values[:, None] >= low) & (values[:, None] <= high)).any(axis=1)

    def unseen(self, rows: Any) -> Any:
        """Return which values of the context training has not seen, (n, n_columns).

        In the order of ``columns``. A missing value is not one of them.
        """
        unseen = [~self.knows(c, rows[:, c]) & ~np.isnan(rows[:, c]) for c in self.columns]
        return np.array(unseen).T

    def expected(self, rows: Any) -> tuple[Any, Any]:
        """Return what each sensor reads in the context of rows (n, n_features), and its spread.

        Both of shape (n, n_features); the spread as a ratio to that in the average context. NaN
        where the context is missing or was never seen.
        """
        weights = self.weights(rows)
        return self.center + weights @ self.effects, np.exp(weights @ self.log_ratios)

    def readings(self, rows: Any) -> Callable[[Any], Any]:
        """Return a function from what ``judged`` returns to what the sensors read in a context.

        The context is that of rows (n, n_features). The function maps arrays whose shape broadcasts
        with these; the columns of the context to NaN.
        """
        expected, ratio = self.expected(rows)
        expected[:, self.columns] = np.nan
        return lambda judged: expected + ratio * (judged - self.center)

    def as_rows(self, X: Any) -> Any:
        """Return data of shape (n, n_features), which may hold words, as rows with their codes."""
        rows = np.array(X, dtype=object)
        for column in self.words:
            rows[:, column] = [code(value) for value in rows[:, column]]
        return rows.astype(float)

    def words_of(self, column: int, codes: Any) -> list[str | None]:
        """Return the words of a column from their codes; None for an unknown one."""
        known = {code_of(word): word for word in self.words[column]}
        return [known.get(float(value)) for value in codes]

    def judged(self, rows: Any) -> Any:
        """Return what rows (n, n_features) correspond to in the average context.

        The columns of the context are 0. A row whose context is missing or was never seen is NaN.
        """
        expected, ratio = self.expected(rows)
        judged = self.center + (rows - expected) / ratio
        judged[:, self.columns] = np.where(np.isnan(ratio[:, self.columns]), np.nan, 0.0)
        return judged


def code_of(word: str) -> float:
    """Return the number that stands for a word in a matrix: the same one in every process."""
    digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
    return FIRST_CODE + int.from_bytes(digest[:CODE_BYTES], "big")


def code(value: Any) -> float:
    """Return the code of a value in a column of words; NaN if it is missing."""
    word = as_word(value)
    return float("nan") if word is None else code_of(word)


def as_word(value: Any) -> str | None:
    """Return a value of a column of words as text; None if it is missing."""
    if value is None or value != value:
        return None
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if not isinstance(value, str):
        return f"{value:.15g}"
    word = value.strip()
    # Files write what is true or false in upper or lower case, JSON and Parquet as no word at all.
    return word.lower() if word.lower() in ("true", "false") else word


def _thinned(X: Any) -> Any:
    return X[:: -(-len(X) // MOST_FITTED)]


def _seen(values: Any) -> Any:
    ranges, width = seen_ranges(values, HOLE)
    return ranges + MARGIN * width * np.array([-1.0, 1.0])


def seen_ranges(values: Any, hole: float) -> tuple[Any, float]:
    """Return the ranges that hold some values, (n_ranges, 2), and the width of their unit.

    Parameters
    ----------
    values : ndarray of shape (n,)
        NaN for a missing one.
    hole : float
        A wider hole divides two ranges; in widths of the central 99 % of the values.
    """
    ordered = np.unique(values[~np.isnan(values)])
    low, high = np.percentile(values[~np.isnan(values)], [0.5, 99.5])
    width = high - low if high > low else ordered[-1] - ordered[0]
    ends = np.flatnonzero(np.diff(ordered) > hole * width)
    ranges = np.array([ordered[np.append(0, ends + 1)], ordered[np.append(ends, -1)]]).T
    return ranges, float(width)


def _hats(values: Any, n: int) -> Any:
    """Return ``n`` functions that are linear between evenly spread points, shape (n_values, n)."""
    points = np.linspace(values[0], values[-1], n)
    return np.array([np.interp(values, points, unit) for unit in np.eye(n)]).T


def _log_ratios(errors: Any, weights: Any) -> Any:
    """Return the logarithm of the spread at each point, less that of all rows."""
    variance = np.maximum((errors**2).mean(axis=0), np.finfo(float).tiny)
    squares = np.minimum(errors**2, MOST_SQUARE * variance)
    variance = np.maximum(squares.mean(axis=0), np.finfo(float).tiny)
    total = weights.T @ squares + ROWS_OF_AVERAGE * variance
    rows = weights.sum(axis=0)[:, None] + ROWS_OF_AVERAGE
    largest = np.log(MOST_RATIO)
    return np.clip(0.5 * np.log(total / rows / variance), -largest, largest)
