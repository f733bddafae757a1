"""Mend the lines of a CSV file: separators that some rows have more, and lines without readings.

Spreadsheets and loggers write rows of separators only, names again after each restart, comments as
long as a row, and sums below the last row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from vigie.errors import InvalidDataError
from vigie.tables.layout import is_number, is_time
from vigie.tables.numbers import MISSING

_FOOTERS = """
    sum sums total totals subtotal mean means average averages avg min max minimum maximum
    median std stdev count rows
    summe gesamt mittel mittelwert durchschnitt anzahl somme moyenne médiane mediane nombre
    summen gesamtsumme mittelwerte standardabweichung promedio media suma totale somma toplam
    ortalama итого всего сумма среднее σ ø 合计 总计 平均 平均值 最大值 最小值 合計
"""
FOOTERS = frozenset(_FOOTERS.split())
"""Words before the numbers below a table."""
_MARK = "$RT_"
_WORD = re.compile(r"[^\W\d_]+")
MOST_FOOTERS = 10
MOST_COMMENTS = 0.1
"""Share of the lines: in a column of numbers such as "#12", all begin so."""
ANNOTATIONS = ("#group", "#datatype", "#default")
"""How lines of InfluxDB begin that stand above the names of each table in a file."""
NAMES_REPEATED = "Lines that repeat the names are left out"


@dataclass
class Mender:
    """Mends the lines of one file.

    Attributes
    ----------
    separator, quote : str
        Of its cells.
    n_cells, n_columns : int
        Cells of its rows, which may end in empty ones, and columns.
    n_above : int
        Lines above the first row, which stay as they are.
    names : str
        The line of the names; empty if there is none.
    footers : frozenset of str
        Lines below the last row.
    drops : bool
        Whether lines without readings are left out.
    drops_blank, drops_comments, drops_marks : bool
        Whether rows without a single value are, lines that begin with #, and those of WinCC.
    is_annotated : bool
        Whether the file is one of InfluxDB, with lines above the names of each of its tables.
    trims : bool
        Whether separators are added to the ends of rows, or removed from there.
    """

    separator: str
    quote: str
    n_cells: int
    n_columns: int
    n_above: int
    names: str = ""
    footers: frozenset[str] = frozenset()
    drops: bool = False
    drops_blank: bool = False
    drops_comments: bool = False
    drops_marks: bool = False
    is_annotated: bool = False
    trims: bool = False

    @property
    def is_needed(self) -> bool:
        """Whether any line may be changed."""
        return self.drops or self.trims

    def look_at(self, head: Sequence[str], tail: Sequence[str]) -> list[str]:
        """Decide from the first rows and the last ones which lines are left out.

        Parameters
        ----------
        head, tail : sequence of str
            Some lines from the first row on, and the last lines of the file.

        Returns
        -------
        list of str
            Notes on them.
        """
        if not self.separator.strip(" "):
            return []
        notes = []
        lines = [*head, *tail]
        # The first character rules most lines out in a tenth of the time.
        with_blank = [line for line in lines if line[:1] in (self.separator, " ")]
        if any(map(self._is_blank, with_blank)) and self._may_drop_blank(head, tail):
            self.drops_blank = True
            notes.append("Rows without a single value are left out")
        if any(is_mark(line) for line in lines if _MARK in line):
            self.drops_marks = True
            notes.append("Lines of WinCC that begin with $RT_ are left out")
        with_comment = [line for line in lines if line[:1] == "#"]
        if 0 < sum(map(self._is_comment, with_comment)) <= MOST_COMMENTS * len(lines):
            self.drops_comments = True
            notes.append("Lines that begin with # are left out")
        is_again = any(self.is_header(line) for line in lines if self.names in line)
        if is_again or (self.is_annotated and any(map(self._is_annotation, lines))):
            notes.append(NAMES_REPEATED)
        found = self._footers(head, tail)
        if found:
            self.footers = frozenset(line.strip() for line in found)
            shown = ", ".join(repr(line.strip()[:30]) for line in found[:3])
            notes.append(f"Left out below the last row: {shown}")
        self.drops = bool(notes)
        return notes

    def mend(self, line: str) -> str:
        """Return a line as it should be; empty if it holds no reading."""
        if self.drops and (
            (self.drops_blank and self._is_blank(line))
            or (self.drops_comments and self._is_comment(line))
            or (self.drops_marks and is_mark(line))
            or self._is_annotation(line)
            or self.is_header(line)
            or line.strip() in self.footers
        ):
            return ""
        return self.trimmed(line) if self.trims else line

    def trimmed(self, line: str) -> str:
        """Return a row with as many separators at its end as most rows have."""
        line = line.rstrip(" \r\n")
        n = self._count(line)
        surplus = n - self.n_cells
        if surplus > 0 and line.endswith(self.separator * surplus):
            return line[: len(line) - surplus * len(self.separator)]
        if self.n_columns <= n < self.n_cells:
            return line + self.separator * -surplus
        return line

    def can_trim(self, line: str) -> bool:
        """Return whether a row has the right number of cells once it is trimmed."""
        return bool(self.separator.strip(" ")) and self._count(self.trimmed(line)) == self.n_cells

    def _count(self, line: str) -> int:
        """Return the number of cells of a line; 0 if a cell goes on in the next line."""
        if self.quote not in line:
            return line.count(self.separator) + 1
        if line.count(self.quote) % 2:
            return 0
        return len(self._cells(line))

    def _cells(self, line: str) -> list[str]:
        rows = csv.reader([line], delimiter=self.separator, quotechar=self.quote)
        return next(rows, [])

    def _is_blank(self, line: str) -> bool:
        return self.separator in line and not line.strip(f"{self.separator} \r\n")

    def _is_comment(self, line: str) -> bool:
        """Return whether a line is a comment that could be taken for a row.

        Raises
        ------
        InvalidDataError
            If it names the columns below it otherwise, as a logger does once it is set up anew.
        """
        if not line.startswith("#") or self._count(line) != self.n_cells:
            return False
        cells = [cell.strip() for cell in self._cells(line)]
        # "#N/A" and "####" are cells of a spreadsheet.
        if cells[0] in MISSING or not cells[0].strip("#"):
            return False
        cells[0] = cells[0].lstrip("# ")
        names = [name.strip().lstrip("# ") for name in self.cells_of_names]
        if 2 * len({*cells} & {*names}) >= len(cells) and cells != names:
            raise InvalidDataError(
                f"A line among the rows names the columns otherwise: {line.strip()!r}.",
                field="FILE",
                remedy="Give the rows below it as a file of their own.",
            )
        return True

    def _is_annotation(self, line: str) -> bool:
        """Return whether a line of InfluxDB stands above the names of another table.

        Raises
        ------
        InvalidDataError
            If it names other columns than the first table has.
        """
        if not self.is_annotated:
            return False
        if line.startswith(",result,table,") and not self.is_header(line):
            raise InvalidDataError(
                f"Another table begins below the first one, with other names: {line.strip()!r}.",
                field="FILE",
                remedy="Give each table of InfluxDB as a file of its own.",
            )
        return line.startswith(ANNOTATIONS)

    @property
    def cells_of_names(self) -> list[str]:
        """The cells of the line of the names; none if lines are not mended, as between spaces."""
        return self._cells(self.names) if self.names and self.separator.strip(" ") else []

    def is_header(self, line: str) -> bool:
        """Return whether a line repeats the names."""
        return bool(self.names) and line.strip() == self.names

    def _may_drop_blank(self, head: Sequence[str], tail: Sequence[str]) -> bool:
        """Return whether empty rows can be left out: the others have times, or none follows.

        Without times, an empty row between others is a moment without values.
        """
        rows = (self._cells(line) for line in head[:1])
        if any(is_time(cell) and not is_number(cell) for row in rows for cell in row):
            return True
        return not any(map(self._is_blank_between, (head, tail)))

    def _is_blank_between(self, lines: Sequence[str]) -> bool:
        """Return whether a row without a value stands above one with some."""
        are_blank = [self._is_blank(line) for line in lines if line.strip(" \r\n")]
        return are_blank != sorted(are_blank)

    def _footers(self, head: Sequence[str], tail: Sequence[str]) -> list[str]:
        """Return the lines below the last row: sums and the like, and single words."""
        rows = {line: self._cells(line) for line in head[:200] if line.count(self.quote) % 2 == 0}
        found: list[str] = []
        for line in reversed(tail):
            if not line.strip() or self._is_blank(line):
                continue
            # A short file is its own tail.
            others = [cells for above, cells in rows.items() if above not in (line, *found)]
            if len(found) == MOST_FOOTERS or not self._is_footer(line, others):
                break
            found.insert(0, line)
        return found

    def _is_footer(self, line: str, rows: Sequence[Sequence[str]]) -> bool:
        if line.count(self.quote) % 2:
            return False
        cells = self._cells(line)
        return len(cells) == self.n_cells and is_footer(cells, rows)


def is_mark(line: str) -> bool:
    """Return whether a line is one that WinCC writes for itself, such as the number of rows."""
    return line.lstrip('" ').startswith(_MARK)


def is_footer(cells: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether a row is no reading: a sum or the like, or a word alone.

    Other rows have a number or a time where it has its first word.
    """
    present = [i for i, cell in enumerate(cells) if cell.strip()]
    cell = cells[present[0]].strip() if present else ""
    words = _WORD.findall(cell.lower())
    if not words or cell in MISSING or is_number(cell) or is_time(cell):
        return False
    place = present[0]
    above = [row[place] for row in rows if len(row) == len(cells) and row[place].strip()]
    if 2 * sum(is_number(cell) or is_time(cell) for cell in above) <= len(above):
        return False
    # "Total", "Grand total" and "Total (40 rows)".
    is_sum = not FOOTERS.isdisjoint((words[0], words[-1]))
    return is_sum or _is_legend(cells, present)


def _is_legend(cells: Sequence[str], present: Sequence[int]) -> bool:
    """Return whether a row has one word alone, or words in its last cells and nothing else.

    HWiNFO writes the devices of its sensors below them, with no time.
    """
    words = [cells[i].strip() for i in present]
    is_text = not any(is_number(word) or is_time(word) or word in MISSING for word in words)
    return len(cells) > 1 and (len(present) == 1 or (present[0] > 0 and is_text))


def n_footers(rows: Sequence[Sequence[str]]) -> int:
    """Return how many of the last rows are no readings."""
    n_below = 0
    while n_below < min(MOST_FOOTERS, len(rows) - 1):
        if not is_footer(rows[-1 - n_below], rows[: len(rows) - 1 - n_below]):
            break
        n_below += 1
    return n_below
