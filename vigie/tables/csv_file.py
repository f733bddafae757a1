"""Read CSV files with any separator, encoding, header and number format, in parts."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from vigie.errors import InvalidDataError
from vigie.tables import text
from vigie.tables.dialect import COMMENT, find_dialect
from vigie.tables.layout import is_number, is_time
from vigie.tables.numbers import (
    MISSING,
    Mark,
    NumberOptions,
    Shapes,
    decide,
    decimal_of,
    matching,
)

if TYPE_CHECKING:
    import pyarrow as pa

SHAPED_ROWS = 5_000
BLOCK_BYTES = 1 << 21
_LINE_END = re.compile(r"\r\n|\n|\r")
_SEPARATOR_LINE = re.compile(r"sep=(.|\\t)\s*")
_COLUMN = re.compile(r"In CSV column #(\d+)")


@dataclass(frozen=True)
class CsvOptions:
    """What the user states about a CSV file; None: decided from the file."""

    separator: str | None = None
    decimal: Mark | None = None
    encoding: str | None = None


class CsvFile:
    """A CSV file, understood from its first megabyte.

    Columns whose cells are plain numbers come as float64, all others as text.

    Parameters
    ----------
    path : Path
        The file; it may be packed by gzip, bzip2, xz, zstd or zip.
    options : CsvOptions, optional
        What is known about it.

    Attributes
    ----------
    columns : tuple of str
        The names of the columns.
    units : dict of str to str
        Units, where the file has them.
    n_rows : None
        The number of rows is not known in advance.
    notes : list of str
        What a user should know of how it was understood.
    """

    n_rows: int | None = None

    def __init__(self, path: Path, options: CsvOptions | None = None):
        options = options or CsvOptions()
        self.path = path
        sample = text.read_sample(path)
        self.encoding = options.encoding or text.encoding_of(sample)
        lines = _LINE_END.split(_decoded(sample, self.encoding))
        if len(sample) == text.SAMPLE_BYTES and len(lines) > 1:
            lines.pop()
        self.dialect = find_dialect(lines, options.separator)
        readings = lines[self.dialect.skipped_lines :]
        self.has_quotes = any(self.dialect.quote in line for line in readings)
        layout = self.dialect.layout
        self.columns, self.units, self.notes = layout.names, layout.units, list(layout.notes)
        shapes = self._shapes_of(self.dialect.rows)
        self.numbers = NumberOptions(
            stated=options.decimal,
            proven=frozenset(filter(None, map(decimal_of, shapes))),
            usual="," if self.dialect.separator == ";" else ".",
        )
        self.decimal: Mark = options.decimal or self._usual_decimal(shapes)
        self._plain = {
            name
            for name, of_column in zip(self.columns, shapes, strict=True)
            if self._is_plain(name, of_column)
        }

    @property
    def description(self) -> str:
        """The dialect in words."""
        return f"CSV with {self.dialect.description}, {self.encoding}"

    def batches(
        self, names: Collection[str], as_text: Collection[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """Yield all rows, with the columns of these names; those of ``as_text`` unread.

        A column that turns out to hold more than plain numbers comes as text from then on.

        Raises
        ------
        InvalidDataError
            If a row has another number of cells; the error names its line.
        """
        wanted = [name for name in self.columns if name in names]
        n_seen, threads = 0, True
        while True:
            stray = StrayRows(self, numbered=not threads)
            try:
                for batch in self._read(wanted, as_text, stray, n_seen, threads):
                    yield batch
                    n_seen += len(batch)
                return
            except _Again as again:
                threads = threads and not again.is_stray

    def _read(
        self,
        wanted: Sequence[str],
        as_text: Collection[str],
        stray: StrayRows,
        n_seen: int,
        threads: bool,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows after the first ``n_seen``; raise ``_Again`` to begin anew."""
        import pyarrow as pa

        to_skip = n_seen
        try:
            with self._open(wanted, as_text, stray, threads) as reader:
                for batch in reader:
                    part = batch.slice(min(to_skip, len(batch)))
                    to_skip -= len(batch) - len(part)
                    if len(part):
                        yield part
        except pa.ArrowInvalid as error:
            if stray.found and stray.numbered:
                raise stray.error() from error
            if stray.found:
                raise _Again(is_stray=True) from error
            self._widen(str(error), wanted)
            raise _Again(is_stray=False) from error

    def _widen(self, message: str, wanted: Sequence[str]) -> None:
        """Read a column as text that is no plain column of numbers after all."""
        if "Empty CSV file" in message:
            return
        if "UTF8" in message and self.encoding == "utf-8":
            self.encoding = "cp1252"
            return
        column = _COLUMN.search(message)
        if column is None:
            raise InvalidDataError(f"{self.path} cannot be read: {message}", field="FILE")
        before = len(self._plain)
        self._plain.discard(self.columns[int(column.group(1))])
        if len(self._plain) == before:
            raise InvalidDataError(f"{self.path} cannot be read: {message}", field="FILE")

    def _open(
        self, wanted: Sequence[str], as_text: Collection[str], stray: StrayRows, threads: bool
    ) -> Any:
        import pyarrow as pa
        from pyarrow import csv as pa_csv

        cells = [*self.columns]
        if self.dialect.layout.n_cells > len(cells):
            cells.append("\x00end")
        numbers = self._plain.difference(as_text)
        types = {name: pa.float64() if name in numbers else pa.string() for name in self.columns}
        source: Any = text.open_bytes(self.path)
        encoding = self.encoding
        if self.dialect.separator == " ":
            source, encoding = SingleSpaces(source, encoding), "utf-8"
        try:
            return pa_csv.open_csv(
                source,
                read_options=pa_csv.ReadOptions(
                    column_names=cells,
                    skip_rows=self.dialect.skipped_lines,
                    block_size=BLOCK_BYTES,
                    encoding="utf-8" if encoding == "utf-8-sig" else encoding,
                    use_threads=threads,
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self.dialect.separator,
                    quote_char=self.dialect.quote,
                    newlines_in_values=self.has_quotes,
                    invalid_row_handler=stray.handle,
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=types,
                    include_columns=list(wanted) or [self.columns[0]],
                    null_values=list(MISSING),
                    strings_can_be_null=False,
                    decimal_point=self.decimal,
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                schema = pa.schema([(name, types[name]) for name in wanted])
                return pa.RecordBatchReader.from_batches(schema, [])
            raise

    def _shapes_of(self, rows: Sequence[Sequence[str]]) -> list[Shapes]:
        """Return the shapes of each column in the first rows."""
        import pyarrow as pa

        whole = [row for row in rows[:SHAPED_ROWS] if len(row) == self.dialect.layout.n_cells]
        shapes = []
        for i in range(len(self.columns)):
            of_column = Shapes()
            of_column.add(pa.array([row[i] for row in whole], pa.string()))
            shapes.append(of_column)
        return shapes

    def _usual_decimal(self, shapes: Sequence[Shapes]) -> Mark:
        marks = Counter(mark for of_column in shapes if (mark := decimal_of(of_column)))
        return max(marks, key=lambda mark: marks[mark], default=self.numbers.usual)

    def _is_plain(self, name: str, shapes: Shapes) -> bool:
        """Return whether pyarrow can read a column as numbers, as far as the sample shows."""
        if shapes.words or shapes.overflow:
            return False
        if not shapes.counts:
            return shapes.n_rows > 0
        try:
            written = decide(shapes, name, self.numbers)
        except InvalidDataError:
            return False
        if written is None or not written.is_plain:
            return False
        has_mark = any(mark in shape for shape in shapes.numeric for mark in ".,")
        whole = matching(shapes)[written] == sum(shapes.counts.values())
        return whole and (written.decimal == self.decimal or not has_mark)


class _Again(Exception):
    """The file must be read anew, with what was learnt."""

    def __init__(self, is_stray: bool):
        self.is_stray = is_stray


class StrayRows:
    """Rows with another number of cells: comments and a last line of text are passed over.

    Parameters
    ----------
    file : CsvFile
        The file.
    numbered : bool
        Whether the parser tells the numbers of lines, which takes it from its fast road.
    """

    def __init__(self, file: CsvFile, numbered: bool):
        self.file, self.numbered = file, numbered
        self.found = False
        self._last_line = _last_line(file) if numbered else ""
        self._wrong: tuple[int, int, str] | None = None

    def handle(self, row: Any) -> str:
        """Decide on a row: skip it, or break off."""
        content = row.text.strip()
        if COMMENT.match(content) or not content.strip(self.file.dialect.separator + " "):
            return "skip"
        is_last = self.numbered and row.actual_columns == 1 and content == self._last_line
        if is_last and not is_number(content) and not is_time(content):
            self.file.notes.append(f"The last line, {content[:40]!r}, holds no reading")
            return "skip"
        self.found = True
        if self._wrong is None:
            self._wrong = (row.number, row.actual_columns, content)
        return "error"

    def error(self) -> InvalidDataError:
        """Return the error that names the first wrong line."""
        number, n_cells, content = self._wrong or (0, 0, "")
        has = "1 cell" if n_cells == 1 else f"{n_cells} cells"
        return InvalidDataError(
            f"Line {number} has {has}, the others have {self.file.dialect.layout.n_cells}: "
            f"{content[:80]!r}.",
            field="FILE",
            remedy="Give each row one cell for each column; put quotes round cells that hold a "
            "separator.",
        )


def _last_line(file: CsvFile) -> str:
    """Return the last line that is not empty."""
    tail = b""
    with text.open_bytes(file.path) as source:
        while block := bytes(source.read(1 << 20)):
            tail = (tail + block)[-(1 << 16) :]
    lines = [line.strip() for line in _LINE_END.split(text.decoded(tail, file.encoding))]
    return next((line for line in reversed(lines) if line), "")


class SingleSpaces(io.RawIOBase):
    """A text with one space in place of several, none at the ends of lines, in UTF-8."""

    def __init__(self, source: IO[bytes], encoding: str):
        self._lines = io.TextIOWrapper(
            cast("IO[bytes]", io.BufferedReader(_Raw(source))), encoding=encoding
        )
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            lines = self._lines.readlines(1 << 20)
            if not lines:
                break
            self._rest += "\n".join(
                [*(re.sub(r"[ \t]+", " ", x.strip()) for x in lines), ""]
            ).encode()
        size = len(self._rest) if size < 0 else size
        answer, self._rest = self._rest[:size], self._rest[size:]
        return answer


class _Raw(io.RawIOBase):
    """What ``io`` needs to buffer a file of pyarrow's."""

    def __init__(self, source: Any):
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _decoded(sample: bytes, encoding: str) -> str:
    try:
        return text.decoded(sample, encoding)
    except LookupError as error:
        raise InvalidDataError(
            f"There is no encoding {encoding!r}.",
            field="--encoding",
            remedy="For example utf-8, cp1252 or utf-16.",
        ) from error
