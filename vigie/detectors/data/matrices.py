"""Validate user data: a matrix of finite numbers with named columns, or a clear error."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np

from vigie.detectors.base import Floats
from vigie.detectors.data.context import Context, as_word, code
from vigie.detectors.data.coverage import slow_share
from vigie.detectors.data.operating_point import OperatingPoints
from vigie.detectors.data.quality import DataQuality, Range, examine
from vigie.errors import InvalidDataError

logger = logging.getLogger(__name__)

LARGEST = 1e100
"""Largest absolute value, and inverse of the smallest spread; beyond these, products overflow."""


@dataclass(frozen=True)
class Table:
    """Rows of float64 values, shape (n_samples, n_features), and the names of the columns.

    ``quality`` lists the faults of training data, and how many values were filled; ``context``
    says what each sensor reads by how the machine is run.
    """

    values: Floats
    feature_names: tuple[str, ...]
    quality: DataQuality | None = None
    context: Context | None = None
    blind_blocks: dict[int, bool] = field(default_factory=dict, repr=False, compare=False)
    """By number of blocks, whether a calibration on them is blind, as soon as it is known."""
    warnings: set[str] = field(default_factory=set, repr=False, compare=False)
    """What the training of one detector has warned of, which the next need not say again."""

    @cached_property
    def slow_share(self) -> float:
        """Share of the sensors that follow one slow curve through all rows, in time order."""
        return slow_share(self.judged)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names, shape and values."""
        facts: tuple[Any, ...] = (self.feature_names, self.values.shape)
        if self.context is not None:
            facts += (self.context.columns,)
        digest = hashlib.sha256(repr(facts).encode())
        digest.update(np.ascontiguousarray(self.values).tobytes())
        return digest.hexdigest()

    @cached_property
    def judged(self) -> Floats:
        """The rows that the models see: ``values``, less what the context explains."""
        return self.values if self.context is None else self.context.judged(self.values)

    @cached_property
    def operating_points(self) -> OperatingPoints:
        """The ranges of ``judged``."""
        return OperatingPoints.of(self.judged, self.context.columns if self.context else ())

    def judged_by_fold(
        self, held_out: list[Floats], rest: list[Floats]
    ) -> tuple[list[Floats], list[Floats]]:
        """Return what the models see of a fold's rows, by the context of the others alone."""
        if self.context is None:
            return held_out, rest
        context = self.context.refitted(np.concatenate(rest))
        return [*map(context.judged, held_out)], [*map(context.judged, rest)]


def as_matrix(
    X: Any,
    feature_names: Sequence[str] | None = None,
    *,
    words: Collection[str] = (),
    gaps: bool = False,
    first_row: int = 0,
) -> Table:
    """Check data against the columns that a trained model expects.

    Parameters
    ----------
    X : array-like or DataFrame of shape (n_samples, n_features)
        Readings. A DataFrame's columns may come in any order and may be more than needed.
    feature_names : sequence of str, optional
        The columns expected, in order; by default the DataFrame's own, or ``feature_1`` ...
    words : collection of str, optional
        Columns whose values are words; the matrix has their codes.
    gaps : bool, default False
        Whether values may be missing, or infinite.
    first_row : int, default 0
        Number of the first row, for error messages.

    Raises
    ------
    InvalidDataError
        If X is no matrix, has other columns, or holds anything but finite numbers.
    """
    columns = _column_names(X)
    if columns is not None and feature_names is not None:
        X = X.iloc[:, _positions(columns, feature_names)]
    names = tuple(feature_names or columns or ())
    if words:
        X = _with_codes(X, names, words)
    values = _floats(X, names or None)
    if not names:
        names = tuple(f"feature_{i + 1}" for i in range(values.shape[1]))
    if values.shape[1] != len(names):
        raise InvalidDataError(
            f"Rows have {values.shape[1]} values, but {len(names)} are expected.",
            field="data",
            remedy=f"Give each row these values in this order: {', '.join(names)}.",
        )
    if not gaps and not (finite := np.isfinite(values)).all():
        row, column = np.argwhere(~finite)[0]
        count = finite.size - int(finite.sum())
        value = values[row, column]
        raise InvalidDataError(
            f"The value is {'missing' if np.isnan(value) else value}, but a finite number is "
            "required" + (f" ({count} such values in all)." if count > 1 else "."),
            field=f"data[{first_row + row}].{names[column]}",
            remedy="Leave such rows out, or fill the gaps before.",
        )
    return Table(values, names)


def training_table(
    X: Any,
    feature_names: Sequence[Any] | None,
    ranges: Mapping[str, Range] = {},
    context_features: Sequence[str] = (),
) -> Table:
    """Check training data and fill faulty values; log a warning of these faults.

    Values that are missing, outside a physical range or in a wrong unit are filled with the
    sensor's last good value, unless there are too many of them.

    Parameters
    ----------
    X : array-like or DataFrame of shape (n_samples, n_features), or Table
        Healthy readings. A ``Table`` is returned as it is. Of a DataFrame, columns with times are
        left out, and rows with the newest time first are turned round.
    feature_names : sequence of str, optional
        Names of the columns; by default the DataFrame's own, or ``feature_1`` ... A trailing
        ``...`` continues the numbering of the name before it.
    ranges : mapping of str to (low, high), optional
        Physical ranges of the sensors, where they are known.
    context_features : sequence of str, optional
        Columns that say how the machine is run; numbers or words. See ``Context``.

    Raises
    ------
    InvalidDataError
        If the data cannot be used; see ``as_matrix``.
    """
    if isinstance(X, Table):
        return X
    X = _without_times(X, feature_names)
    columns = _column_names(X)
    if columns is not None and _renames(feature_names, columns):
        X, columns = X.to_numpy(), None
    width = len(columns) if columns is not None else _width(X)
    names = None if feature_names is None else _names(feature_names, width)
    words: dict[str, tuple[str, ...]] = {}
    if context_features:
        X, words = _context_columns(X, names or columns or _names([...], width), context_features)
    table = as_matrix(X, names, gaps=True)
    duplicates = [name for name, count in Counter(table.feature_names).items() if count > 1]
    if duplicates:
        raise InvalidDataError(
            f"Names occur more than once: {', '.join(duplicates)}.",
            field="feature_names",
            remedy="Give each feature a unique name.",
        )
    if len(table.values) < 2:
        raise InvalidDataError(
            "One row cannot show what is usual.", field="data", remedy="Give more healthy rows."
        )
    for name in sorted(set(ranges).difference(table.feature_names)):
        logger.warning("A physical range is set for '%s', but the data have no such column.", name)
    context = [table.feature_names.index(name) for name in dict.fromkeys(context_features)]
    filled, quality = examine(table.values, table.feature_names, ranges, context)
    table = Table(filled, table.feature_names, quality)
    for sentence in quality.sentences():
        logger.warning("Training data: %s.", sentence)
    largest = np.abs(table.values).max(axis=0)
    for column in np.flatnonzero(largest > LARGEST):
        raise InvalidDataError(
            f"Values up to {largest[column]:.3g} are too large to compute with.",
            field=f"data.{table.feature_names[column]}",
            remedy="Use a larger unit, or leave the column out.",
        )
    constant = np.ptp(table.values, axis=0) < 1.0 / LARGEST
    for place in context:
        if constant[place]:
            raise InvalidDataError(
                "The column is constant, so it cannot say how the machine is run.",
                field=f"context_features.{table.feature_names[place]}",
                remedy="Leave it out, or give rows in which it changes.",
            )
    if np.delete(constant, context).all():
        raise InvalidDataError(
            "Every column is constant: there is nothing to learn.",
            field="data",
            remedy="Give rows of a machine in operation.",
        )
    for column in np.flatnonzero(constant):
        logger.warning(
            "Column '%s' is constant (%s) in the training data, so its usual variation is unknown "
            "and any change may look anomalous. Leave it out if it carries no information.",
            table.feature_names[column],
            table.values[0, column],
        )
    if not context:
        return table
    fitted = Context.fit(
        table.values, context, {table.feature_names.index(name): of for name, of in words.items()}
    )
    return replace(table, context=fitted)


def as_row(
    features: Mapping[str, Any], feature_names: Sequence[str], words: Collection[str] = ()
) -> Floats:
    """Return one reading as a row of shape (n_features,), in the model's order.

    Unknown features are ignored; a column of ``words`` has codes.

    Raises
    ------
    InvalidDataError
        If a feature is missing, or is not a finite number.
    """
    if not isinstance(features, Mapping):
        raise InvalidDataError(
            f"Features must be given by name, not as {type(features).__name__}.",
            field="features",
            remedy='For example: {"rms": 0.4, "temperature": 61.0}.',
        )
    missing = [name for name in feature_names if name not in features]
    if missing:
        unknown = [str(name) for name in features if name not in feature_names]
        near = get_close_matches(missing[0], unknown, n=1)
        given = f"{near[0]!r} was given, which the model does not know. " if near else ""
        raise InvalidDataError(
            "It is missing."
            if len(missing) == 1
            else f"It is missing, and so are {', '.join(missing[1:])}.",
            field=f"features.{missing[0]}",
            remedy=f"{given}The model was trained on: {', '.join(feature_names)}.",
        )
    row = np.empty(len(feature_names))
    for index, name in enumerate(feature_names):
        value = features[name]
        number = code(value) if name in words else as_number(value)
        if number is None or not math.isfinite(number):
            message = (
                "The value is missing, but a finite number is required."
                if value is None
                else f"{value!r} is not a finite number."
            )
            raise InvalidDataError(
                message,
                field=f"features.{name}",
                remedy="Give the sensor's value as a number, or set VIGIE_FAULTY_VALUES=impute to "
                "assess the reading without it.",
            )
        row[index] = number
    return row


def _column_names(X: Any) -> tuple[str, ...] | None:
    """Return a DataFrame's columns; None for data without named columns."""
    columns = getattr(X, "columns", None)
    if columns is None or not hasattr(X, "to_numpy"):
        return None
    return tuple(str(name) for name in columns)


def _without_times(X: Any, feature_names: Sequence[Any] | None) -> Any:
    """Return a DataFrame without its times, in their order; other data as they are.

    Times are columns of the type datetime64, and the index if it is one of times.
    """
    if (columns := _column_names(X)) is None:
        return X
    is_time = [
        getattr(kind, "kind", "") == "M" and name not in (feature_names or ())
        for name, kind in zip(columns, X.dtypes, strict=True)
    ]
    clocks = [X.iloc[:, place] for place in np.flatnonzero(is_time).tolist()]
    if getattr(X.index.dtype, "kind", "") == "M":
        clocks.append(X.index.to_series())
    if clocks:
        X = X.iloc[:, np.flatnonzero(~np.array(is_time))]
    if len(clocks) != 1 or clocks[0].is_monotonic_increasing:
        return X
    if clocks[0].is_monotonic_decreasing:
        logger.info("The rows are newest first; they are read from the oldest.")
        return X.iloc[::-1]
    logger.warning(
        "The times have gaps or go back, so the rows are taken to be in order. Sort them by time, "
        "or set VIGIE_TIME_ORDERED=false if they have no order."
    )
    return X


def _positions(columns: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return the positions of the wanted columns; each must occur exactly once."""
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise InvalidDataError(
            f"Missing columns: {', '.join(missing)}.",
            field="data",
            remedy=f"Expected: {', '.join(wanted)}.",
        )
    duplicates = [name for name in wanted if columns.count(name) > 1]
    if duplicates:
        raise InvalidDataError(
            f"Columns occur more than once: {', '.join(duplicates)}.",
            field="data",
            remedy="Give each column a unique name.",
        )
    return [columns.index(name) for name in wanted]


def _context_columns(
    X: Any, names: Sequence[str], context_features: Sequence[str]
) -> tuple[Any, dict[str, tuple[str, ...]]]:
    """Return data with codes in place of words, and the words of each column that holds any."""
    if isinstance(context_features, str):
        raise InvalidDataError(
            f"{context_features!r} is a string, not a list of names.",
            field="context_features",
            remedy='For example: ["load"].',
        )
    for position, name in enumerate(context_features):
        if name not in names:
            raise InvalidDataError(
                f"There is no column {name!r}.",
                field=f"context_features[{position}]",
                remedy=f"The columns are: {', '.join(names)}.",
            )
    if set(names) == set(context_features):
        raise InvalidDataError(
            "Every column is context: there is no sensor to judge.",
            field="context_features",
            remedy="Name only the columns that say how the machine is run.",
        )
    words = {}
    for name in context_features:
        values = _column(X, names, name)
        if any(isinstance(value, str | bool) for value in values):
            words[name] = tuple(sorted({w for w in map(as_word, values) if w is not None}))
    return (_with_codes(X, names, words) if words else X), words


def _column(X: Any, names: Sequence[str], name: str) -> list[Any]:
    """Return a column of a DataFrame or of rows."""
    at = list(names).index(name)
    if hasattr(X, "iloc"):
        return list(X.iloc[:, at].tolist())
    return [row[at] for row in X]


def _with_codes(X: Any, names: Sequence[str], words: Collection[str]) -> Any:
    """Return data with the code of each word in the columns of words."""
    if hasattr(X, "iloc"):
        X = X.copy(deep=False)
        for name in words:
            at = list(names).index(name)
            X.isetitem(at, _codes(X.iloc[:, at].tolist()))
        return X
    columns = [list(names).index(name) for name in words]
    rows = [list(row) for row in X]
    for row in rows:
        for at in columns:
            if at < len(row):
                row[at] = code(row[at])
    return rows


def _codes(values: Sequence[Any]) -> Floats:
    known = {value: code(value) for value in set(values)}
    return np.array([known[value] for value in values], dtype=np.float64)


def _renames(feature_names: Sequence[Any] | None, columns: Sequence[str]) -> bool:
    """Return whether ``feature_names`` rename a DataFrame's columns instead of selecting them."""
    if feature_names is None:
        return False
    if len(feature_names) > 0 and feature_names[-1] is ...:
        return True
    unknown = any(name not in columns for name in feature_names)
    return unknown and len(feature_names) == len(columns)


def _width(X: Any) -> int:
    shape = getattr(X, "shape", None)
    if shape is not None:
        return int(shape[1]) if len(shape) == 2 else 0
    return len(X[0]) if isinstance(X, Sequence) and X and hasattr(X[0], "__len__") else 0


def _names(feature_names: Sequence[Any], width: int) -> tuple[str, ...]:
    if isinstance(feature_names, str):
        raise InvalidDataError(
            f"{feature_names!r} is a string, not a list of names.",
            field="feature_names",
            remedy='For example: ["rms", "temperature"].',
        )
    names = list(feature_names)
    if names and names[-1] is ...:
        names.pop()
        last = str(names[-1]) if names else "feature_0"
        stem, digits = re.fullmatch(r"(.*?)(\d*)", last, re.DOTALL).groups()  # type: ignore[union-attr]
        start = int(digits or len(names))
        more = range(start + 1, start + 1 + width - len(names))
        names += [f"{stem}{number:0{len(digits)}d}" for number in more]
    for position, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise InvalidDataError(
                f"{name!r} is not a name.",
                field=f"feature_names[{position}]",
                remedy="Give each feature a name that is not empty.",
            )
    return tuple(names)


def _floats(X: Any, names: Sequence[str] | None) -> Floats:
    """Return data as a C-contiguous matrix; the memory order affects rounding."""
    try:
        array = np.asarray(X.to_numpy() if hasattr(X, "to_numpy") else X)
    except ValueError as error:
        raise _ragged(X) from error
    if array.ndim == 2 and array.dtype.kind in "OUSb":
        # numpy converts a list with a single string to all strings; the list has the originals.
        array = _numbers(np.array(X, dtype=object) if isinstance(X, Sequence) else array, names)
    if array.dtype.kind not in "fiu" or array.ndim != 2:
        raise InvalidDataError(
            f"Data must be a table of numbers, but this has the type {array.dtype} "
            f"and the shape {array.shape}.",
            field="data",
            remedy="Give rows of equal length: [[1.0, 2.0], [1.1, 2.1]].",
        )
    if array.shape[1] == 0 or (array.shape[0] == 0 and names is None):
        raise InvalidDataError("There are no values.", field="data", remedy="Give some rows.")
    return np.array(array, dtype=np.float64, order="C")


def _numbers(array: Any, names: Sequence[str] | None) -> Floats:
    """Convert a table of objects; raise for the first cell that is not a number."""
    values = np.empty(array.shape)
    for (row, column), value in np.ndenumerate(array):
        number = as_number(value, missing=np.nan)
        if number is None:
            from vigie.tables.layout import is_time

            name = names[column] if names and column < len(names) else None
            remedy = "Leave out columns of text."
            if isinstance(value, str) and is_time(value):
                remedy = "Leave out this column, or make times of it with pandas.to_datetime."
            raise InvalidDataError(
                f"{_as_python(value)!r} is not a number.",
                field=f"data[{row}].{name}" if name else f"data[{row}][{column}]",
                remedy=remedy,
            )
        values[row, column] = number
    return values


def as_number(value: Any, missing: float | None = None) -> float | None:
    """Return a value as a float, None if it is not a number, or ``missing`` if it is None."""
    if type(value) is float:
        return value
    if value is None:
        return missing
    # float() accepts text and booleans, but these are no measurements.
    if isinstance(value, str | bytes | bool | np.bool_) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except OverflowError:
        return float("inf")
    except (TypeError, ValueError):
        return None


def _as_python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _ragged(X: Sequence[Any]) -> InvalidDataError:
    sizes = [len(row) if hasattr(row, "__len__") else None for row in X]
    for position, size in enumerate(sizes):
        if size is None or size != sizes[0]:
            return InvalidDataError(
                f"The row has {'no' if size is None else size} values, the first has {sizes[0]}.",
                field=f"data[{position}]",
                remedy="Give rows of equal length.",
            )
    return InvalidDataError(
        "Data must be a table of numbers.", field="data", remedy="Give one number per cell."
    )
