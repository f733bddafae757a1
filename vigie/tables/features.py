"""Choose the columns of a table that a model learns, and read its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError
from vigie.tables.kinds import Column
from vigie.tables.table import Table, require_columns

if TYPE_CHECKING:
    import pandas as pd


def choose(
    table: Table,
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
    context: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[Column]]:
    """Return the columns with readings, and what each of the others is.

    Parameters
    ----------
    table : Table
        As read.
    exclude : sequence of str
        Columns that are not features, such as labels.
    only : sequence of str
        If given, exactly these columns.
    context : sequence of str
        Columns that say how the machine is run; these are kept, whatever they hold.

    Raises
    ------
    InvalidDataError
        If a named column does not exist or holds words, or no column of readings is left.
    """
    frame = table.frame
    for names, option in ((exclude, "--exclude"), (only, "--feature"), (context, "--context")):
        require_columns(frame.columns, names, option)
    if both := [name for name in context if name in exclude]:
        raise InvalidDataError(
            f"{', '.join(both)} is context, and excluded.",
            field="--context",
            remedy="Name it in one of both options only.",
        )
    if only:
        return frame[_checked(frame, list(dict.fromkeys([*only, *context])), context)], []
    others = [column for column in table.kinds if column.name not in (*exclude, *context)]
    chosen = [column.name for column in others if column.is_feature]
    left_out = [c for c in others if not c.is_feature and c.name not in table.clock]
    if not chosen:
        clocks = [column for column in others if column.name in table.clock]
        said = "; ".join(f"{column.name}: {column.reason}" for column in (*left_out, *clocks)[:5])
        raise InvalidDataError(
            f"No column holds readings ({said}).",
            field="FILE",
            remedy="Name the columns of sensors with --feature, or look at the file with "
            "`vigie inspect FILE`.",
        )
    kept = [name for name in frame.columns if name in chosen or name in context]
    return frame[kept], left_out


def _checked(frame: pd.DataFrame, names: list[str], context: Sequence[str]) -> list[str]:
    for name in names:
        if frame[name].dtype == object and name not in context:
            word = next((value for value in frame[name] if value is not None), "")
            raise InvalidDataError(
                f"The column {name} holds words, such as {word!r}.",
                field="--feature",
                remedy="Leave it out, or say with --context that it tells how the machine is run.",
            )
    return names


def labels_of(
    frame: pd.DataFrame, column: str, fault_words: Sequence[str] = ()
) -> NDArray[np.bool_]:
    """Return which rows a column labels as faulty, shape (n_rows,).

    These are the rows where it is not 0, or where it is one of ``fault_words``.

    Raises
    ------
    InvalidDataError
        If there is no such column, a row has no label, or words are no fault words.
    """
    require_columns(frame.columns, [column], "--labels")
    values = frame[column]
    if values.dtype == object:
        return _labels_of_words(column, values.tolist(), fault_words)
    if fault_words:
        raise InvalidDataError(
            f"The column {column} holds numbers, not words.",
            field="--fault-word",
            remedy="Leave the option out: every row that is not 0 counts as faulty.",
        )
    if values.isna().any():
        raise _missing_label(column, int(np.argmax(values.isna())))
    is_faulty: NDArray[np.bool_] = values.to_numpy() != 0
    return is_faulty


def _labels_of_words(
    column: str, values: Sequence[Any], fault_words: Sequence[str]
) -> NDArray[np.bool_]:
    known = sorted({value for value in values if value is not None})
    listed = ", ".join(map(repr, known[:8]))
    if not fault_words:
        raise InvalidDataError(
            f"The column {column} holds words: {listed}.",
            field="--labels",
            remedy="Say with --fault-word which of them stand for a fault.",
        )
    if unknown := [word for word in fault_words if word not in known]:
        raise InvalidDataError(
            f"The column {column} never holds {unknown[0]!r}.",
            field="--fault-word",
            remedy=f"It holds {listed}.",
        )
    if None in values:
        raise _missing_label(column, values.index(None))
    return np.isin(np.array(values, dtype=object), list(fault_words))


def _missing_label(column: str, row: int) -> InvalidDataError:
    return InvalidDataError(
        f"The column {column} has no label in row {row + 1}.",
        field="--labels",
        remedy="Write 0 for a healthy row and 1 for a faulty one, in every row.",
    )
