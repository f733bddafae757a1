"""One reader of tables: whole, for training and backtests, or in parts, for detection."""

from __future__ import annotations

import lzma
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError
from vigie.tables import excel_file, parquet_file, sentinels, text
from vigie.tables.cells import (
    TextColumn,
    as_floats,
    as_objects,
    as_strings,
    as_they_are,
    is_text,
    note_on_scales,
    to_numpy,
    words_note,
)
from vigie.tables.cores import on_all_cores, one_ahead
from vigie.tables.csv_file import CsvFile
from vigie.tables.date_forms import order_in
from vigie.tables.doubtful_times import doubts, groups_of_clocks
from vigie.tables.file_form import FileForm
from vigie.tables.numbers import (
    MISSING,
    SWITCHES,
    NumberFormat,
    NumberOptions,
    Shapes,
    decide,
    parse,
)
from vigie.tables.options import UNSTATED, Hint, Mark, ReadOptions
from vigie.tables.orientation import refuse_parts_of_a_day, refuse_times_as_columns
from vigie.tables.origin import Origin
from vigie.tables.other_files import refuse_damaged
from vigie.tables.row_times import clock_of, is_newest_first, times_of
from vigie.tables.sampled_rows import sampled_rows
from vigie.tables.shape import looks_long
from vigie.tables.table import Table, Times
from vigie.tables.time_format import TimeFormat
from vigie.tables.times import TimeParser, understand_times
from vigie.tables.units import in_other
from vigie.tables.written_times import Order

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

MOST_WORDS = 1000
"""Most different words in a column of numbers that are counted one by one."""
AT_A_TIME = 32_768
"""Rows per part of a file that is read in parts."""


class TableFile(Protocol):
    """A file whose columns come as float64, timestamps or text."""

    path: Path
    columns: tuple[str, ...]
    units: dict[str, str]
    forms: dict[str, str]
    notes: list[str]
    n_rows: int | None
    numbers: NumberOptions

    @property
    def description(self) -> str:
        """The kind of file in words."""

    @property
    def origin(self) -> Origin:
        """What the file is, and why it was understood so."""

    def batches(
        self, names: Collection[str], as_text: Collection[str] = (), *, at_once: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """Yield all rows, with the columns of these names.

        Of a CSV file, those of ``as_text`` come unread, and ``at_once`` gives it all cores.
        """


def open_table(path: Path, options: ReadOptions = UNSTATED) -> TableFile:
    """Open a file by its extension and its first bytes.

    Raises
    ------
    InvalidDataError
        If there is no such file, or it holds no table.
    """
    with _readable(path):
        extension = path.suffix.lower()
        if extension in parquet_file.EXTENSIONS or parquet_file.is_parquet(path):
            return parquet_file.ParquetFile(path)
        if text.is_workbook(path):
            return excel_file.ExcelFile(path, options.sheet, options.csv.decimal)
        file = CsvFile(path, options.csv)
        if extension in excel_file.EXTENSIONS:
            file.notes.append(f"It is no workbook, though called {extension}, but text")
        return file


def read_table(
    path: Path,
    options: ReadOptions = UNSTATED,
    *,
    rows: slice = slice(None),
    words: Collection[str] = (),
    numbers: Collection[str] = (),
    ignored: Collection[str] = (),
) -> Table:
    """Read a whole file.

    Parameters
    ----------
    path : Path
        A CSV, Excel, OpenDocument or Parquet file; a CSV file may be packed.
    options : ReadOptions, optional
        What is known about it.
    rows : slice, optional
        Only these rows, counted from 0.
    words : collection of str
        Columns that keep all of their words, unless they hold numbers only.
    numbers : collection of str
        Columns that are numbers wherever a cell is one, and missing elsewhere. Another column of
        text is one of numbers if more than half of its cells are.
    ignored : collection of str
        Columns that are text where their numbers cannot be read without a guess.

    Raises
    ------
    InvalidDataError
        If it cannot be read without a guess; the error names the line and the column.
    """
    file = open_table(path, options)
    options = options.hinted(*_hints_of(file))
    with _readable(path):
        whole = _collected(file, file.columns, words)
        columns = _slice(whole, rows, path)
    # All rows count before a hint, which some of them would need.
    alone = options if rows == slice(None) else options.unhinted()
    try:
        return understood(columns, file, alone, words, numbers, ignored)
    except InvalidDataError:
        # All rows may tell what the times of some leave open.
        known = _clock_of_all(whole, options) if rows != slice(None) else None
        if known is None:
            raise
        return understood(columns, file, options, words, numbers, ignored, *known)


def _hints_of(file: TableFile) -> Iterator[Hint]:
    """Yield what a file says of the order of its dates, in its line of units and its names."""
    for column in file.columns:
        form = file.forms.get(column, column)
        if (order := order_in(form)) is not None:
            yield Hint(order, f"as the file says: {form}", f"although the file says {form}", column)


def _clock_of_all(
    columns: Mapping[str, pa.ChunkedArray], options: ReadOptions
) -> tuple[tuple[str, ...], TimeFormat] | None:
    """Return the columns that hold the time and how it is written; None if that is not clear."""
    n_rows = len(next(iter(columns.values()))) if columns else 0
    try:
        clock = clock_of(columns, n_rows, options)
        cells = [columns[name] for name in clock]
        return (clock, understand_times(cells, clock, options.times)) if clock else None
    except InvalidDataError:
        return None


def understood(
    columns: Mapping[str, pa.ChunkedArray],
    file: TableFile,
    options: ReadOptions,
    words: Collection[str] = (),
    numbers: Collection[str] = (),
    ignored: Collection[str] = (),
    clock: tuple[str, ...] | None = None,
    written: TimeFormat | None = None,
) -> Table:
    """Return the columns of a file as a table; see ``read_table``.

    Some of its rows may be given with the ``clock`` of all, and how that is ``written``.
    """
    import pandas as pd

    n_rows = len(next(iter(columns.values()))) if columns else 0
    refuse_times_as_columns(list(columns))
    if n_rows and not file.origin.has_header:
        # "05.01.2026" begins as a number does, and may not be seen as a name.
        refuse_times_as_columns([str(cells[0]) for cells in columns.values()])
    notes: list[str] = []
    if clock is not None:
        cells = [columns[name] for name in clock]
        times = None if written is None else TimeParser(written).read(cells)
    else:
        clock, times, written = times_of(columns, n_rows, options)
        notes += () if written is None else written.notes
    if times is not None:
        refuse_parts_of_a_day(list(columns), clock, times)
    notes += doubts(columns, clock, bool(options.time)) if n_rows else ()
    if times is not None and is_newest_first(times):
        columns = {name: cells.take(np.arange(n_rows)[::-1]) for name, cells in columns.items()}
        times = times[::-1]
        notes.append("The rows are newest first; they are read, and counted, from the oldest")
    plain = [name for name, cells in columns.items() if not is_text(cells)]
    floats = on_all_cores(as_floats, [columns[name] for name in plain], n_rows)
    data: dict[str, Any] = dict.fromkeys(columns) | dict(zip(plain, floats, strict=True))
    texts: dict[str, TextColumn] = {}
    for name, cells in columns.items():
        if not is_text(cells):
            continue
        if name in clock:
            data[name] = as_they_are(cells)
        else:
            column = _text_column(
                name, cells, file, is_known=name in numbers, is_read=name not in ignored
            )
            notes += () if column is None else column.notes
            if column is None or not column.is_numeric or (name in words and column.words):
                data[name] = as_objects(cells)
            else:
                data[name] = to_numpy(parse(cells, column.written))
                texts[name] = column
    frame = pd.DataFrame(data, copy=False)
    mixed = {name: columns[name] for name, column in texts.items() if column.has_switch}
    states = _states(frame, times, mixed, options) if mixed else {}
    frame = frame.assign(**states) if states else frame
    for name, column in texts.items():
        notes += column.note_on_odd(name, keeps_switches=name in states)
    if (note := _sum_below(data, clock)) is not None:
        notes.append(note)
    frame, marks = without_sentinels(frame, clock)
    notes += [sentinels.note(name, values) for name, values in marks.items()]
    unread = Counter({name: sum(column.odd.values()) for name, column in texts.items()})
    unread.update({name: sum(values.values()) for name, values in marks.items()})
    units = {name: column.written.unit for name, column in texts.items() if column.written.unit}
    return Table(
        frame=frame,
        times=times,
        clock=clock,
        units=file.units | units,
        formats={name: column.written for name, column in texts.items()},
        description=file.description,
        notes=(*file.notes, *notes),
        written=written,
        origin=file.origin,
        unread=unread,
    )


def _text_column(
    name: str, cells: pa.ChunkedArray, file: TableFile, *, is_known: bool, is_read: bool
) -> TextColumn | None:
    """Return how a column of text is to be read; None if it is not read, and needs a guess."""
    try:
        return TextColumn.of(name, cells, file.numbers, is_known=is_known)
    except InvalidDataError:
        if is_read:
            raise
        return None


def _sum_below(data: Mapping[str, Any], clock: Collection[str]) -> str | None:
    """Return a note if the last row is the sum of all others, in each column of numbers."""
    n_summed = 0
    for name, values in data.items():
        if name in clock or getattr(values, "dtype", None) != np.float64 or len(values) < 3:
            continue
        above = values[:-1]
        total = above.sum()
        total = np.nansum(above) if np.isnan(total) else total
        if not np.isclose(values[-1], total, rtol=1e-6) or not above.any():
            return None
        n_summed += 1
    return (
        "The last row is the sum of all others: remove it if it is no reading" if n_summed else None
    )


def without_sentinels(
    frame: pd.DataFrame, clock: Collection[str] = ()
) -> tuple[pd.DataFrame, dict[str, dict[float, int]]]:
    """Return columns without numbers that stand for missing ones, and these by column."""
    numbers = {
        str(name): series.to_numpy()
        for name, series in frame.items()
        if str(name) not in clock and series.dtype == np.float64
    }
    all_found = on_all_cores(sentinels.sentinels, list(numbers.values()), len(frame))
    found = {name: values for name, values in zip(numbers, all_found, strict=True) if values}
    read = {name: sentinels.without(frame[name].to_numpy(), of) for name, of in found.items()}
    return (frame.assign(**read) if read else frame), found


def _states(
    frame: pd.DataFrame,
    times: Times | None,
    mixed: Mapping[str, pa.ChunkedArray],
    options: ReadOptions,
) -> dict[str, Any]:
    """Return columns of numbers and of words such as on and off, with 1 and 0 for these.

    Only where a column holds the values of all sensors: a temperature is not 0 where the machine
    is off.
    """
    read = {
        name: np.where(np.isnan(frame[name]), to_numpy(parse(cells, SWITCHES)), frame[name])
        for name, cells in mixed.items()
    }
    long = options.long or looks_long(frame.assign(**read), times)
    value = long[1] if isinstance(long, tuple) else long and long.value
    return {name: values for name, values in read.items() if name == value}


class Recording:
    """A file that is read in parts, by the columns that a model knows.

    Parameters
    ----------
    path : Path
        The file.
    rows : slice, optional
        Only these rows, counted from 0.
    options : ReadOptions, optional
        What is known about the file.

    Attributes
    ----------
    columns : tuple of str
        All columns.
    n_rows : int or None
        Number of rows to be read; None if that is not known in advance.
    first : int
        Number of the first row in the file, from 0.
    asset : None
        The name of the machine.

    Raises
    ------
    InvalidDataError
        If there is no such file, or it holds no table.
    """

    asset: str | None = None

    def __init__(
        self,
        path: Path,
        rows: slice = slice(None),
        options: ReadOptions = UNSTATED,
    ):
        self.path = path
        self.first, self._stop = rows.start or 0, rows.stop
        self.file = open_table(path, options)
        self.options = options
        self.columns = self.file.columns
        self._with_sentinels = set[str]()
        n_rows = self.file.n_rows
        self.n_rows = None if n_rows is None else len(range(n_rows)[rows])
        self._doubts: tuple[str, ...] = ()
        self._words: dict[str, Counter[str]] = {}
        self._wanted_units: Mapping[str, str] = {}
        self._units: dict[str, str] = {}
        self._notes_on_units: dict[str, str] = {}

    def expect(self, form: FileForm) -> None:
        """Read what the file leaves open as another one has it, and its numbers in its units."""
        self._wanted_units = form.units
        if form.day_first is not None:
            order: Order = "dmy" if form.day_first else "mdy"
            hint = Hint(order, "as in training", "other than in training")
            self.options = self.options.hinted(hint)

    @property
    def _options(self) -> ReadOptions:
        """What is known of the file; it may say itself in which order its dates are."""
        return self.options.hinted(*_hints_of(self.file))

    def read(
        self, names: Collection[str], words: Collection[str] = ()
    ) -> Iterator[tuple[pd.DataFrame, Times | None]]:
        """Read the columns with these names, and the times of the rows.

        A column is read as numbers wherever its cells are numbers, and as missing elsewhere.

        Parameters
        ----------
        names : collection of str
            Columns; those that the file lacks are left out.
        words : collection of str, optional
            Columns of words, which keep all that they hold.

        Yields
        ------
        table : DataFrame
            The next rows; a file without rows yields one empty table.
        times : ndarray of datetime64[us] of shape (n_rows,) or None
            None if the file has no times.

        Raises
        ------
        InvalidDataError
            If the file cannot be read to its end, or the times are not ascending.
        """
        import pandas as pd

        wanted = [name for name in self.columns if name in names]
        sensors = [name for name in wanted if name not in words]
        clock, times_written = self.clock
        parser = None if times_written is None else TimeParser(times_written)
        formats = self._formats(sensors)
        n_yielded = 0
        for columns in self._parts([*wanted, *clock], words):
            data: dict[str, Any] = {}
            for name in wanted:
                cells = columns[name]
                if name in words:
                    data[name] = as_objects(cells)
                    continue
                if is_text(cells):
                    if name not in formats:
                        formats |= self._late_formats(name)
                    data[name] = to_numpy(parse(cells, formats[name]))
                    self._note_words(name, cells, data[name])
                else:
                    data[name] = as_floats(cells)
                if name in formats or name in self._wanted_units:
                    data[name] = self._in_unit(name, data[name], formats.get(name))
            times = None
            if parser is not None:
                parser, times = self._next_times(parser, [columns[name] for name in clock])
            n_yielded += 1
            yield self._told(*without_sentinels(pd.DataFrame(data, copy=False))), times
        if not n_yielded:
            yield pd.DataFrame({name: np.empty(0) for name in wanted}), None

    def _told(self, frame: pd.DataFrame, found: Mapping[str, Mapping[float, int]]) -> pd.DataFrame:
        """Note what was left out of the next rows, once for each column, and return these."""
        for name, values in found.items():
            if name not in self._with_sentinels:
                self._with_sentinels.add(name)
                listed = ", ".join(f"{value:.10g}" for value in values)
                self.file.notes.append(f"{name}: {listed} read as missing")
        return frame

    def _in_unit(self, name: str, values: Any, written: NumberFormat | None) -> Any:
        """Return numbers in the unit that is wanted; note a unit, and a change of it."""
        unit = (written and written.unit) or self.file.units.get(name, "")
        factor, note = in_other(name, unit, self._wanted_units.get(name, ""))
        scales = () if written is None else note_on_scales(name, written)
        notes = [*scales, *([note] if note else [])]
        if notes:
            self._notes_on_units[name] = "; ".join(notes)
        if unit:
            self._units[name] = unit if factor == 1 else self._wanted_units[name]
        return values if factor == 1 else values * factor

    @property
    def units(self) -> dict[str, str]:
        """Units, where the file has them, of the numbers as they are read."""
        return self.file.units | self._units

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how the file was understood."""
        written = self.clock[1]
        words = [words_note(name, found) for name, found in self._words.items()]
        said = (*self.file.notes, *(written.notes if written else ()), *self._doubts)
        return (*said, *words, *self._notes_on_units.values())

    def _note_words(self, name: str, cells: pa.Array, numbers: NDArray[np.float64]) -> None:
        """Count the cells of a column of numbers that are words."""
        import pyarrow.compute as pc

        missing = np.flatnonzero(np.isnan(numbers))
        if not len(missing):
            return
        found = pc.value_counts(pc.utf8_trim_whitespace(as_strings(cells.take(missing))))
        for word, n in zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True):
            if word and word not in MISSING:
                words = self._words.setdefault(name, Counter())
                # A file larger than memory may have a new word in each row.
                is_kept = word in words or len(words) < MOST_WORDS
                words[word if is_kept else next(iter(words))] += n

    def start(self) -> dict[str, pa.ChunkedArray]:
        """Return the first rows of the file, with all columns; empty for a file without rows."""
        return self._start[0]

    @cached_property
    def _start(self) -> tuple[dict[str, pa.ChunkedArray], bool]:
        """The first rows, and whether these are all."""
        with _readable(self.path):
            batches = self.file.batches(self.columns)
            batch = next(batches, None)
            is_whole = next(batches, None) is None
        return {} if batch is None else _columns([batch]), is_whole

    @cached_property
    def clock(self) -> tuple[tuple[str, ...], TimeFormat | None]:
        """The columns that hold the time, and how it is written.

        Raises
        ------
        InvalidDataError
            If the times cannot be understood, or do not ascend.
        """
        columns = self.start()
        if not columns:
            return (), None
        clock = clock_of(columns, len(next(iter(columns.values()))), self._options)
        self._doubts = self._doubts_about(clock)
        if not clock:
            return (), None
        cells = [columns[name] for name in clock]
        if any(map(is_text, cells)):
            settled = self._settled(clock)
            if settled is not None:
                return clock, settled
            cells = self._whole(clock)
        is_all = not self.first and self._stop is None
        alone = self._options if is_all else self._options.unhinted()
        try:
            return clock, understand_times(cells, clock, alone.times)
        except InvalidDataError:
            known = _clock_of_all(self._columns_of_all(clock), self._options)
            if known is None:
                raise
            return known

    def _doubts_about(self, clock: Sequence[str]) -> tuple[str, ...]:
        """Return what to say of other columns that may hold times."""
        columns, is_whole = self._start
        group = groups_of_clocks(columns, clock)
        if group and not is_whole:
            columns = {**columns, **dict(zip(group, self._whole(group), strict=True))}
        return doubts(columns, clock, bool(self._options.time))

    def _settled(self, clock: Sequence[str]) -> TimeFormat | None:
        """Return how times are written, if some rows from all over the file settle it."""
        if self.first or self._stop is not None:
            return None
        columns, is_whole = self._start
        cells = [columns[name] for name in clock]
        if not is_whole:
            rows = sampled_rows(self.file) if isinstance(self.file, CsvFile) else None
            if rows is None or len(clock) > 1:
                return None
            at = self.columns.index(clock[0])
            cells = [_extended(cells[0], [row[at] for row in rows])]
        try:
            found = understand_times(cells, clock, self._options.times)
        except InvalidDataError:
            # The whole column shows which row is at fault.
            return None
        return found if found.is_settled or is_whole else None

    def _next_times(
        self, parser: TimeParser, cells: Sequence[pa.Array]
    ) -> tuple[TimeParser, Times]:
        """Return the times of the next rows, and who reads those behind them.

        Rows that do not fit what some of them had settled are looked at together with all others:
        a clock may have been set back between them.

        Raises
        ------
        InvalidDataError
            If they do not fit these either, or the rows that were read mean something else by them.
        """
        n_rows, last = parser.n_rows, parser.last
        try:
            return parser, parser.read(cells)
        except InvalidDataError:
            if not parser.format.is_settled:
                raise
        clock = parser.format.names
        whole = self._whole(clock)
        again = TimeParser(understand_times(whole, clock, self._options.times))
        again.read([column.slice(0, n_rows) for column in whole])
        if again.last != last:
            raise InvalidDataError(
                f"The times from row {n_rows + 1} on give those of the rows above another meaning.",
                field=parser.format.label,
                remedy="Give their form with --time-format.",
            )
        self.clock = clock, replace(again.format, is_settled=False)
        return again, again.read(cells)

    def _formats(self, names: Sequence[str]) -> dict[str, NumberFormat]:
        """Return how the columns of text write their numbers, from all of their cells."""
        start = self.start()
        return self._formats_of([name for name in names if start and is_text(start[name])])

    def _formats_of(self, texts: Sequence[str]) -> dict[str, NumberFormat]:
        if not texts:
            return {}
        shapes = {name: Shapes() for name in texts}
        with _readable(self.path):
            for batch in self.file.batches(texts, texts):
                for name in texts:
                    shapes[name].add(as_strings(batch.column(name)))
        return {
            name: decide(of_column, name, self.file.numbers) or NumberFormat()
            for name, of_column in shapes.items()
        }

    def _late_formats(self, name: str) -> dict[str, NumberFormat]:
        """Return the format of a column whose first cells were plain numbers.

        Raises
        ------
        InvalidDataError
            If these would have been read otherwise by it.
        """
        formats = self._formats_of([name])
        decimal: Mark = getattr(self.file, "decimal", ".")
        if formats[name].decimal != decimal:
            raise InvalidDataError(
                f"Its numbers are first written with {NumberFormat(decimal)}, then with "
                f"{formats[name]}.",
                field=f"data.{name}",
                remedy="State the decimal mark: --decimal point, or --decimal comma.",
            )
        return formats

    def _whole(self, names: Sequence[str]) -> list[pa.ChunkedArray]:
        """Return the requested rows of columns."""
        with _readable(self.path):
            columns = _collected(self.file, names)
        columns = _slice(columns, slice(self.first, self._stop), self.path)
        return [columns[name] for name in names]

    def _columns_of_all(self, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        """Return columns with all rows of the file, if only some are requested; else nothing."""
        if not self.first and self._stop is None:
            return {}
        with _readable(self.path):
            return _collected(self.file, names)

    def _parts(self, names: Sequence[str], words: Collection[str]) -> Iterator[dict[str, pa.Array]]:
        """Yield the requested rows in parts of about ``AT_A_TIME``."""
        waiting: list[pa.RecordBatch] = []
        with _readable(self.path):
            for batch in one_ahead(self._in_range(self.file.batches(names, words))):
                if waiting and waiting[0].schema != batch.schema:
                    yield _columns(waiting)
                    waiting = []
                waiting.append(batch)
                while (n_waiting := sum(map(len, waiting))) >= AT_A_TIME:
                    too_many = n_waiting - AT_A_TIME
                    last = waiting.pop()
                    cut = len(last) - too_many
                    yield _columns([*waiting, last.slice(0, cut)])
                    waiting = [last.slice(cut)] if too_many else []
        if waiting:
            yield _columns(waiting)

    def _in_range(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield only the requested rows."""
        seen = 0
        for batch in batches:
            begin = max(self.first - seen, 0)
            end = len(batch) if self._stop is None else min(self._stop - seen, len(batch))
            if begin < end:
                yield batch.slice(begin, end - begin)
            seen += len(batch)
            if self._stop is not None and seen >= self._stop:
                return
        _check_start(self.first, seen, self.path)


def _collected(
    file: TableFile, names: Sequence[str], words: Collection[str] = ()
) -> dict[str, pa.ChunkedArray]:
    """Return whole columns."""
    import pyarrow as pa

    batches = list(file.batches(names, words, at_once=True))
    if len({batch.schema for batch in batches}) > 1:
        # By now the file knows which columns are text.
        batches = list(file.batches(names, words, at_once=True))
    if not batches:
        return {name: pa.chunked_array([], pa.string()) for name in names}
    table = pa.Table.from_batches(batches)
    return {name: table.column(name) for name in table.column_names}


def _extended(cells: pa.ChunkedArray, more: Sequence[str]) -> pa.ChunkedArray:
    """Return cells with some more of them as text behind."""
    import pyarrow as pa

    return pa.chunked_array([*cells.cast(pa.string()).chunks, pa.array(more, pa.string())])


def _slice(
    columns: Mapping[str, pa.ChunkedArray], rows: slice, path: Path
) -> dict[str, pa.ChunkedArray]:
    n_rows = len(next(iter(columns.values()))) if columns else 0
    _check_start(rows.start or 0, n_rows, path)
    begin, end, _ = rows.indices(n_rows)
    return {name: cells.slice(begin, end - begin) for name, cells in columns.items()}


def _check_start(start: int, n_rows: int, path: Path) -> None:
    if 0 < start >= n_rows:
        raise InvalidDataError(
            f"Row {start + 1} is beyond the end: {path} has {n_rows} rows.", field="--rows"
        )


def _columns(batches: Sequence[pa.RecordBatch]) -> dict[str, pa.ChunkedArray]:
    import pyarrow as pa

    table = pa.Table.from_batches(batches)
    return {name: table.column(name) for name in table.column_names}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file into an ``InvalidDataError``.

    Raises
    ------
    InvalidDataError
        If there is no such file, or it is damaged.
    """
    if path.is_dir():
        tables = [child for child in sorted(path.iterdir()) if child.is_file()]
        example = f", such as {path / tables[0].name}" if tables else ""
        raise InvalidDataError(
            f"{path} is a folder.", field="FILE", remedy=f"Name one of its files{example}."
        )
    if str(path) == "-":
        raise InvalidDataError(
            "Standard input cannot be read, since a table is read more than once.",
            field="FILE",
            remedy="Write it to a file first.",
        )
    if not path.exists():
        raise InvalidDataError(f"There is no file {path}.", field="FILE", remedy=_name_beside(path))
    if not path.is_file():
        raise InvalidDataError(
            f"{path} is no regular file, and a table is read more than once.",
            field="FILE",
            remedy="Write it to a file first.",
        )
    try:
        yield
    except InvalidDataError:
        raise
    except (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        kind = "Parquet" if parquet_file.is_parquet(path) else text.packing(path)
        if kind is not None:
            refuse_damaged(path, kind)
        raise InvalidDataError(
            f"{path} cannot be read: {str(error).strip().rstrip('.')}.",
            field="FILE",
            remedy="Use a CSV, Excel or Parquet file.",
        ) from error


def _name_beside(path: Path) -> str | None:
    """Return the question whether a file of nearly this name was meant, if there is one."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    except OSError:
        return None
    near = get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.with_name(near[0])}?" if near else None
