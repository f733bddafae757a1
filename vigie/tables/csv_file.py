"""Read CSV files with any separator, encoding, header and number format, in parts."""

from __future__ import annotations

import codecs
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vigie.errors import InvalidDataError
from vigie.tables import text
from vigie.tables.dialect import (
    COMMENT,
    find_dialect,
    parsed_separator,
    separator_reasons,
    without_spaces,
)
from vigie.tables.encodings import UNSURE
from vigie.tables.find_times import names_times
from vigie.tables.layout import is_number, is_time
from vigie.tables.mending import ANNOTATIONS, NAMES_REPEATED, Mender
from vigie.tables.names import is_numbered
from vigie.tables.numbers import (
    MISSING,
    NumberOptions,
    Shapes,
    decide,
    decimal_of,
    is_marked,
    is_number_like,
    matching,
)
from vigie.tables.options import CsvOptions, Mark
from vigie.tables.origin import Origin
from vigie.tables.other_files import refuse_other
from vigie.tables.program_formats import (
    BYTE_ORDER_MARK,
    Change,
    changed,
    changes_of,
    without_mark,
)
from vigie.tables.stated import require_encoding
from vigie.tables.written_times import bytes_of

if TYPE_CHECKING:
    import pyarrow as pa

SHAPED_ROWS = 2_000
COMPARED_LINES = 100
"""Lines from which it is told why the separator is the one."""
MARK_WORDS: dict[Mark, str] = {".": "point", ",": "comma"}
BLOCK_BYTES = 1 << 21
TAIL_BYTES = 1 << 16
_REPEATED = re.compile(r".*\.\d+")
_FIRST_OF_MARK = BYTE_ORDER_MARK.encode()[0]
_NO_LINE_END = ("straddl", "out of sync", "larger than block size")
"""Words of pyarrow about a cell or a line without an end."""
_PADDED = re.compile(r"0\d{3}(?:\d\d){0,2}(?:\.\d*)?")
_COLUMN = re.compile(r"In CSV column #(\d+)")


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
    forms : dict of str to str
        How times are written, where the file says so.
    n_rows : None
        The number of rows is not known in advance.
    notes : list of str
        What a user should know of how it was understood.
    """

    n_rows: int | None = None

    def __init__(self, path: Path, options: CsvOptions | None = None):
        options = options or CsvOptions()
        self.path = path
        if options.encoding is not None:
            require_encoding(options.encoding)
        sample = text.read_sample(path)
        self.encoding, of_encoding = options.encoding or "", ""
        if not self.encoding:
            self.encoding, of_encoding = text.encoding_of(sample)
        if not sample.strip():
            raise InvalidDataError(
                f"{path} is empty.", field="FILE", remedy="Give a table with names and readings."
            )
        self._options = options
        content = text.decoded(sample, self.encoding)
        if options.encoding is not None and "\ufffd" in content:
            # The names are not read again.
            self._require_decodable(sample)
        refuse_other(sample, content)
        lines = text.lines_of(content)
        if len(sample) == text.SAMPLE_BYTES and len(lines) > 1:
            lines.pop()
        _refuse_binary(lines)
        self._are_names_sought = False
        self._changes: list[Change] = changes_of(lines)
        if self._changes:
            lines = [changed(line, self._changes) for line in lines]
        self.dialect = find_dialect(lines, options.separator, options.decimal)
        readings = lines[self.dialect.skipped_lines :]
        self.has_quotes = any(self.dialect.quote in line for line in readings)
        layout = self.dialect.layout
        self.columns, self.units, self.notes = layout.names, layout.units, list(layout.notes)
        self.forms = layout.forms
        if of_encoding:
            self.notes.append(of_encoding)
        self._first_lines = lines[:COMPARED_LINES]
        self._is_ascii = sample.isascii()
        self._has_mark = any(map(sample.startswith, text.MARKS))
        self.mender = self._mender(lines, layout.first > 0 and layout.has_header)
        head = lines[self.dialect.skipped_lines :]
        tail = head if len(sample) < text.SAMPLE_BYTES else self.last_lines()
        self.notes += self.mender.look_at(head, tail)
        n_cells = self.dialect.layout.n_cells
        rows = [row for row in self.dialect.rows[:SHAPED_ROWS] if len(row) == n_cells]
        shapes = self._shapes_of(rows)
        self.numbers = NumberOptions(
            stated=options.decimal,
            proven=frozenset(filter(None, map(decimal_of, shapes))),
            usual=self._usual_mark,
        )
        self.decimal: Mark = options.decimal or self._usual_decimal(shapes)
        self._proof = self._proof_of(shapes)
        self._plain = {
            name
            for name, of_column in zip(self.columns, shapes, strict=True)
            if self._is_plain(name, of_column)
        }
        self._plain -= set(self._times_in_digits(rows))

    @property
    def description(self) -> str:
        """The dialect in words."""
        return f"CSV with {self.dialect.description}, {self.encoding}"

    @property
    def origin(self) -> Origin:
        """The dialect, and why it is this one."""
        return Origin(
            "CSV",
            encoding=self.encoding,
            separator=None if len(self.columns) == 1 else self.dialect.separator,
            decimal=self.decimal,
            packing=text.packing(self.path),
            first_line=self.dialect.skipped_lines + 1,
            has_header=self.dialect.layout.has_header,
            because=tuple(self._reasons()),
        )

    def _reasons(self) -> Iterator[str]:
        yield from separator_reasons(self.dialect, self._first_lines, self._options.separator)
        if self._options.decimal is not None:
            yield f"The decimal mark is a {MARK_WORDS[self.decimal]}, as stated"
        elif self._proof is not None:
            name, cell = self._proof
            yield f"The decimal mark is a {MARK_WORDS[self.decimal]}, as {name} shows: {cell!r}"
        if self._options.encoding is not None:
            yield f"The encoding is {self.encoding}, as stated"
        elif self.encoding == "utf-8":
            yield "The encoding is utf-8: its bytes are valid in it"
        elif self._has_mark:
            yield f"The encoding is {self.encoding}, by the mark at its start"
        else:
            yield f"The encoding is {self.encoding}, by its bytes, which are not valid in utf-8"

    def _mender(self, lines: Sequence[str], has_names: bool) -> Mender:
        dialect = self.dialect
        above = [line.strip() for line in lines[: dialect.skipped_lines] if line.strip()]
        names = [line for line in above if all(name in line for name in self._names_in_file)]
        return Mender(
            separator=dialect.separator,
            quote=dialect.quote,
            n_cells=dialect.layout.n_cells,
            n_columns=len(self.columns) - dialect.layout.lacks_last,
            n_above=dialect.skipped_lines,
            names=names[-1] if has_names and names else "",
            is_annotated=any(line.startswith(ANNOTATIONS) for line in above),
        )

    @property
    def _names_in_file(self) -> list[str]:
        """The names of the columns that have one."""
        return [name for name in self.columns if not _is_made_up(name)]

    def last_lines(self) -> list[str]:
        """Return the last lines of a large file; none if it is packed."""
        if text.packing(self.path):
            return []
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            # Characters of UTF-16 and UTF-32 begin at multiples of their size.
            file.seek(max(size - TAIL_BYTES, 0) // 4 * 4)
            tail = file.read()
        lines = text.lines_of(text.decoded(tail, self.encoding.removesuffix("-sig")))[1:]
        return [changed(line, self._changes) for line in lines]

    @property
    def _usual_mark(self) -> Mark | None:
        """The decimal mark that goes with the separator; one column has none that would tell."""
        if len(self.columns) == 1:
            return None
        return "," if self.dialect.separator == ";" else "."

    def batches(
        self, names: Collection[str], as_text: Collection[str] = (), *, at_once: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """Yield all rows, with the columns of these names; those of ``as_text`` unread.

        A column that turns out to hold more than plain numbers comes as text from then on.

        Parameters
        ----------
        names : collection of str
            The columns.
        as_text : collection of str, optional
            Those that come as text whatever they hold.
        at_once : bool, optional
            Whether all rows are held in memory, so that every core can read some.

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
                for batch in self._read(wanted, as_text, stray, n_seen, threads, at_once):
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
        at_once: bool,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows after the first ``n_seen``; raise ``_Again`` to begin anew."""
        import pyarrow as pa

        to_skip = n_seen
        try:
            with self._open(wanted, as_text, stray, threads, at_once) as reader:
                for batch in reader:
                    part = batch.slice(min(to_skip, len(batch)))
                    to_skip -= len(batch) - len(part)
                    if self._has_mark_within(part):
                        self._changes.append(without_mark)
                        raise _Again(is_stray=False)
                    if self._has_names_within(part):
                        raise _Again(is_stray=False)
                    if len(part):
                        yield part
        except UnicodeDecodeError as error:
            raise self._undecodable() from error
        except pa.ArrowInvalid as error:
            if stray.can_mend and not self.mender.trims:
                self.mender.trims = True
                raise _Again(is_stray=False) from error
            if stray.found and stray.numbered:
                raise stray.error() from error
            if stray.found:
                raise _Again(is_stray=True) from error
            self._widen(str(error), wanted)
            raise _Again(is_stray=False) from error

    def _has_mark_within(self, batch: pa.RecordBatch) -> bool:
        """Return whether a row begins with the mark of an encoding, as where files were joined."""
        import pyarrow as pa
        import pyarrow.compute as pc

        first = self.columns[0]
        if first not in batch.schema.names or without_mark in self._changes:
            return False
        cells = batch.column(first)
        # Few cells have a byte as large as its first one.
        if cells.type != pa.string() or bytes_of(cells)[0].max(initial=0) < _FIRST_OF_MARK:
            return False
        return bool(pc.any(pc.starts_with(cells, BYTE_ORDER_MARK)).as_py())

    def _has_names_within(self, batch: pa.RecordBatch) -> bool:
        """Return whether rows with the names again stand below the sample; leave them out."""
        import pyarrow as pa
        import pyarrow.compute as pc

        # One column of text shows such a row; numbers fail to be read there.
        name = next((f.name for f in batch.schema if f.type == pa.string()), None)
        cell = self._cell_of_name(name)
        if cell is None or pc.index(batch.column(name), cell).as_py() < 0:
            return False
        return self._leaves_names_out()

    def _cell_of_name(self, name: str | None) -> str | None:
        """Return the cell that names a column, where its line may be met again."""
        if name not in self.columns or self._are_names_sought or self.mender.drops:
            return None
        return dict(zip(self.columns, self.mender.cells_of_names, strict=False)).get(name)

    def _leaves_names_out(self) -> bool:
        """Return whether a whole line repeats the names; from then on such lines are left out."""
        self._are_names_sought = True
        with text.open_bytes(self.path) as source:
            lines = io.TextIOWrapper(source, encoding=self.encoding, errors="replace")
            below = islice(lines, self.mender.n_above, None)
            if not any(self.mender.is_header(changed(line, self._changes)) for line in below):
                return False
        self.mender.drops = True
        self.notes.append(NAMES_REPEATED)
        return True

    def _widen(self, message: str, wanted: Sequence[str]) -> None:
        """Read a column as text that is no plain column of numbers after all."""
        if "Empty CSV file" in message:
            return
        if BYTE_ORDER_MARK in message and without_mark not in self._changes:
            self._changes.append(without_mark)
            return
        if "UTF8" in message and self.encoding.startswith("utf-8"):
            if self._options.encoding is not None or not self._is_ascii:
                raise self._undecodable()
            self.encoding = UNSURE
            self.notes.append(
                f"Bytes that are no UTF-8 are read as {UNSURE}; --encoding NAME sets another one"
            )
            return
        column = _COLUMN.search(message)
        if column is None:
            raise self._unreadable(message)
        name = self.columns[int(column.group(1))]
        cell = self._cell_of_name(name)
        if cell is not None and f"'{cell}'" in message and self._leaves_names_out():
            return
        before = len(self._plain)
        self._plain.discard(name)
        if len(self._plain) == before:
            raise self._unreadable(message)

    def _require_decodable(self, sample: bytes) -> None:
        try:
            codecs.getincrementaldecoder(self.encoding)().decode(sample)
        except UnicodeDecodeError as error:
            raise self._undecodable() from error

    def _undecodable(self) -> InvalidDataError:
        """Return the error that names the first line that is not in the encoding."""
        encoding = self.encoding
        decoder = codecs.getincrementaldecoder(encoding)()
        number, found = 1, ""
        with text.open_bytes(self.path) as source:
            while not found and (block := bytes(source.read(BLOCK_BYTES))):
                try:
                    number += decoder.decode(block).count("\n")
                except UnicodeDecodeError as error:
                    before = error.object[: error.start].decode(encoding, errors="replace")
                    number += before.count("\n")
                    found = f" holds the byte {error.object[error.start]:#x}, which"
        return InvalidDataError(
            f"Line {number}{found} is no text in {encoding}.",
            field="FILE",
            remedy="Say --encoding NAME, such as cp850 or shift_jis, or save it as CSV UTF-8.",
        )

    def _unreadable(self, message: str) -> InvalidDataError:
        if any(words in message for words in _NO_LINE_END):
            return InvalidDataError(
                f"{self.path} has a line of more than {BLOCK_BYTES >> 20} MiB.",
                field="FILE",
                remedy="Close the quotation mark that is left open in it, or remove it.",
            )
        return InvalidDataError(
            f"{self.path} cannot be read as a table.",
            field="FILE",
            remedy="Give a table with one row a line, and its names in the first.",
        )

    def _open(
        self,
        wanted: Sequence[str],
        as_text: Collection[str],
        stray: StrayRows,
        threads: bool,
        at_once: bool,
    ) -> Any:
        import pyarrow as pa
        from pyarrow import csv as pa_csv

        n_more = self.dialect.layout.n_cells - len(self.columns)
        cells = [*self.columns, *(f"\x00end {i}" for i in range(n_more))]
        numbers = self._plain.difference(as_text)
        types = {name: pa.float64() if name in numbers else pa.string() for name in self.columns}
        source: Any = text.open_bytes(self.path)
        encoding = self.encoding
        if self.is_changed:
            source, encoding = (
                Lines(source, encoding, self.plain_line, self.mender.n_above),
                "utf-8",
            )
        options = {
            "read_options": pa_csv.ReadOptions(
                column_names=cells,
                skip_rows=self.dialect.skipped_lines,
                block_size=BLOCK_BYTES,
                encoding="utf-8" if encoding == "utf-8-sig" else encoding,
                use_threads=threads,
            ),
            "parse_options": pa_csv.ParseOptions(
                delimiter=parsed_separator(self.dialect.separator),
                quote_char=self.dialect.quote,
                newlines_in_values=self.has_quotes,
                invalid_row_handler=stray.handle,
            ),
            "convert_options": pa_csv.ConvertOptions(
                column_types=types,
                include_columns=list(wanted) or [self.columns[0]],
                null_values=list(MISSING),
                strings_can_be_null=False,
                decimal_point=self.decimal,
            ),
        }
        try:
            if at_once:
                return pa_csv.read_csv(source, **options).to_reader()
            return pa_csv.open_csv(source, **options)
        except pa.ArrowInvalid as error:
            # A header without a line end is all there is; of a long line it says the same.
            is_short = "file is too short" in str(error) and self.path.stat().st_size < BLOCK_BYTES
            if is_short or "Empty CSV file" in str(error):
                schema = pa.schema([(name, types[name]) for name in wanted])
                return pa.RecordBatchReader.from_batches(schema, [])
            raise

    @property
    def is_changed(self) -> bool:
        """Whether lines are changed before they are parsed."""
        return bool(self._changes) or self.dialect.is_spaced or self.mender.is_needed

    def plain_line(self, line: str) -> str:
        """Return a line as it is parsed."""
        line = changed(line.rstrip("\n"), self._changes)
        if self.dialect.is_spaced:
            return without_spaces(line, self.dialect.separator)
        return self.mender.mend(line) if self.mender.is_needed else line

    def _shapes_of(self, rows: Sequence[Sequence[str]]) -> list[Shapes]:
        """Return the shapes of each column in the first rows."""
        import pyarrow as pa

        shapes = []
        for i in range(len(self.columns)):
            of_column = Shapes()
            of_column.add(pa.array([row[i] for row in rows], pa.string()))
            shapes.append(of_column)
        return shapes

    def _times_in_digits(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        """Yield the columns that write times as 000500, which is not 500."""
        for i, name in enumerate(self.columns):
            if name in self._plain and (names_times(name) or _is_made_up(name)):
                cells = [row[i].strip() for row in rows]
                is_padded = any(map(_PADDED.fullmatch, cells))
                if is_padded and len({len(cell.partition(".")[0]) for cell in cells if cell}) == 1:
                    yield name

    def _usual_decimal(self, shapes: Sequence[Shapes]) -> Mark:
        marks = Counter(mark for of_column in shapes if (mark := decimal_of(of_column)))
        return max(marks, key=lambda mark: marks[mark], default=self._usual_mark or ".")

    def _proof_of(self, shapes: Sequence[Shapes]) -> tuple[str, str] | None:
        """Return a column that proves the decimal mark, and its first cell that has it."""
        for name, of_column in zip(self.columns, shapes, strict=True):
            with_mark = [s for s in of_column.counts if self.decimal in s and is_number_like(s)]
            if with_mark and decimal_of(of_column) == self.decimal:
                return name, of_column.first[with_mark[0]][1]
        return None

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
        if any(letter in shape for shape in shapes.numeric for letter in "dD"):
            return False
        whole = matching(shapes)[written] == sum(shapes.counts.values())
        return whole and (written.decimal == self.decimal or not is_marked(shapes))


def _is_made_up(name: str) -> bool:
    """Return whether a name stands in no file: the number of a column, or of a repeated name."""
    return is_numbered(name) or _REPEATED.fullmatch(name) is not None


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
        self.found = self.can_mend = False
        self._last_line, self._is_cut_off, self._below = "", False, list[str]()
        if numbered:
            lines = _last_lines(file)
            self._last_line = next((line for line in reversed(lines) if line), "")
            self._is_cut_off = bool(lines[-1])
            self._below = _below_the_rows(file, lines)
        self._wrong: tuple[int, int, str] | None = None

    def handle(self, row: Any) -> str:
        """Decide on a row: skip it, or break off."""
        content = row.text.strip(" \r\n")
        if not content.strip(self.file.dialect.separator + " "):
            return "skip"
        if COMMENT.match(content):
            self._tell(f"Comments are left out, such as {content[:40]!r}", "Comments are left out")
            return "skip"
        if content in self._below:
            self._tell_of_lines_below()
            return "skip"
        self.found = True
        self.can_mend = self.can_mend or self.file.mender.can_trim(content)
        if self._wrong is None:
            self._wrong = (row.number, row.actual_columns, content)
        return "error"

    def _tell_of_lines_below(self) -> None:
        """Add a note on the lines below the rows, once."""
        first, n_lines = self._below[0][:40], len(self._below)
        note = f"The last line, {first!r}, holds no reading"
        if n_lines > 1:
            note = f"The last {n_lines} lines hold no reading, such as {first!r}"
        self._tell(note, note)

    def _tell(self, note: str, begin: str) -> None:
        """Add a note unless there is one that begins so."""
        if not any(before.startswith(begin) for before in self.file.notes):
            self.file.notes.append(note)

    def _number_of(self, content: str, least: int) -> int:
        """Return the number of a line; the parser does not count empty ones."""
        with text.open_bytes(self.file.path) as source:
            lines = io.TextIOWrapper(source, encoding=self.file.encoding, errors="replace")
            below = ((i, line) for i, line in enumerate(lines, 1) if i >= least)
            same = (i for i, line in below if self.file.plain_line(line).strip(" \r\n") == content)
            return next(same, least)

    def error(self) -> InvalidDataError:
        """Return the error that names the first wrong line."""
        number, n_cells, content = self._wrong or (0, 0, "")
        number = self._number_of(content, number)
        has = "1 cell" if n_cells == 1 else f"{n_cells} cells"
        n_usual = self.file.dialect.layout.n_cells
        if self._is_cut_off and content == self._last_line and n_cells < n_usual:
            return InvalidDataError(
                f"Line {number}, the last one, has {has}, the others have {n_usual}: "
                f"{content[:80]!r}. The file seems to be cut off.",
                field="FILE",
                remedy="Copy or export it again, or remove this line.",
            )
        return InvalidDataError(
            f"Line {number} has {has}, the others have {n_usual}: {content[:80]!r}.",
            field="FILE",
            remedy="Give each row one cell for each column; put quotes round cells that hold a "
            "separator.",
        )


def _last_lines(file: CsvFile) -> list[str]:
    """Return the last lines; the last of all is empty unless the file ends in the middle of it."""
    tail = b""
    with text.open_bytes(file.path) as source:
        while block := bytes(source.read(1 << 20)):
            tail = (tail + block)[-(1 << 16) :]
    lines = text.lines_of(text.decoded(tail, file.encoding))
    return [file.plain_line(line).strip() for line in lines]


def _below_the_rows(file: CsvFile, lines: Sequence[str]) -> list[str]:
    """Return the lines of text below the last row: a legend, or the source of the data.

    Such lines have one cell, or no number in any, or an empty line above all of them.
    """
    separator, n_cells = file.dialect.separator, file.dialect.layout.n_cells
    found: list[str] = []
    for line in reversed(lines[1:]):
        cells = [cell.strip() for cell in line.split(separator)]
        if line and (len(cells) == n_cells or is_number(cells[0]) or is_time(cells[0])):
            break
        found.insert(0, line)
    is_apart = "" in found[:1]
    texts = [line for line in found if line]
    is_text = all(
        not any(is_number(cell) or is_time(cell) for cell in line.split(separator))
        for line in texts
        if separator in line
    )
    return texts if is_apart or is_text else []


def _refuse_binary(lines: Sequence[str]) -> None:
    """Check that lines are text.

    Raises
    ------
    InvalidDataError
        If one has a byte 0, as archives have, and logs whose writer lost its power.
    """
    at = next((i for i, line in enumerate(lines) if "\0" in line), None)
    if at is not None:
        raise InvalidDataError(
            f"Line {at + 1} holds bytes that are no text: {lines[at][:40]!r}.",
            field="FILE",
            remedy="Remove damaged lines; a file of another program, export as CSV.",
        )


class Lines(io.RawIOBase):
    """A text in UTF-8 whose lines are changed, from a certain one on."""

    def __init__(
        self, source: IO[bytes], encoding: str, change: Callable[[str], str], n_above: int = 0
    ):
        self._lines = io.TextIOWrapper(source, encoding=encoding)
        self._change, self._n_above = change, n_above
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            lines = self._lines.readlines(1 << 20)
            if not lines:
                break
            same, lines = lines[: self._n_above], lines[self._n_above :]
            self._n_above -= len(same)
            changed = [*same, *map(self._change, lines)]
            self._rest += "\n".join([*(line.rstrip("\n") for line in changed), ""]).encode()
        size = len(self._rest) if size < 0 else size
        answer, self._rest = self._rest[:size], self._rest[size:]
        return answer
