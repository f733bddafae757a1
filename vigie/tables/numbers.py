"""How a column of text writes its numbers, decided from all of its cells.

A cell is reduced to its *shape*: every digit becomes a 9, a run of more than three digits becomes
four, and leading zeros become one 0. ``1,012`` and ``1,987`` have the shape ``9,999``; a column of
millions of cells has a few shapes, and they tell decimal from thousands marks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError
from vigie.tables.options import Mark
from vigie.tables.written_times import bytes_of

if TYPE_CHECKING:
    import pyarrow as pa


MISSING = (
    "", "-", "--", "---", "----", "?", "*", ".", "_", "x", "X",
    "nan", "NaN", "NAN", "-nan", "-NaN", "1.#QNAN", "-1.#IND", "1.#IND", "-1.#QNAN",
    "NA", "N/A", "n/a", "na", "n.a.", "N.A.", "<NA>", "#NA", "k.A.", "n.v.", "s.o.", "n.d.", "N.D.",
    "null", "NULL", "Null", "None", "NONE", "none", "nil", "NIL",
    "#N/A", "#N/A N/A", "#NV", "#ND", "#N/D", "#DIV/0!", "#VALUE!", "#WERT!", "#VALEUR!",
    "#REF!", "#BEZUG!", "#NAME?", "#NUM!", "#ZAHL!", "#NOMBRE!", "#NULL!", "#¡DIV/0!", "#VALOR!",
    "Bad", "BAD", "bad", "Bad Input", "Bad Data", "Bad Quality", "Err", "ERR", "err",
    "Error", "ERROR", "error", "Fault", "FAULT", "fault", "Fail", "FAIL", "Failed",
    "Offline", "OFFLINE", "offline", "Off-line", "I/O Timeout", "I/O TIMEOUT", "Timeout", "TIMEOUT",
    "timeout", "No Data", "NO DATA", "No data", "no data", "NoData", "No Result", "No Sample",
    "Not Connect", "Not Connected", "Comm Fail", "COMM FAIL", "Comm Error", "Configure",
    "Pt Created", "Under Range", "Over Range", "Out of Service", "Intf Shut", "Scan Off",
    "Shutdown", "unavailable", "Unavailable", "UNAVAILABLE", "unknown", "Unknown", "UNKNOWN",
    "undefined", "missing", "Missing", "MISSING", "invalid", "Invalid", "INVALID",
    "Defekt", "defekt", "Fehler", "FEHLER", "Ungültig", "Erreur", "ERREUR", "erreur",
    "Arc Off-line", "[-11059] No Good Data For Calculation", "OPEN CIRCUIT", "Sensor Fail",
)  # fmt: skip
"""Cells that stand for a missing value, as historians, loggers and spreadsheets write it."""
SWITCHED_ON = ("true", "on", "wahr", "vrai", "verdadero", "vero")
SWITCHED_OFF = ("false", "off", "falsch", "faux", "falso")
SPACES = " \u00a0\u202f\u2009"
APOSTROPHES = "'’"
MOST_SHAPES = 5_000
"""A column with more different shapes is text."""

_NUMBER_LIKE = re.compile(r"[-+−]?[.,]?[90]")
# Fortran writes 1.5D-03.
_SIGN, _EXPONENT = r"[-+−]?", r"(?:[eEdD][-+]?\d+)?"
_WITH_UNIT = re.compile(
    rf"[-+−]?[.,]?[90][90.,{APOSTROPHES}{SPACES}]*(?:[eEdD][-+]?[90]+)?\s*"
    r"(?P<unit>(?![eEdD][-+]?[90])[^\W\d_][^90]*|[%°µΩ][^90]*)"
)


@dataclass(frozen=True)
class NumberFormat:
    """How numbers are written: the decimal mark, the thousands mark, and a unit behind each."""

    decimal: Mark = "."
    thousands: str | None = None
    unit: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether a CSV parser can read such numbers."""
        return self.thousands is None and not self.unit

    @cached_property
    def pattern(self) -> str:
        """A regular expression for a whole cell."""
        point = re.escape(self.decimal)
        digits = r"\d+"
        if self.thousands is not None:
            mark = f"[{SPACES}]" if self.thousands == " " else re.escape(self.thousands)
            if self.thousands == "'":
                mark = f"[{APOSTROPHES}]"
            digits = rf"(?:\d{{1,3}}|[1-9]\d{{0,2}}(?:{mark}\d{{3}})+)"
        exponent = _EXPONENT if self.thousands is None else ""
        unit = rf"\s*{re.escape(self.unit)}" if self.unit else ""
        return rf"\s*{_SIGN}(?:{digits}(?:{point}\d*)?|{point}\d+){exponent}{unit}\s*"

    def __str__(self) -> str:
        said = "decimal comma" if self.decimal == "," else "decimal point"
        if self.thousands is not None:
            names = {" ": "spaces", "'": "apostrophes", ",": "commas", ".": "points"}
            said += f", {names[self.thousands]} between thousands"
        return said + (f", unit {self.unit}" if self.unit else "")


FORMATS: tuple[NumberFormat, ...] = (
    NumberFormat("."),
    NumberFormat(","),
    NumberFormat(".", ","),
    NumberFormat(",", "."),
    NumberFormat(".", " "),
    NumberFormat(",", " "),
    NumberFormat(".", "'"),
    NumberFormat(",", "'"),
)
"""The formats that are tried, the plainest first."""


@dataclass
class Shapes:
    """The shapes of the cells of a column, how often each occurs, and in which row first.

    Attributes
    ----------
    counts : Counter
        Number of cells by shape; missing cells are left out.
    first : dict of str to (int, str)
        By shape, the first row that has it, from 0, and the cell as written.
    n_rows, n_missing : int
        Number of cells, and of those that are missing.
    overflow : bool
        Whether there are so many shapes that the column is text.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, str]] = field(default_factory=dict)
    n_rows: int = 0
    n_missing: int = 0
    overflow: bool = False

    def add(self, cells: pa.Array | pa.ChunkedArray) -> None:
        """Count the next cells of the column, of type string."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for chunk in cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]:
            trimmed = pc.utf8_trim_whitespace(chunk)
            codes, masks = (None, []) if self.overflow else _masked(trimmed)
            if codes is None or chunk.null_count or not _MISSING_MASKS.isdisjoint(masks):
                missing = pc.is_in(pc.fill_null(trimmed, ""), value_set=pa.array(MISSING))
                rows = np.flatnonzero(~missing.to_numpy(zero_copy_only=False))
            else:
                rows = np.arange(len(chunk))
            if codes is not None and len(rows):
                self._count(codes[rows], masks, trimmed, rows)
            self.n_missing += len(chunk) - len(rows)
            self.n_rows += len(chunk)

    def _count(
        self,
        codes: NDArray[np.int32],
        masks: Sequence[str],
        cells: pa.Array,
        rows: NDArray[np.intp],
    ) -> None:
        """Count the cells in some rows of a chunk, by the codes of their masks."""
        first = np.zeros(len(masks), np.intp)
        # Of several values for one place, the last stays: that of the first row.
        first[codes[::-1]] = np.arange(len(codes))[::-1]
        counts = np.bincount(codes, minlength=len(masks))
        for code in sorted(np.flatnonzero(counts).tolist(), key=first.__getitem__):
            shape = _shape(masks[code])
            self.counts[shape] += int(counts[code])
            if shape not in self.first:
                at = first[code]
                self.first[shape] = (self.n_rows + int(rows[at]), cells[int(rows[at])].as_py())
        self.overflow = len(self.counts) > MOST_SHAPES

    @cached_property
    def numeric(self) -> dict[str, int]:
        """Shapes that begin as a number does, without a unit that all of them have, and counts."""
        numeric = ((s, n) for s, n in self.counts.items() if is_number_like(s))
        return {self.without_unit(shape): n for shape, n in numeric}

    @cached_property
    def unit(self) -> str:
        """The unit that stands behind every number; empty if there is none, or several."""
        units = set()
        for shape in self.counts:
            if is_number_like(shape):
                match = _WITH_UNIT.fullmatch(shape)
                units.add(match["unit"] if match else "")
        return units.pop() if len(units) == 1 else ""

    @cached_property
    def words(self) -> dict[str, int]:
        """Cells that are no numbers, and counts."""
        return {s: n for s, n in self.counts.items() if not is_number_like(s)}

    def without_unit(self, shape: str) -> str:
        """Return a shape without the unit that all numbers have."""
        return shape.removesuffix(self.unit).rstrip() if self.unit else shape

    @property
    def n_present(self) -> int:
        """Number of cells that are not missing."""
        return self.n_rows - self.n_missing

    @property
    def is_switch(self) -> bool:
        """Whether all cells are true or false, on or off, 1 or 0."""
        cells = {shape.lower() for shape in self.counts}
        return bool(cells.difference(_DIGITS)) and cells <= {*SWITCHED_ON, *SWITCHED_OFF, *_DIGITS}


_DIGITS = ("9", "0")


def is_switched(cell: str) -> bool:
    """Return whether a cell is true or false, on or off, which count as numbers."""
    return cell.lower() in (*SWITCHED_ON, *SWITCHED_OFF)


def is_number_like(shape: str) -> bool:
    """Return whether a shape begins as a number does."""
    return _NUMBER_LIKE.match(shape) is not None


def matching(shapes: Shapes) -> dict[NumberFormat, int]:
    """Return by format how many of the cells it reads; the plainest of equal formats first."""
    return {
        written: sum(n for shape, n in shapes.numeric.items() if _reads(written, shape))
        for written in FORMATS
    }


def is_written(cell: str) -> bool:
    """Return whether a cell is a whole number in one of the formats, and nothing else."""
    return any(re.fullmatch(written.pattern, cell) for written in FORMATS)


@lru_cache(maxsize=100_000)
def _reads(written: NumberFormat, shape: str) -> bool:
    return re.fullmatch(written.pattern, shape) is not None


def decimal_of(shapes: Shapes) -> Mark | None:
    """Return the decimal mark that a column's own cells prove; None if they leave it open."""
    if not is_marked(shapes):
        return None
    possible = _possible(matching(shapes), shapes)
    marks = {written.decimal for written in possible}
    return marks.pop() if len(marks) == 1 else None


def is_marked(shapes: Shapes) -> bool:
    """Return whether a number has a point or a comma; whole numbers prove neither."""
    return any(mark in shape for shape in shapes.numeric for mark in ".,")


def _possible(reads: Mapping[NumberFormat, int], shapes: Shapes) -> list[NumberFormat]:
    """Return the formats that read the most cells; of equal values the plainest only."""
    most = max(reads.values())
    if most == 0:
        return []
    best = [written for written, n in reads.items() if n == most]
    if not is_marked(shapes):
        return best[:1]
    by_decimal: dict[Mark, NumberFormat] = {}
    for written in best:
        by_decimal.setdefault(written.decimal, written)
    return list(by_decimal.values())


@dataclass(frozen=True)
class NumberOptions:
    """What is known of a table's decimal marks beyond a column's own cells.

    Attributes
    ----------
    stated : {".", ","}, optional
        The mark that the user states.
    proven : frozenset of {".", ","}
        The marks that other columns of the table prove.
    usual : {".", ","} or None
        The mark that such a file mostly has; None if it may have either.
    """

    stated: Mark | None = None
    proven: frozenset[Mark] = frozenset()
    usual: Mark | None = "."


def decide(shapes: Shapes, name: str, options: NumberOptions) -> NumberFormat | None:
    """Return how a column writes its numbers; None if it holds none.

    Parameters
    ----------
    shapes : Shapes
        All cells of the column.
    name : str
        The column, for messages.
    options : NumberOptions
        What is known of the table's decimal marks.

    Raises
    ------
    InvalidDataError
        If the column mixes two formats, or its cells can be read in two ways.
    """
    reads = matching(shapes)
    if options.stated is not None:
        reads = {written: n for written, n in reads.items() if written.decimal == options.stated}
    possible = _possible(reads, shapes)
    if not possible or shapes.overflow:
        return None
    if len(possible) > 1:
        possible = [_chosen(possible, shapes, name, options)]
    written = possible[0]
    _refuse_mixture(shapes, name, written)
    return NumberFormat(written.decimal, written.thousands, shapes.unit)


def _chosen(
    possible: list[NumberFormat], shapes: Shapes, name: str, options: NumberOptions
) -> NumberFormat:
    """Choose between a decimal and a thousands mark, where each stands before three digits.

    Raises
    ------
    InvalidDataError
        If nothing tells them apart.
    """
    marks = [mark for mark in ".," if any(mark in shape for shape in shapes.numeric)]
    if len(marks) > 1:
        return possible[0]  # and the others are refused as a mixture
    [mark] = marks
    # In every cell, it is a decimal mark where such files have it; but "1.012" beside "987" may be
    # a thousand and twelve.
    everywhere = all(mark in shape for shape in shapes.numeric)
    if len(options.proven) == 1:
        [decimal] = options.proven
    elif everywhere and options.usual == mark:
        decimal = options.usual
    else:
        raise _two_ways(shapes, name, mark)
    return next(written for written in possible if written.decimal == decimal)


def _two_ways(shapes: Shapes, name: str, mark: str) -> InvalidDataError:
    row, cell = next(
        shapes.first[shape] for shape in shapes.first if mark in shape and is_number_like(shape)
    )
    plain = cell.replace(mark, "")
    return InvalidDataError(
        f"{cell!r} in row {row + 1} may be {cell.replace(',', '.')} or {plain}, and no other "
        "column tells.",
        field=f"data.{name}",
        remedy="State the decimal mark: --decimal point, or --decimal comma.",
    )


def _refuse_mixture(shapes: Shapes, name: str, written: NumberFormat) -> None:
    """Raise if some cells are numbers of another format: one of both would be misread."""
    for shape in shapes.counts:
        bare = shapes.without_unit(shape)
        if not is_number_like(shape) or _reads(written, bare):
            continue
        if any(_reads(other, bare) for other in FORMATS):
            row, cell = shapes.first[shape]
            raise InvalidDataError(
                f"{cell!r} in row {row + 1} is written otherwise than the other numbers of the "
                f"column ({written}).",
                field=f"data.{name}",
                remedy="Write all numbers of a column alike, or leave the column out.",
            )


def parse(cells: pa.Array | pa.ChunkedArray, written: NumberFormat) -> pa.Array | pa.ChunkedArray:
    """Return the numbers in cells of text, as float64; null where a cell is none.

    True and false, on and off count as 1 and 0.
    """
    import pyarrow as pa

    if isinstance(cells, pa.ChunkedArray):
        return pa.chunked_array([parse(c, written) for c in cells.chunks], pa.float64())
    return _parsed(cells, written)


def _parsed(cells: pa.Array, written: NumberFormat) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(cells.type):
        cells = pc.cast(cells, pa.string())
    text = pc.utf8_trim_whitespace(cells)
    codes, masks = _masked(text)
    of_mask = [_shape(mask) for mask in masks]
    is_number = np.array([re.fullmatch(written.pattern, s) is not None for s in of_mask], bool)
    if not is_number.all():
        text = pc.if_else(pa.array(_by_code(is_number, codes)), text, None)
    if written.unit:
        text = pc.replace_substring_regex(text, f"{re.escape(written.unit)}$", "")
        text = pc.utf8_trim_whitespace(text)
    if written.thousands in (",", "."):
        text = pc.replace_substring(text, written.thousands, "")
    elif written.thousands is not None:
        marks = SPACES if written.thousands == " " else APOSTROPHES
        text = pc.replace_substring_regex(text, f"[{marks}]", "")
    if written.decimal == ",":
        text = pc.replace_substring(text, ",", ".")
    if any(shape.startswith("+") for shape in of_mask):
        text = pc.replace_substring_regex(text, r"^\+", "")
    if any("−" in shape for shape in of_mask):
        text = pc.replace_substring(text, "−", "-")
    if any(letter in shape for shape in of_mask for letter in "dD"):
        text = pc.replace_substring_regex(text, "[dD]", "e")
    numbers = pc.cast(text, pa.float64())
    for value, words in ((1.0, SWITCHED_ON), (0.0, SWITCHED_OFF)):
        is_word = np.array([shape.lower() in words for shape in of_mask], bool)
        if is_word.any():
            numbers = pc.if_else(pa.array(_by_code(is_word, codes)), value, numbers)
    return numbers


def _by_code(of_mask: NDArray[np.bool_], codes: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return for each cell what holds for its mask; False for a missing one."""
    chosen: NDArray[np.bool_] = np.append(of_mask, False)[codes]
    return chosen


def _masked(cells: pa.Array) -> tuple[NDArray[np.int32], list[str]]:
    """Return cells with 9 in place of each digit but for leading zeros, as codes and texts.

    The code of a missing cell is -1.
    """
    import pyarrow as pa

    data, begins = bytes_of(cells)
    is_digit = (data >= ord("0")) & (data <= ord("9"))
    masked = np.where(is_digit, np.uint8(ord("9")), data)
    at, ends = _behind_sign(data, begins)
    while len(at):
        is_zero = (at < ends) & (data[np.minimum(at, len(data) - 1)] == ord("0"))
        masked[at[is_zero]] = ord("0")
        at, ends = at[is_zero] + 1, ends[is_zero]
    texts = pa.StringArray.from_buffers(len(cells), pa.py_buffer(begins), pa.py_buffer(masked))
    encoded = texts.dictionary_encode()
    codes: NDArray[np.int32] = encoded.indices.to_numpy(zero_copy_only=False)
    if cells.null_count:
        codes = np.where(cells.is_null().to_numpy(zero_copy_only=False), np.int32(-1), codes)
    return codes, encoded.dictionary.to_pylist()


def _behind_sign(
    data: NDArray[np.uint8], begins: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the digits of each cell may begin, and where it ends, without empty cells."""
    at, ends = begins[:-1].astype(np.int64), begins[1:].astype(np.int64)
    at, ends = at[at < ends], ends[at < ends]
    minus = "−".encode()
    first = data[at]
    is_long = (first == minus[0]) & (ends - at > len(minus))
    if is_long.any():
        for place, byte in enumerate(minus):
            is_long &= data[np.minimum(at + place, len(data) - 1)] == byte
    return at + np.where(is_long, len(minus), (first == ord("-")) | (first == ord("+"))), ends


@lru_cache(maxsize=100_000)
def _shape(mask: str) -> str:
    """Return the shape of cells with a mask."""
    return re.sub("9{4,}", "9999", re.sub("^([-+−]?)0+", r"\g<1>0", mask))


_MISSING_MASKS = frozenset(re.sub("[0-9]", "9", text) for text in MISSING)


def examples(words: Mapping[str, int], most: int = 3) -> str:
    """Return the most frequent words, for a message."""
    named = sorted(words, key=lambda word: -words[word])[:most]
    more = ", ..." if len(words) > most else ""
    return ", ".join(repr(word) for word in named) + more
