"""Columns that look like settings of the machine, to propose as context."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vigie.detectors.base import Floats
from vigie.detectors.data.context import Context, code

if TYPE_CHECKING:
    import pandas as pd

LEAST_HELD = 0.8
"""Share of its rows in which a setting has the value of the row before."""
LEAST_EXPLAINED, LEAST_OF_ONE = 0.5, 0.1
"""Share of the sensors' variance that all settings explain together, and that each one explains."""
FEWEST_ROWS = 100
"""Rows from which this can be told."""
MOST_WORDS = 20
"""Different words of a setting, at most; more are names or remarks."""


def proposed_context(
    X: Floats, names: Sequence[str], texts: Mapping[str, Sequence[Any]]
) -> dict[str, float]:
    """Return the columns that look like settings, each with the share of variance it explains.

    A setting holds its value for a while, and the sensors follow it, or several together.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Readings in time order, without missing values.
    names : sequence of str
        Of the columns.
    texts : mapping of str to sequence
        Columns of words, with one value for each row.
    """
    if len(X) < FEWEST_ROWS:
        return {}
    names, columns, words = list(names), [X], dict[int, tuple[str, ...]]()
    for name, values in texts.items():
        codes = np.array([code(value) for value in values])
        found = sorted({str(value) for value in values if isinstance(value, str)})
        if len(found) <= MOST_WORDS and not np.isnan(codes).any():
            words[len(names)] = tuple(found)
            names.append(name)
            columns.append(codes[:, None])
    rows = np.concatenate(columns, axis=1)
    sensors = [column for column in range(X.shape[1]) if not _holds(X[:, column])]
    own = {}
    for column in range(rows.shape[1]):
        if _holds(rows[:, column]):
            share = _explained(rows, [column], sensors, words)
            if share >= LEAST_OF_ONE:
                own[column] = share
    if not own or _explained(rows, list(own), sensors, words) < LEAST_EXPLAINED:
        return {}
    return {names[column]: share for column, share in own.items()}


def proposed_for(
    frame: pd.DataFrame, features: Sequence[str], exclude: Collection[str] = ()
) -> dict[str, float]:
    """Return the columns of a table that look like settings; see ``proposed_context``.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        In time order; rows with a missing reading are left out.
    features : sequence of str
        The columns of readings.
    exclude : collection of str, optional
        Columns of words that are no settings.
    """
    values = frame[list(features)].to_numpy(dtype=np.float64, na_value=np.nan)
    complete = np.isfinite(values).all(axis=1)
    words = frame[complete].select_dtypes(["object", "string", "category"])
    texts = {
        str(name): words[name].tolist()
        for name in words.columns
        if name not in features and name not in exclude
    }
    return proposed_context(values[complete], list(features), texts)


def _holds(values: Floats) -> bool:
    return bool(np.ptp(values) > 0.0 and np.mean(values[1:] == values[:-1]) >= LEAST_HELD)


def _explained(
    rows: Floats, settings: list[int], sensors: list[int], words: Mapping[int, tuple[str, ...]]
) -> float:
    """Return the mean share of the sensors' variance that some settings explain together."""
    varying = [column for column in sensors if np.ptp(rows[:, column]) > 0.0]
    if not varying:
        return 0.0
    chosen = rows[:, [*varying, *settings]]
    at = range(len(varying), chosen.shape[1])
    of = {
        place: words[column] for place, column in zip(at, settings, strict=True) if column in words
    }
    left = chosen - Context.fit(chosen, list(at), of).expected(chosen)[0]
    n = len(varying)
    return float(1.0 - (left[:, :n].var(axis=0) / chosen[:, :n].var(axis=0)).mean())
