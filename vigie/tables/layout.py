"""Find the header, the units and the first row of a table in its first lines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count, pairwise

from vigie.errors import InvalidDataError
from vigie.tables.date_forms import is_form
from vigie.tables.find_times import is_named
from vigie.tables.numbers import MISSING
from vigie.tables.spelling import dress_of
from vigie.tables.units import UNITS

Cells = Sequence[str]

MOST_FACTS = 10
"""Lines of facts on the site above the names."""
FEWEST_BELOW_CODES, CODES_APART = 20, 10.0
"""Rows below a line that may hold codes, and how many of their ranges its numbers lie off."""
COMMENTS = frozenset(
    ["comment", "comments", "remark", "remarks", "note", "notes", "kommentar", "bemerkung"]
)
"""Names of a column in which most rows have no cell."""
HOLDS_UNITS = "holds units"
"""The end of a note that says what a line is, and of no value how it is read."""

_MISSING = frozenset(MISSING)
_UNIT = re.compile(r"[\[(<].{0,20}[\])>]")
_IN_NAME = re.compile(r"^(?P<name>.*\S)\s*[\[(](?P<unit>[^\[\]()]{1,12})[\])]\s*$")
_NUMBER = re.compile(r"[-+−]?(?:\d[\d.,'’ \u00a0\u202f]*|[.,]\d+)(?:[eEdD][-+]?\d+)?")
_BEFORE_UNIT = re.compile(rf"{_NUMBER.pattern.replace(' ', '')}\s*(?P<unit>\D+.*)")
_SECONDS = re.compile(r"[1-9]\d{8,18}(\.\d*)?")
_RULER = re.compile(r"([-=*_])\1{2,}")
_TIME = re.compile(r"\d{1,4}[-/.:hT ]\d{1,2}([-/.:hT ,]|$)")


class NoReadingError(InvalidDataError):
    """No line of a file holds a number."""


@dataclass(frozen=True)
class Layout:
    """Where a table begins, and what stands above it.

    Attributes
    ----------
    names : tuple of str
        The columns; those without a name are ``column 1``, ...
    first : int
        Index of the first line with readings.
    n_cells : int
        Cells in each of its rows, which may end in an empty one.
    units : dict of str to str
        Units of columns, from a line of their own or from brackets in the names.
    forms : dict of str to str
        How the times of columns are written, where the line of units tells that.
    has_header : bool
        Whether the names stand in the file.
    notes : tuple of str
        What was passed over.
    lacks_last : bool
        Whether rows may lack their last cell.
    """

    names: tuple[str, ...]
    first: int
    n_cells: int
    units: dict[str, str] = field(default_factory=dict)
    forms: dict[str, str] = field(default_factory=dict)
    has_header: bool = True
    notes: tuple[str, ...] = ()
    lacks_last: bool = False


def find_layout(lines: Sequence[Cells], n_above: int = 0) -> Layout:
    """Find the table in the first lines of a file, each split into cells.

    The first line of readings is one with a number or a time, with as many cells as most lines
    have. Names and units stand right above it. What has a time where readings have theirs is one,
    whatever else it holds.

    Parameters
    ----------
    lines : sequence of sequence of str
        The first lines.
    n_above : int, optional
        Lines of the file above these, with which those in errors are counted.

    Raises
    ------
    InvalidDataError
        If no line holds a number, or names and readings do not have the same number of cells, or
        the first readings have another number than most.
    """
    used = [i for i, line in enumerate(lines) if any(cell.strip() for cell in line)]
    if not used:
        raise InvalidDataError("It is empty.", field="FILE")
    n_cells = _usual_length([lines[i] for i in used])
    if n_cells > 1:
        lines = [[] if is_ruler(line) else line for line in lines]
    lines = _as_long(lines, n_cells)
    kinds = _usual_kinds(lines, n_cells)
    first = next((i for i in used if _is_reading(lines[i], kinds)), None)
    if first is None:
        header = next((i for i in used if len(lines[i]) == n_cells), used[0])
        return _without_rows(lines, header, len(lines) == len(used) == 1)
    first = _with_time(lines, used, first, kinds)
    named = _names_below_facts(lines, used, first, kinds)
    first = first if named is None else next(i for i in used if i > named)
    rows_above = _rows_above(lines, first, kinds) if named is None else []
    if _is_first_alone_whole(lines, rows_above, first, n_cells) or _lack_comments(
        lines, first, n_cells
    ):
        whole = [[*line, ""] if len(line) == n_cells else line for line in lines]
        layout = find_layout(whole, n_above)
        note = f"Most rows lack their last cell: {layout.names[-1]} is missing there"
        return replace(layout, notes=(*layout.notes, note), lacks_last=True)
    for i in reversed(rows_above):
        if len(lines[i]) != n_cells:
            raise _other_cells(n_above + i + 1, lines[i], n_cells)
    first = min([first, *rows_above])
    if _is_numbered_header(lines, first):
        head = [first]
        first += 1
    else:
        head = _lines_above(lines, first, n_cells)
        head = _below_facts(lines, head, first)
    width = _width(lines, head, first, n_cells)
    if not head:
        _refuse_other_length(lines, first, width)
        _refuse_numbers_as_names(lines[first:], first, width)
    notes = []
    if not head:
        names = tuple(f"column {i + 1}" for i in range(width))
        notes.append("No names above the readings: the columns are numbered")
        return Layout(names, first, n_cells, has_header=False, notes=tuple(notes))
    index = _name_of_index(lines, head)
    head = head if index is None else head[:-1]
    at = _line_of_names(lines, head, width, kinds)
    cells = _names_for(lines, at, first, width)
    groups = [i for i in head if i != at and not are_units(lines[i])]
    levels = _levels(lines, sorted([*groups, at]), width, has_index=index is not None)
    if levels:
        cells = _together([lines[i] for i in levels])
    elif (joined := _joined(cells, at, {i: lines[i] for i in groups})) is not None:
        group, cells = joined
        levels = sorted([at, group])
    if levels:
        *others, last = [str(i + 1) for i in levels]
        notes.append(f"Lines {', '.join(others)} and {last} name the columns together")
        head = [i for i in head if i not in levels]
        at = levels[-1]
    if index is not None:
        cells = [index, *cells[1:]]
    names = _unique([cell.strip() or f"column {i + 1}" for i, cell in enumerate(cells)])
    units = {
        n: m["unit"].strip() for n in names if (m := _IN_NAME.match(n)) and _is_unit(m["unit"])
    }
    forms: dict[str, str] = {}
    for i in range(at + 1, first):
        if i in head and are_units(lines[i]):
            notes.append(f"Line {i + 1} {HOLDS_UNITS}")
            stated, written = _units_and_forms(names, lines[i])
            units |= stated
            forms |= written
        elif i in head:
            lacks = "no time" if any(map(is_number, lines[i])) else "no reading"
            notes.append(f"Line {i + 1} holds {lacks} and is passed over")
    return Layout(names, first, n_cells, units, forms, notes=tuple(notes))


def _units_and_forms(names: Sequence[str], cells: Cells) -> tuple[dict[str, str], dict[str, str]]:
    """Return what a line of units says of each column: its unit, or how its times are written."""
    said = {
        name: _bare_unit(cell) for name, cell in zip(names, cells, strict=False) if cell.strip()
    }
    forms = {name: text for name, text in said.items() if is_form(text)}
    return {name: text for name, text in said.items() if name not in forms}, forms


def is_ruler(cells: Cells) -> bool:
    """Return whether a line only separates the names from the readings, as "-----" does."""
    [cell] = cells if len(cells) == 1 else [""]
    return _RULER.fullmatch(cell.strip()) is not None


def _name_of_index(lines: Sequence[Cells], head: Sequence[int]) -> str | None:
    """Return the name of the first column if it stands below those of all others.

    pandas writes the name of an index so, below columns of several levels.
    """
    if len(head) < 2:
        return None
    name, *others = lines[head[-1]]
    has_names = any(any(map(str.strip, lines[i][1:])) for i in head[:-1])
    return name if name.strip() and others and not any(others) and has_names else None


def _line_of_names(
    lines: Sequence[Cells], head: Sequence[int], width: int, kinds: Sequence[str]
) -> int:
    """Return the line with the most different cells: of several, the first.

    A line whose words name the time above the times is rather one of names than what a logger
    writes of itself. Of lines with a single cell it is the last without a unit, since any title is
    as long.
    """
    if len(head) > 1 and "time" in kinds:
        place = kinds.index("time")
        head = [i for i in head if not are_units(lines[i])] or head
        timed = [i for i in head if place < len(lines[i]) and is_named(lines[i][place])]
        plain = [i for i in timed if not any(is_number(c) or is_time(c) for c in lines[i])]
        head = plain or timed or head
    if width == 1:
        return next((i for i in reversed(head) if not are_units(lines[i])), head[-1])
    return max(head, key=lambda i: (len({cell.strip() for cell in lines[i]} - {""}), -i))


def _joined(
    cells: Sequence[str], at: int, others: Mapping[int, Cells]
) -> tuple[int, list[str]] | None:
    """Return names with those of their groups, where they alone do not tell the columns apart.

    A group stands above its first column only, or above each, as "Motor" and "Pump" above the
    "Temp" of both.

    Returns
    -------
    (int, list of str) or None
        The other line, and the names; None if no line tells the columns apart.
    """
    bare = [cell.strip() for cell in cells]
    if "" not in bare and len(set(bare)) == len(bare):
        return None
    for i, other in others.items():
        if len(other) != len(bare):
            continue
        groups, names = (other, bare) if i < at else (bare, other)
        joined = _together([groups, names])
        is_below = any(name.strip() for name in names)
        # pandas leaves the place above its index empty.
        if is_below and "" not in joined[1:] and len(set(joined)) == len(joined):
            return i, joined
    return None


def _levels(
    lines: Sequence[Cells], heads: Sequence[int], width: int, *, has_index: bool
) -> list[int]:
    """Return the lines that name the columns together, each with a word for all but the first ones.

    pandas writes the levels of its columns so, with the name of the index below them, and weather
    stations names of two words. Without such a name, the places above the times are empty in all
    but the last line.
    """
    n_blank = [next((k for k, c in enumerate(lines[i]) if c.strip()), width) for i in heads]
    is_full = all(
        len(lines[i]) == width
        and all(map(str.strip, lines[i][max(n, 1) :]))
        and _are_words([cell for cell in lines[i] if cell.strip()])
        for i, n in zip(heads, n_blank, strict=True)
    )
    is_upper = all(0 < n < width - 1 for n in n_blank[:-1])
    if len(heads) < 2 or not is_full or not (has_index or is_upper):
        return []
    names = _together([lines[i] for i in heads])[1:]
    return list(heads) if len(set(names)) == len(names) else []


def _together(levels: Sequence[Cells]) -> list[str]:
    """Return the words above each column in one; a group may stand above its first column only."""
    filled = []
    for cells in levels:
        group, groups = "", []
        for cell in cells:
            group = cell.strip() or group
            groups.append(group)
        filled.append(groups if cells is not levels[-1] else [cell.strip() for cell in cells])
    return [" ".join(dict.fromkeys(filter(None, words))) for words in zip(*filled, strict=True)]


def _usual_length(lines: Sequence[Cells]) -> int:
    """Return the number of cells that most lines have, by the share of numbers and times in each.

    Facts above a table, such as "Record length,1000", have a word for each number.
    """
    shares: dict[int, float] = dict.fromkeys(map(len, lines), 0.0)
    for line in lines:
        found = [kind for kind in map(_kind, line) if kind]
        shares[len(line)] += sum(kind != "text" for kind in found) / max(len(found), 1)
    counts = Counter(map(len, lines))
    return max(shares, key=lambda length: (round(shares[length], 6), counts[length], length))


def _as_long(lines: Sequence[Cells], n_cells: int) -> list[Cells]:
    """Return lines without empty cells beyond the usual length, and with one that lacks."""
    same = [line for line in lines if len(line) == n_cells]
    ends_blank = 2 * sum(not line[-1].strip() for line in same) > len(same)

    def fitted(line: Cells) -> Cells:
        if len(line) == n_cells - 1 and ends_blank:
            return [*line, ""]
        return line[:n_cells] if not any(map(str.strip, line[n_cells:])) else line

    return list(map(fitted, lines))


def _is_reading(line: Cells, kinds: Sequence[str]) -> bool:
    """Return whether a line holds readings: where most lines have numbers or times, so has it."""
    if len(line) != len(kinds):
        return False
    found = list(zip(map(_kind, line), kinds, strict=True))
    # Names may be numbers, as are limits below them; but where the readings have their time, these
    # have none.
    if next((cell for cell, kind in found if kind == "time"), "") in ("text", "number"):
        return False
    # A single cell may have a unit, as may names such as "24 V".
    counted = [
        kind_of_cell == kind
        for (kind_of_cell, kind), cell in zip(found, line, strict=True)
        if kind in ("number", "time") and kind_of_cell and not _has_unit(cell)
    ]
    return 2 * sum(counted) > len(counted)


def _with_time(
    lines: Sequence[Cells], used: Sequence[int], first: int, kinds: Sequence[str]
) -> int:
    """Return the first reading, which is no line of numbers without a time among the names.

    Serial numbers of devices stand there.
    """
    place = kinds.index("time") if "time" in kinds else None
    if place is None or lines[first][place].strip():
        return first
    below = [i for i in used if i > first]
    readings = [i for i in below if _is_reading(lines[i], kinds)]
    timed = next((i for i in readings if lines[i][place].strip()), first)
    return first if all(i in readings for i in below if i < timed) else timed


def _names_below_facts(
    lines: Sequence[Cells], used: Sequence[int], first: int, kinds: Sequence[str]
) -> int | None:
    """Return the line of names below what looked like readings: facts on the site, say.

    They hold words where the readings have numbers. None if there is no such line.
    """
    facts = zip(map(_kind, lines[first]), kinds, strict=False)
    if not any(found == "text" and kind in ("number", "time") for found, kind in facts):
        return None
    below = [i for i in used if first < i <= first + MOST_FACTS and i < used[-1]]
    return next((i for i in below if _are_names(lines[i], lines[i + 1 :])), None)


def _are_names(line: Cells, rows: Sequence[Cells]) -> bool:
    """Return whether a line has a word of its own for each column in which rows have a cell."""
    used = _places(rows)
    cells = [cell.strip() for cell in line]
    words = [cells[i] for i in used if i < len(cells)]
    are_words = all(_kind(word) == "text" and not _has_unit(word) for word in words)
    return len(words) == len(used) > 2 and len(set(words)) == len(words) and are_words


def _rows_above(lines: Sequence[Cells], first: int, kinds: Sequence[str]) -> list[int]:
    """Return the lines right above a reading that are rows too, of words or of another length.

    They have a time where the reading has its own; where it has none, numbers below names.
    """
    place = _place_of_time(lines[first], kinds)
    above: list[int] = []
    for i in range(first - 1, -1, -1):
        line = lines[i]
        if not any(cell.strip() for cell in line):
            continue
        if place is None:
            is_row = _is_row_of_numbers(lines, i, kinds)
        else:
            is_row = place < len(line) and _is_like_time(line[place], lines[first][place])
            # A date alone at the top is that of the export.
            is_row = is_row and (len(line) > 1 or len(kinds) == 1 or any(map(any, lines[:i])))
        if not is_row:
            break
        above.append(i)
    return above


def _place_of_time(line: Cells, kinds: Sequence[str]) -> int | None:
    """Return the column of the times, which may be seconds since 1970; None if there is none."""
    if "time" in kinds:
        return kinds.index("time")
    return next((i for i, cell in enumerate(line) if _SECONDS.fullmatch(cell.strip())), None)


def _is_like_time(cell: str, usual: str) -> bool:
    if _SECONDS.fullmatch(usual.strip()):
        return _SECONDS.fullmatch(cell.strip()) is not None
    return _kind(cell) == "time"


def _is_row_of_numbers(lines: Sequence[Cells], at: int, kinds: Sequence[str]) -> bool:
    """Return whether a line of another length has numbers where readings have, below names.

    Without names, a first line of numbers may tell the size of the table.
    """
    line = lines[at]
    found = [_kind(cell) for cell, kind in zip(line, kinds, strict=False) if kind == "number"]
    if len(line) in (1, len(kinds)) or 2 * found.count("number") <= len(found):
        return False
    return any(
        len(names) in (len(kinds), len(line)) and len(names) > 1 and _are_words(names)
        for names in lines[:at]
    )


def _are_words(cells: Cells) -> bool:
    return all(_kind(cell) == "text" for cell in cells)


def _is_first_alone_whole(
    lines: Sequence[Cells], above: Sequence[int], first: int, n_cells: int
) -> bool:
    """Return whether the first row alone is as long as the names, and all others lack one cell.

    Lascar loggers write their serial number so.
    """
    if len(above) != 1 or above[0] == 0:
        return False
    names, row = lines[above[0] - 1], lines[above[0]]
    others = [line for line in lines[first:] if any(cell.strip() for cell in line)]
    return (
        len(names) == len(row) == n_cells + 1
        and _are_words(names)
        and all(len(line) == n_cells for line in others)
    )


def _lack_comments(lines: Sequence[Cells], first: int, n_cells: int) -> bool:
    """Return whether the last name alone has no cell in the rows, and is that of a comment."""
    above = next((line for line in reversed(lines[:first]) if any(map(str.strip, line))), [])
    return len(above) == n_cells + 1 and above[-1].strip().lower() in COMMENTS


def _usual_kinds(lines: Sequence[Cells], n_cells: int) -> list[str]:
    """Return what most cells of each column are: number, time, text or nothing."""
    whole = [line for line in lines if len(line) == n_cells]
    counts = [Counter(filter(None, map(_kind, column))) for column in zip(*whole, strict=True)]
    # Names and units are text too, in a short file more often than there are readings.
    # Of an equal number of both, two readings are no chance.
    return [
        max(
            count,
            key=lambda kind: (
                count[kind] / (3 if kind == "text" else 1),
                kind != "text" and count[kind] > 1,
            ),
            default="",
        )
        for count in counts
    ]


@lru_cache(maxsize=10_000)
def _kind(cell: str) -> str:
    cell = cell.strip()
    if cell in _MISSING:
        return ""
    if is_number(cell) or _is_dressed(cell):
        return "number"
    return "time" if is_time(cell) else "text"


def _is_dressed(cell: str) -> bool:
    """Return whether a cell is a number such as "0.061-"; "(1)" may number a column."""
    return dress_of(cell) is not None and not cell.strip("()").isdigit()


def _has_unit(cell: str) -> bool:
    match = _BEFORE_UNIT.fullmatch(cell.strip())
    return match is not None and match["unit"].strip() in UNITS


def _lines_above(lines: Sequence[Cells], first: int, n_cells: int) -> list[int]:
    """Return the lines above the readings that are as long as these, nearest last."""
    above: list[int] = []
    for i in range(first - 1, -1, -1):
        if not any(cell.strip() for cell in lines[i]):
            if above:
                break
            continue
        n_named = len(_without_blank_end(lines[i]))
        differs = n_named > n_cells or len(lines[i]) < n_cells - 1 or _is_logger_line(lines[i])
        # Rows may end in any number of separators, which the names lack.
        if differs and (above or not _is_as_long(lines, first, n_named)):
            break
        above.insert(0, i)
    # A title has few cells; units may have few, too, but stand below the names.
    while above and n_cells > 2 and _is_title(lines[above[0]], n_cells):
        above.pop(0)
    return above


def _places(lines: Iterable[Cells]) -> set[int]:
    """Return the columns in which some line has a cell that is not empty."""
    return {place for line in lines for place, cell in enumerate(line) if cell.strip()}


def _below_facts(lines: Sequence[Cells], head: list[int], first: int) -> list[int]:
    """Return the lines of the head below facts on the site, which have names of their own.

    Their names also stand where the readings have no cell.
    """
    used = _places(lines[first:])
    facts = [i for i in head if any(map(is_number, lines[i]))]
    if not facts or _places(lines[i] for i in head if i < facts[0]) <= used:
        return head
    for i in head:
        is_plain = not are_units(lines[i]) and not any(map(is_number, lines[i]))
        if i > facts[0] and is_plain and _places([lines[i]]) == used:
            return head[head.index(i) :]
    return head


def _is_title(cells: Cells, n_cells: int) -> bool:
    """Return whether few cells are filled, but for names of groups, which leave out the first."""
    n_filled = sum(bool(cell.strip()) for cell in cells)
    is_group = n_filled > 1 and not cells[0].strip()
    return 2 * n_filled < n_cells and not is_group


def _is_logger_line(cells: Cells) -> bool:
    """Return whether a line tells the model of a Campbell logger, right above the names."""
    return cells[0].strip() == "TOA5"


def _is_as_long(lines: Sequence[Cells], first: int, n_named: int) -> bool:
    """Return whether the readings have as many cells, but for empty ones at their ends."""
    n_cells = len(lines[first])
    same = [line for line in lines[first:] if len(line) == n_cells]
    is_beyond = any(cell.strip() for line in same for cell in line[n_named:])
    return 1 < n_named < n_cells and not is_beyond


def _without_blank_end(cells: Cells) -> list[str]:
    used = list(cells)
    while used and not used[-1].strip():
        used.pop()
    return used


def _width(lines: Sequence[Cells], head: Sequence[int], first: int, n_cells: int) -> int:
    """Return the number of columns: cells that are empty everywhere, down from the end, are none.

    One empty column at the end is none in a table without names, too.
    """
    whole = [line for line in lines[first:] if len(line) == n_cells]
    n_named = max((len(_without_blank_end(lines[i])) for i in head), default=n_cells - 1)
    width = n_cells
    while width > max(n_named, 1) and not any(line[width - 1].strip() for line in whole):
        width -= 1
    return width


def _refuse_other_length(lines: Sequence[Cells], first: int, width: int) -> None:
    """Check that the line above readings without names is no line of names.

    Raises
    ------
    InvalidDataError
        If it has names, of another number of columns: their readings would move.
    """
    above = [i for i in range(first) if any(cell.strip() for cell in lines[i])]
    if not above:
        return
    cells = _without_blank_end(lines[above[-1]])
    # A table with row numbers may leave out their name.
    named = cells[1:] if cells and not cells[0].strip() else cells
    are_names = len(named) > 2 and all(cell.strip() and _kind(cell) == "text" for cell in named)
    if are_names and len(cells) != width:
        raise _other_length(above[-1], len(cells), first, width)


def _refuse_numbers_as_names(rows: Sequence[Cells], first: int, width: int) -> None:
    """Check that the first row without names above is no line of codes for the columns.

    Raises
    ------
    InvalidDataError
        If half of its numbers lie far from all others of their columns.
    """
    whole = [row[:width] for row in rows if len(row) >= width]
    if width < 3 or len(whole) < FEWEST_BELOW_CODES:
        return
    n_far = 0
    for cells in zip(*whole, strict=True):
        try:
            code, *others = map(float, cells)
        except ValueError:
            continue
        low, high = min(others), max(others)
        # A recorder that starts may write zeros.
        n_far += code != 0 and max(low - code, code - high) > CODES_APART * (high - low)
    if 2 * n_far >= width:
        raise InvalidDataError(
            f"The numbers of line {first + 1} lie far from all below: they may name the columns.",
            field="FILE",
            remedy="Write the names in words, or remove the line.",
        )


def _is_numbered_header(lines: Sequence[Cells], first: int) -> bool:
    """Return whether the first line counts its columns, as pandas names those without a name."""
    if first != 0 or len(lines) < 2:
        return False
    cells = [cell.strip() for cell in lines[0]]
    cells = cells[1:] if not cells[0] else cells
    if len(cells) < 2 or not all(cell.isdigit() for cell in cells):
        return False
    numbers = list(map(int, cells))
    if numbers[0] not in (0, 1) or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return False
    if not lines[0][0].strip():
        return True
    # A row of switches may be 0, 1: where such cells stand in each column, it is a reading.
    below = [line for line in lines[1:] if len(line) == len(cells)]
    columns = [{line[i].strip() for line in below} for i in range(len(cells))]
    return not all(cell in column for cell, column in zip(cells, columns, strict=True))


def _names_for(lines: Sequence[Cells], at: int, first: int, width: int) -> list[str]:
    """Return the names of the columns, one for each."""
    cells = list(lines[at])
    while len(cells) > width and not cells[-1].strip():
        cells.pop()
    if len(cells) == width:
        return cells
    if len(cells) == width - 1 and cells[0].strip() and _counts_rows(lines[first:], width):
        # As R writes its row names.
        return ["row", *cells]
    raise _other_length(at, len(cells), first, width)


def _other_length(at: int, n_names: int, first: int, width: int) -> InvalidDataError:
    return InvalidDataError(
        f"Line {at + 1} names {_counted(n_names, 'column')}, but line {first + 1} has "
        f"{_counted(width, 'cell')}.",
        field="FILE",
        remedy="Give each column a name, and each row as many cells; put quotes round cells that "
        "hold a separator.",
    )


def _other_cells(number: int, cells: Cells, n_usual: int) -> InvalidDataError:
    return InvalidDataError(
        f"Line {number} has {_counted(len(cells), 'cell')}, the others have {n_usual}: "
        f"{' '.join(cells)[:80]!r}.",
        field="FILE",
        remedy="Give each row one cell for each column; put quotes round cells that hold a "
        "separator.",
    )


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _counts_rows(rows: Sequence[Cells], width: int) -> bool:
    firsts = [row[0].strip() for row in rows if len(row) == width]
    if len(firsts) < 2 or not all(cell.isdigit() for cell in firsts):
        return False
    numbers = list(map(int, firsts))
    return {b - a for a, b in pairwise(numbers)} in ({1}, {-1})


def _without_rows(lines: Sequence[Cells], at: int, is_all: bool) -> Layout:
    """Return the layout of a table that has names only, and maybe units below them."""
    below = [i for i in range(at + 1, len(lines)) if any(map(str.strip, lines[i]))]
    has_units = bool(below) and sum(map(_is_unit_or_form, lines[below[0]])) > 0
    has_units = has_units and are_units(lines[below[0]])
    first = below[0] + 1 if has_units else at + 1
    n_cells = len(lines[at])
    cells = lines[at][: _width(lines, [at], first, n_cells)]
    names = _unique([cell.strip() or f"column {i + 1}" for i, cell in enumerate(cells)])
    if not is_all and len(names) < 2:
        raise NoReadingError("No line of it holds a number.", field="FILE")
    units, forms = _units_and_forms(names, lines[below[0]]) if has_units else ({}, {})
    notes = (f"Line {first} holds units",) if has_units else ()
    return Layout(names, first, n_cells, units, forms, notes=notes)


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return names with a number behind each repetition, as pandas does."""
    unique: list[str] = []
    taken = set(names)
    seen: set[str] = set()
    for name in names:
        free = name
        if name in seen:
            free = next(x for i in count(1) if (x := f"{name}.{i}") not in taken)
        unique.append(free)
        seen.add(name)
        taken.add(free)
    return tuple(unique)


def are_units(cells: Cells) -> bool:
    """Return whether at least half of the cells of a line are units, or forms of times."""
    present = [cell.strip() for cell in cells if cell.strip()]
    return sum(map(_is_unit_or_form, present)) * 2 >= len(present)


def _is_unit_or_form(cell: str) -> bool:
    return _is_unit(cell) or is_form(cell)


def _is_unit(cell: str) -> bool:
    cell = cell.strip()
    return cell in UNITS or (_UNIT.fullmatch(cell) is not None and not _is_dressed(cell))


def _bare_unit(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1].strip() if _UNIT.fullmatch(cell) else cell


def is_number(cell: str) -> bool:
    """Return whether a cell begins as a number, in any format, with little behind it."""
    return _NUMBER.fullmatch(cell.strip()) is not None


def is_time(cell: str) -> bool:
    """Return whether a cell looks like a date, a time of day, or both."""
    return _TIME.match(cell.strip()) is not None
