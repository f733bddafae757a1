"""How a column of text writes its numbers, decided from all of its cells.

A cell is reduced to its *shape*: every digit becomes a 9, a run of more than three digits becomes
four, and leading zeros become one 0. ``1,012`` and ``1,987`` have the shape ``9,999``; a column of
millions of cells has a few shapes, and they tell decimal from thousands marks.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError
from vigie.tables.options import Mark
from vigie.tables.spelling import (
    APOSTROPHES,
    CURRENCIES,
    SPACES,
    dress_of,
    in_plain_digits,
    undressed,
)
from vigie.tables.units import FACTORS, THOUSANDS, UNITS, scaled
from vigie.tables.written_times import bytes_of

if TYPE_CHECKING:
    import pyarrow as pa


MISSING = (
    "", "-", "--", "---", "----", "–", "—", "−", "?", "*", ".", "_", "x", "X",
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
_SWITCHED = """
    true:false on:off yes:no wahr:falsch ein:aus an:aus ja:nein vrai:faux marche:arrêt marche:arret
    oui:non verdadero:falso encendido:apagado sí:no si:no vero:falso acceso:spento sì:no
    verdadeiro:falso ligado:desligado sim:não aan:uit waar:onwaar prawda:fałsz wł:wył tak:nie
    zap:vyp ano:ne till:från på:av til:fra açık:kapalı açik:kapali evet:hayır doğru:yanlış
    вкл:выкл вкл.:выкл. истина:ложь да:нет 开:关 開:關 是:否 オン:オフ 入:切 켜짐:꺼짐
"""
SWITCHED_ON = frozenset(pair.split(":")[0] for pair in _SWITCHED.split())
SWITCHED_OFF = frozenset(pair.split(":")[1] for pair in _SWITCHED.split())
"""Words of a switch, in lower case; those that stand for on in one language are off in none."""
MOST_SHAPES = 5_000
"""A column with more different shapes is text."""

_KNOWN = UNITS.difference(FACTORS)
# "0xC0" is a code, and no zero in a unit.
_NUMBER_LIKE = re.compile(r"(?!0[xX][90a-fA-F]+$)[-+]?[.,]?[90]")
# Fortran writes 1.5D-03.
_SIGN, _EXPONENT = r"[-+]?", r"(?:[eEdD][-+]?\d+)?"
# The digits of "m3/h" and "min-1" are those of a unit; those of "10h30" are not.
_IN_UNIT = r"(?:(?<=m)9|(?<=[COH])9|(?<=NO)9|(?<=SO)9|(?<=min)-9|(?<=[sm])-9)(?![90])"
_WITH_UNIT = re.compile(
    rf"[-+]?[.,]?[90][90.,{APOSTROPHES}{SPACES}]*(?:[eEdD][-+]?[90]+)?\s*"
    rf"(?P<unit>(?![eEdD][-+]?[90])(?:[^\W\d_]|[%°µΩ{CURRENCIES}])(?:{_IN_UNIT}|[^90])*)"
)
_BARE = re.compile(rf"[-+90.,eEdD{APOSTROPHES}{SPACES}]+")
MANY_GROUPED = 0.05
"""Share of the numbers that have a thousands mark, in a column where any may have it."""
_NO_FLAGS = frozenset(factor for factor in FACTORS if len(factor) > 1) | set("%‰kKmµ")
MANY_FLAGGED = 0.05
"""Share of the numbers with a letter behind them, from which it is a factor and no flag."""
OTHER_DIGITS = 2
"""Digits before the mark that numbers with and without a unit differ by, if it is not in both."""


@dataclass(frozen=True)
class NumberFormat:
    """How numbers are written: the decimal mark, the thousands mark, and a unit behind them.

    With ``lacks_unit``, it may be absent. ``scales`` are multiples of it, with what one of each is
    in it, as 1 kW is 1000 W; without a unit, factors such as K for a thousand. With ``switches``,
    words such as on and off count as 1 and 0.
    """

    decimal: Mark = "."
    thousands: str | None = None
    unit: str = ""
    lacks_unit: bool = False
    switches: bool = False
    scales: tuple[tuple[str, float], ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether a CSV parser can read such numbers."""
        return self.thousands is None and not self.has_unit

    @property
    def has_unit(self) -> bool:
        """Whether a unit, or a factor, stands behind numbers."""
        return bool(self.unit or self.scales)

    @cached_property
    def pattern(self) -> str:
        """A regular expression for a whole cell."""
        point = re.escape(self.decimal)
        digits = r"\d+"
        if self.thousands is not None:
            mark = f"[{SPACES}]" if self.thousands == " " else re.escape(self.thousands)
            if self.thousands == "'":
                mark = f"[{APOSTROPHES}]"
            grouped = rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+"
            if self.thousands == ",":
                # In India, 1,23,400 is written.
                grouped = rf"(?:{grouped}|[1-9]\d?(?:,\d{{2}})+,\d{{3}})"
            digits = rf"(?:\d{{1,3}}|{grouped})"
        exponent = _EXPONENT if self.thousands is None else ""
        unit = rf"(?:\s*{self.unit_pattern})" if self.has_unit else ""
        unit += "?" if self.lacks_unit else ""
        return rf"\s*{_SIGN}(?:{digits}(?:{point}\d*)?|{point}\d+){exponent}{unit}\s*"

    @property
    def unit_pattern(self) -> str:
        """A pattern for the unit, for Python and for Arrow; its digits may be any."""
        units = [unit for unit in (self.unit, *(unit for unit, _ in self.scales)) if unit]
        # "W" stands at the end of "kW".
        units.sort(key=len, reverse=True)
        patterns = [re.sub("[0-9]", r"\\d", re.escape(unit)) for unit in units]
        return f"(?:{'|'.join(patterns)})"

    def __str__(self) -> str:
        said = "decimal comma" if self.decimal == "," else "decimal point"
        if self.thousands is not None:
            names = {" ": "spaces", "'": "apostrophes", ",": "commas", ".": "points"}
            said += f", {names[self.thousands]} between thousands"
        return said + (f", unit {self.unit}" if self.unit else "")


SWITCHES = NumberFormat(switches=True)
"""Words such as on and off, and numbers."""
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
    dressed : dict of int to (str, int)
        By way to dress a number, as "(0.061)", the first cell that has it, and their number.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, str]] = field(default_factory=dict)
    n_rows: int = 0
    n_missing: int = 0
    overflow: bool = False
    dressed: dict[int, tuple[str, int]] = field(default_factory=dict)

    def add(self, cells: pa.Array | pa.ChunkedArray) -> None:
        """Count the next cells of the column, of type string."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for chunk in cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]:
            trimmed = pc.utf8_trim_whitespace(chunk)
            if self.overflow:
                plain, codes, masks = trimmed, None, list[str]()
            else:
                plain, codes, masks = self._in_plain_spelling(trimmed)
            if codes is None or chunk.null_count or not _MISSING_MASKS.isdisjoint(masks):
                missing = pc.is_in(pc.fill_null(plain, ""), value_set=pa.array(MISSING))
                rows = np.flatnonzero(~missing.to_numpy(zero_copy_only=False))
            else:
                rows = np.arange(len(chunk))
            if codes is not None and len(rows):
                self._count(codes[rows], masks, trimmed, rows)
            self.n_missing += len(chunk) - len(rows)
            self.n_rows += len(chunk)

    def _in_plain_spelling(self, cells: pa.Array) -> tuple[pa.Array, NDArray[np.int32], list[str]]:
        """Return cells written plainly, the codes of their masks, and these; note what differs."""
        plain, codes, masks, worn = _plainly_spelt(cells)
        if worn is not None:
            for number in np.unique(worn[worn >= 0]).tolist():
                rows = np.flatnonzero(worn == number)
                cell, n = self.dressed.get(number, (cells[int(rows[0])].as_py(), 0))
                self.dressed[number] = (cell, n + len(rows))
        return plain, codes, masks

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
        """Shapes that begin as a number does, without the unit of the column, and counts."""
        numeric = Counter[str]()
        for shape, n in self.counts.items():
            if is_number_like(shape):
                numeric[self.without_unit(shape)] += n
        return numeric

    @cached_property
    def bare(self) -> dict[str, int]:
        """Those of ``numeric`` that have nothing behind the number, and counts."""
        return {shape: n for shape, n in self.numeric.items() if _BARE.fullmatch(shape)}

    @cached_property
    def units(self) -> dict[str, int]:
        """What stands behind numbers, nothing included, and counts; a digit of it is a 9."""
        units = Counter[str]()
        for shape, n in self.counts.items():
            if is_number_like(shape):
                units[_unit_of(shape)] += n
        return units

    @cached_property
    def scales(self) -> dict[str, float]:
        """The units of all numbers, as written, where these are multiples of one; else nothing.

        With each, what one of it is in that, as 1 kW is 1000 W.
        """
        if len(self.units) < 2:
            return {}
        if self.has_factors:
            return {unit: THOUSANDS.get(unit, 1.0) for unit in self.units}
        if "" in self.units:
            return {}
        of_unit = {unit: scaled(unit) for unit in map(self.as_written, self.units)}
        bases = {base for base, _ in of_unit.values()}
        return {unit: factor for unit, (_, factor) in of_unit.items()} if len(bases) == 1 else {}

    @cached_property
    def has_factors(self) -> bool:
        """Whether K, M and the like plainly multiply numbers, and are neither units nor flags.

        A dashboard puts them behind numbers from a thousand on: those without one are below it.
        Kelvins are written so too, but then all numbers are alike.
        """
        named = [unit for unit in self.units if unit]
        if not named or not THOUSANDS.keys() >= set(named):
            return False
        if "" not in self.units:
            return len({THOUSANDS[unit] for unit in named}) > 1
        if not {"k", "Tsd", "Tsd."}.isdisjoint(named):
            return True
        of_thousands = [unit for unit in named if THOUSANDS[unit] == 1e3]
        if not of_thousands or self.n_digits("") > 3:
            return False
        digits = max(map(self.n_digits, of_thousands))
        return len(named) > len(of_thousands) or digits < min(self.n_digits(""), 3)

    def n_digits(self, unit: str) -> int:
        """Return the most digits before the mark of numbers with a unit, 4 for more than three."""
        return max(
            len(re.sub("[^90].*", "", shape.lstrip("-+")))
            for shape in self.counts
            if is_number_like(shape) and _unit_of(shape) == unit
        )

    @cached_property
    def unit(self) -> str:
        """The unit of the numbers, which stands behind most of them; empty if there is none.

        Behind a few of them it is one only if it is known as such: "R" may be a flag.
        """
        named = {unit: n for unit, n in self.units.items() if unit}
        if not named:
            return ""
        if self.scales:
            return re.sub("[0-9]", "9", self.unit_as_written)
        unit = max(named, key=lambda unit: named[unit])
        n_bare = self.units.get("", 0)
        is_known = self.as_written(unit) in _KNOWN
        is_usual = 2 * (named[unit] + n_bare) > sum(self.units.values())
        return unit if is_usual and (is_known or named[unit] >= n_bare) else ""

    @property
    def may_lack_unit(self) -> bool:
        """Whether a number without the unit has it all the same; "987" is less than "1.09 K"."""
        return self.has_factors or self.as_written(self.unit) not in FACTORS or self.lacks_in_zeros

    @property
    def lacks_in_zeros(self) -> bool:
        """Whether all numbers without a unit are zero, which is so in any unit."""
        bare = [shape for shape in self.counts if is_number_like(shape) and not _unit_of(shape)]
        return all(re.fullmatch("[-+]?0(?:[.,]0+)?", shape) for shape in bare)

    @property
    def unit_as_written(self) -> str:
        """The unit with its digits, such as m3/h."""
        if self.has_factors:
            return ""
        return scaled(next(iter(self.scales)))[0] if self.scales else self.as_written(self.unit)

    def as_written(self, unit: str) -> str:
        """Return a unit with its digits, as the first cell has it."""
        if "9" not in unit:
            return unit
        cell = next(cell for shape, (_, cell) in self.first.items() if shape.endswith(unit))
        return cell[-len(unit) :]

    def first_with(self, unit: str) -> tuple[int, str]:
        """Return the first number that has a unit, or none, if the unit is empty, and its row."""
        found = (
            self.first[shape]
            for shape in self.first
            if is_number_like(shape) and _unit_of(shape) == unit
        )
        return next(found, (0, ""))

    @cached_property
    def words(self) -> dict[str, int]:
        """Cells that are no numbers, and counts."""
        return {s: n for s, n in self.counts.items() if not is_number_like(s)}

    def without_unit(self, shape: str) -> str:
        """Return a shape without the unit that all numbers have."""
        if self.scales:
            return shape.removesuffix(_unit_of(shape)).rstrip()
        return shape.removesuffix(self.unit).rstrip() if self.unit else shape

    @property
    def n_present(self) -> int:
        """Number of cells that are not missing."""
        return self.n_rows - self.n_missing

    @property
    def is_switch(self) -> bool:
        """Whether all cells are true or false, on or off, 1 or 0."""
        cells = {shape.lower() for shape in self.counts}
        return bool(cells.difference(_DIGITS)) and cells <= _SWITCH_WORDS.union(_DIGITS)


_DIGITS = ("9", "0")
_SWITCH_WORDS = SWITCHED_ON | SWITCHED_OFF


def is_switched(cell: str) -> bool:
    """Return whether a cell is true or false, on or off, in some language."""
    return cell.lower() in _SWITCH_WORDS


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
    return any(mark in shape for shape in shapes.bare for mark in ".,")


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


_ONE_BEHIND_COMMA, _PADDED = re.compile(",9$"), re.compile("[-+]?09")


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
    if shapes.is_switch:
        return SWITCHES
    reads = matching(shapes)
    if options.stated is not None:
        reads = {written: n for written, n in reads.items() if written.decimal == options.stated}
    possible = _possible(reads, shapes)
    if not possible or shapes.overflow:
        return None
    if len(possible) > 1:
        possible = [_chosen(possible, shapes, name, options)]
    written = possible[0]
    _refuse_units(shapes, name)
    _refuse_mixture(shapes, name, written)
    _refuse_stray_groups(shapes, name, written, is_stated=options.stated is not None)
    if options.stated is None and options.usual == "." and written.decimal == ",":
        _refuse_marks_behind_values(shapes, name)
    return NumberFormat(
        written.decimal,
        written.thousands,
        shapes.unit_as_written,
        lacks_unit=bool(shapes.unit or shapes.scales)
        and shapes.may_lack_unit
        and "" in shapes.units,
        scales=tuple((unit, factor) for unit, factor in shapes.scales.items() if factor != 1),
    )


def _refuse_units(shapes: Shapes, name: str) -> None:
    """Check that numbers with units have the same one, or multiples of one.

    A letter behind a few numbers may be a flag.

    Raises
    ------
    InvalidDataError
        If several known units stand behind numbers.
    """
    if shapes.scales:
        return
    bases: dict[str, list[str]] = {}
    for unit in filter(None, shapes.units):
        written = shapes.as_written(unit)
        base, factor = scaled(written)
        if factor != 1 or written in _KNOWN:
            bases.setdefault(base, []).append(unit)
    found = [unit for units in bases.values() for unit in units]
    has_bare = "" in shapes.units
    if (factor_unit := _in_other_scale(shapes, found)) is not None:
        found = [factor_unit]
    elif len(found) < 2 or (has_bare and len(bases) == len(found)):
        return
    if has_bare:
        found = ["", found[0]]
    found.sort(key=lambda unit: shapes.first_with(unit)[0])
    cells = [f"{cell!r} in row {row + 1}" for row, cell in map(shapes.first_with, found)]
    raise InvalidDataError(
        f"Its numbers have different units: {cells[0]}, {cells[1]}.",
        field=f"data.{name}",
        remedy="Write all numbers of a column in one unit, or train without it: --exclude "
        f"{shlex.quote(name)}.",
    )


def _in_other_scale(shapes: Shapes, found: Sequence[str]) -> str | None:
    """Return what plainly multiplies some numbers beside others without a unit, if anything does.

    "45%" beside "0.45", "500 m" beside "1.2", or "2.50 kW" beside "2329".
    """
    n_numbers = sum(shapes.units.values())
    if "" not in shapes.units or 2 * n_numbers <= shapes.n_present or shapes.lacks_in_zeros:
        return None
    for unit, n in shapes.units.items():
        if unit in FACTORS and (unit in _NO_FLAGS or n >= MANY_FLAGGED * n_numbers):
            return unit
    if len(found) == 1 and scaled(shapes.as_written(found[0]))[1] != 1:
        is_other = abs(shapes.n_digits(found[0]) - shapes.n_digits("")) >= OTHER_DIGITS
        return found[0] if is_other else None
    return None


def _refuse_marks_behind_values(shapes: Shapes, name: str) -> None:
    """Check that commas between separators are decimal marks: "+0215,1" may be 215 of quality 1.

    Raises
    ------
    InvalidDataError
        If digits are padded with zeros, and a single one stands behind each comma.
    """
    if not all(_ONE_BEHIND_COMMA.search(shape) for shape in shapes.bare):
        return
    padded = next((one for shape, one in shapes.first.items() if _PADDED.match(shape)), None)
    if padded is not None:
        row, cell = padded
        raise InvalidDataError(
            f"{cell!r} in row {row + 1} may be one number, or a value and a mark of its quality.",
            field=name,
            remedy="Say --decimal comma for numbers, or split the column into two.",
        )


def _chosen(
    possible: list[NumberFormat], shapes: Shapes, name: str, options: NumberOptions
) -> NumberFormat:
    """Choose between a decimal and a thousands mark, where each stands before three digits.

    Raises
    ------
    InvalidDataError
        If nothing tells them apart.
    """
    marks = [mark for mark in ".," if any(mark in shape for shape in shapes.bare)]
    if len(marks) > 1:
        # Each stands before three digits only: the rarer one is refused as a stray.
        counts = {m: sum(n for s, n in shapes.bare.items() if m in s) for m in marks}
        return max(possible, key=lambda written: counts[written.decimal])
    [mark] = marks
    # In every cell, it is a decimal mark where such files have it; but "1.012" beside "987" may be
    # a thousand and twelve.
    everywhere = all(mark in shape for shape in shapes.bare)
    if len(options.proven) == 1:
        [decimal] = options.proven
    elif everywhere and options.usual == mark:
        decimal = options.usual
    else:
        raise _two_ways(shapes, name, mark)
    return next(written for written in possible if written.decimal == decimal)


def _two_ways(shapes: Shapes, name: str, mark: str) -> InvalidDataError:
    row, cell = next(
        shapes.first[shape]
        for shape in shapes.first
        if mark in shape and shapes.without_unit(shape) in shapes.bare
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
            raise _otherwise(shapes, shape, name, written)


def _refuse_stray_groups(
    shapes: Shapes, name: str, written: NumberFormat, *, is_stated: bool
) -> None:
    """Raise if a few cells are numbers with a thousands mark where it may be a decimal mark.

    "1.632" among numbers such as "1,633" is one written with the other decimal mark. No doubt is
    left where a cell has both marks, or two of thousands; and hardly any where many cells are
    grouped, and the others have as many digits as are possible without a group.
    """
    mark = written.thousands
    if mark is None or mark not in ".,":
        return
    grouped = {shape: n for shape, n in shapes.bare.items() if mark in shape}
    if any(written.decimal in shape or shape.count(mark) > 1 for shape in grouped):
        return
    others = [s for s in shapes.bare if s not in grouped and _reads(written, s)]
    has_decimals = any(written.decimal in shape for shape in others)
    if not others or (is_stated and not has_decimals):
        return
    n_digits = max(len(re.sub("[^90].*", "", shape.lstrip("+-"))) for shape in others)
    n_grouped, n_numbers = sum(grouped.values()), sum(shapes.bare.values())
    is_rare = n_grouped < MANY_GROUPED * n_numbers
    if (is_rare or n_digits < 3) if has_decimals else (is_rare and n_digits < 3):
        stray = next(s for s in shapes.counts if shapes.without_unit(s) in grouped)
        raise _otherwise(shapes, stray, name, replace(written, thousands=None))


def _otherwise(shapes: Shapes, shape: str, name: str, written: NumberFormat) -> InvalidDataError:
    row, cell = shapes.first[shape]
    return InvalidDataError(
        f"{cell!r} in row {row + 1} is written otherwise than the other numbers of the column "
        f"({written}).",
        field=f"data.{name}",
        remedy="Write all numbers of a column alike, or train without it: --exclude "
        f"{shlex.quote(name)}.",
    )


def parse(cells: pa.Array | pa.ChunkedArray, written: NumberFormat) -> pa.Array | pa.ChunkedArray:
    """Return the numbers in cells of text, as float64; null where a cell is none."""
    import pyarrow as pa

    if isinstance(cells, pa.ChunkedArray):
        return pa.chunked_array([parse(c, written) for c in cells.chunks], pa.float64())
    return _parsed(cells, written)


def _parsed(cells: pa.Array, written: NumberFormat) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(cells.type):
        cells = pc.cast(cells, pa.string())
    text, codes, masks, _ = _plainly_spelt(pc.utf8_trim_whitespace(cells))
    of_mask = [_shape(mask) for mask in masks]
    is_number = np.array([re.fullmatch(written.pattern, s) is not None for s in of_mask], bool)
    if not is_number.all():
        text = pc.if_else(pa.array(_by_code(is_number, codes)), text, None)
    if written.has_unit:
        text = pc.replace_substring_regex(text, f"{written.unit_pattern}$", "")
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
    if any(letter in shape for shape in of_mask for letter in "dD"):
        text = pc.replace_substring_regex(text, "[dD]", "e")
    numbers = pc.cast(text, pa.float64())
    for unit, factor in written.scales:
        ending = re.sub("[0-9]", "9", unit)
        has_unit = np.array([_unit_of(shape) == ending for shape in of_mask], bool)
        larger = pc.multiply(numbers, factor) if factor > 1 else pc.divide(numbers, 1 / factor)
        numbers = pc.if_else(pa.array(_by_code(has_unit, codes)), larger, numbers)
    for value, words in ((1.0, SWITCHED_ON), (0.0, SWITCHED_OFF)) if written.switches else ():
        is_word = np.array([shape.lower() in words for shape in of_mask], bool)
        if is_word.any():
            numbers = pc.if_else(pa.array(_by_code(is_word, codes)), value, numbers)
    return numbers


def _unit_of(shape: str) -> str:
    """Return what stands behind a number, with 9 for its digits; empty if nothing does."""
    match = _WITH_UNIT.fullmatch(shape)
    return match["unit"] if match else ""


def _plainly_spelt(
    cells: pa.Array,
) -> tuple[pa.Array, NDArray[np.int32], list[str], NDArray[np.int64] | None]:
    """Return cells written plainly, with their masks, and what they wore; None for nothing."""
    cells = in_plain_digits(cells)
    codes, masks = _masked(cells)
    dresses = [dress_of(mask) for mask in masks]
    if all(dress is None for dress in dresses):
        return cells, codes, masks, None
    of_mask = np.array([-1 if dress is None else dress for dress in dresses], np.int64)
    worn = np.append(of_mask, -1)[codes]
    cells = undressed(cells, worn)
    return cells, *_masked(cells), worn


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
    first = data[at]
    return at + ((first == ord("-")) | (first == ord("+"))), ends


@lru_cache(maxsize=100_000)
def _shape(mask: str) -> str:
    """Return the shape of cells with a mask."""
    return re.sub("9{4,}", "9999", re.sub("^([-+]?)0+", r"\g<1>0", mask))


_MISSING_MASKS = frozenset(re.sub("[0-9]", "9", text) for text in MISSING)


def examples(words: Mapping[str, int], most: int = 3) -> str:
    """Return the most frequent words, for a message."""
    named = sorted(words, key=lambda word: -words[word])[:most]
    more = ", ..." if len(words) > most else ""
    return ", ".join(repr(word) for word in named) + more
