"""Columns that look like settings of the machine, to propose as context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vigie.detectors.base import Floats
from vigie.detectors.data.context import Context, code

LEAST_HELD = 0.8
"""Share of its rows in which a setting has the value of the row before."""
LEAST_EXPLAINED = 0.5
"""Share of the variance of the sensors that it explains, on average over them."""
FEWEST_ROWS = 100
"""Rows from which this can be told."""
MOST_WORDS = 20
"""Different words of a setting, at most; more are names or remarks."""


def proposed_context(
    X: Floats, names: Sequence[str], texts: Mapping[str, Sequence[Any]]
) -> dict[str, float]:
    """Return the columns that look like settings, each with the share of variance it explains.

    A setting holds its value for a while, and the sensors follow it.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Readings in time order, without missing values.
    names : sequence of str
        Of the columns.
    texts : mapping of str to sequence
        Columns of words, with one value for each row.
    """
    proposed: dict[str, float] = {}
    if len(X) < FEWEST_ROWS:
        return proposed
    for column, name in enumerate(names):
        if _holds(X[:, column]):
            proposed[name] = _explained(X, column, ())
    for name, values in texts.items():
        codes = np.array([code(value) for value in values])
        words = sorted({str(value) for value in values if isinstance(value, str)})
        if len(words) <= MOST_WORDS and not np.isnan(codes).any() and _holds(codes):
            proposed[name] = _explained(np.column_stack([X, codes]), X.shape[1], words)
    return {name: share for name, share in proposed.items() if share >= LEAST_EXPLAINED}


def _holds(values: Floats) -> bool:
    return bool(np.ptp(values) > 0.0 and np.mean(values[1:] == values[:-1]) >= LEAST_HELD)


def _explained(X: Floats, column: int, words: Sequence[str]) -> float:
    """Return the mean share of the other columns' variance that a column explains."""
    context = Context.fit(X, [column], {column: tuple(words)} if words else {})
    others = np.delete(X, column, axis=1)
    left = np.delete(X - context.expected(X)[0], column, axis=1)
    varying = others.std(axis=0) > 0.0
    if not varying.any():
        return 0.0
    return float(1.0 - (left[:, varying].var(axis=0) / others[:, varying].var(axis=0)).mean())
