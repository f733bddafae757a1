"""Read a sheet of an Excel or OpenDocument workbook."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigie.errors import InvalidDataError
from vigie.tables.layout import Layout, find_layout
from vigie.tables.mending import n_footers
from vigie.tables.numbers import NumberOptions, is_written
from vigie.tables.options import Mark
from vigie.tables.origin import Origin

if TYPE_CHECKING:
    import pyarrow as pa

EXTENSIONS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
LAYOUT_ROWS = 500


class ExcelFile:
    """A sheet of a workbook; its cells have types, so that nothing needs to be guessed.

    Columns of numbers come as float64 and columns of times as timestamps; a column that mixes
    kinds comes as text.

    Parameters
    ----------
    path : Path
        The workbook.
    sheet : str, optional
        The name of the sheet; by default the first one with numbers.
    decimal : {".", ","}, optional
        The decimal mark of numbers that are text.

    Raises
    ------
    InvalidDataError
        If it cannot be opened, there is no such sheet, or the sheet holds no table.
    """

    def __init__(self, path: Path, sheet: str | None = None, decimal: Mark | None = None):
        from python_calamine import CalamineError, CalamineWorkbook

        self.path = path
        try:
            with CalamineWorkbook.from_path(str(path)) as book:
                self.sheet, rows = _chosen(book, path, sheet)
                others = [name for name in book.sheet_names if name != self.sheet]
        except CalamineError as error:
            raise InvalidDataError(
                f"{path} cannot be opened as a workbook.",
                field="FILE",
                remedy="Save it anew as .xlsx, without a password.",
            ) from error
        as_text = [[_text(cell) for cell in row] for row in rows[:LAYOUT_ROWS]]
        self.layout: Layout = find_layout(as_text)
        self.columns, self.units = self.layout.names, self.layout.units
        self.forms = self.layout.forms
        self.notes = list(self.layout.notes)
        if others and sheet is None:
            self.notes.append(f"Read the sheet {self.sheet!r}; --sheet names another one")
        self._rows = [row for row in rows[self.layout.first :] if any(c != "" for c in row)]
        self._leave_out_footers()
        self.n_rows: int | None = len(self._rows)
        self.numbers = NumberOptions(stated=decimal)

    def _leave_out_footers(self) -> None:
        """Leave out sums and single words below the last row, and say so."""
        last = [[_text(cell) for cell in row] for row in self._rows[-LAYOUT_ROWS:]]
        n_below = n_footers(last)
        if n_below:
            shown = [" ".join(filter(None, row))[:30] for row in last[-n_below:][:3]]
            self.notes.append(f"Left out below the last row: {', '.join(map(repr, shown))}")
            del self._rows[-n_below:]

    @property
    def description(self) -> str:
        """The kind of file in words."""
        return f"the sheet {self.sheet!r} of a workbook"

    @property
    def origin(self) -> Origin:
        """The workbook and its sheet."""
        return Origin(
            "workbook",
            first_line=self.layout.first + 1,
            has_header=self.layout.has_header,
            sheet=self.sheet,
        )

    def batches(
        self, names: Collection[str], as_text: Collection[str] = (), *, at_once: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """Yield all rows, with the columns of these names; their types stay as they are."""
        import pyarrow as pa

        columns = {
            name: _column([row[i] for row in self._rows])
            for i, name in enumerate(self.columns)
            if name in names
        }
        yield pa.RecordBatch.from_pydict(columns)


def _chosen(book: Any, path: Path, sheet: str | None) -> tuple[str, list[list[Any]]]:
    """Return the sheet that the user names, or the first with numbers, and its rows.

    Numbers that are text count where no sheet has others.
    """
    if sheet is not None:
        if sheet not in book.sheet_names:
            raise InvalidDataError(
                f"{path} has no sheet {sheet!r}.",
                field="--sheet",
                remedy=f"Its sheets are: {', '.join(map(repr, book.sheet_names))}.",
            )
        return sheet, book.get_sheet_by_name(sheet).to_python(skip_empty_area=True)
    sheets = {
        n: book.get_sheet_by_name(n).to_python(skip_empty_area=True) for n in book.sheet_names
    }
    for is_one in (_is_number, _is_number_as_text):
        for name, rows in sheets.items():
            if sum(is_one(cell) for row in rows[:LAYOUT_ROWS] for cell in row) > 1:
                return name, rows
    raise InvalidDataError(
        f"No sheet of {path} holds numbers.",
        field="FILE",
        remedy=f"Its sheets are: {', '.join(map(repr, book.sheet_names))}.",
    )


def _is_number(cell: Any) -> bool:
    return isinstance(cell, float)


def _is_number_as_text(cell: Any) -> bool:
    return isinstance(cell, str) and is_written(cell.strip())


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, dt.datetime):
        return cell.isoformat(sep=" ")
    return str(cell)


def _column(cells: Sequence[Any]) -> pa.Array:
    """Return the cells of a column with one type."""
    import pyarrow as pa

    present = [cell for cell in cells if cell != ""]
    kinds = {type(cell) for cell in present}
    if kinds <= {float, int, bool}:
        return pa.array([None if c == "" else float(c) for c in cells], pa.float64())
    if kinds <= {dt.datetime, dt.date}:
        return pa.array([_moment(cell) for cell in cells], pa.timestamp("us"))
    return pa.array([_text(cell) for cell in cells], pa.string())


def _moment(cell: Any) -> dt.datetime | None:
    if cell == "" or isinstance(cell, dt.datetime):
        return cell or None
    return dt.datetime.combine(cell, dt.time())
