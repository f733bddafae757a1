"""Find the separator of a CSV file, and where its table begins, from its first lines."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vigie.errors import InvalidDataError
from vigie.tables.layout import (
    Layout,
    NoReadingError,
    are_units,
    find_layout,
    is_number,
    is_ruler,
    is_time,
)
from vigie.tables.numbers import MISSING, is_written
from vigie.tables.program_formats import head_of

SEPARATORS = (",", ";", "\t", "|", " ")
SNIFFED_CHARACTERS = 6_000
SNIFFED_LINES = 12
LAYOUT_LINES = 500
FEWEST_READINGS = 3
"""Rows with a time and numbers above the names that are no facts on the table below."""
FEWEST_LINES = 4
"""Fewer lines are looked at by the detector."""
MOST_ROWS = 2_500
COMMENT = re.compile(r"\s*(#|%|//)")
_TIME_AND_MORE = re.compile(r"\d:\d\d.*[,;\t|]")
_GROUPED = re.compile(r"[-+−]?\d{1,3}( \d{3})+([.,]\d+)?")
_PROOF = re.compile(r".* 0|.*[.,]")
"""A group of digits may begin with 0 where a number may not, and decimals end it."""
_DECIMALS = re.compile(r"\d+([eE][-+]?\d+)?")
_QUOTED = re.compile('"[^"]*"')
_WITH_THOUSANDS = re.compile(r"[-+−]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_WHOLE = re.compile(r"\s*[-+−]?(\d*|\d{1,3}([. '’\u202f\xa0]\d{3})+)")
_DECIMAL_COMMA = re.compile(rf"{_WHOLE.pattern},{_DECIMALS.pattern}")
_NO_TWO_NUMBERS = re.compile(r",0\d|\d\D\d{3},")
_UNIT = re.compile(r"[\[(].*[\])]$")
_WITH_UNIT = re.compile(r"[-+−]?[.,]?\d[\d.,]*\s*([^\W\d_]|[%°]).{0,8}")
_BETWEEN = re.compile(r"[\s;|]+|,(?=\D|$)|(?<=\D),")
_FRACTION = re.compile(r"[.,]\d")
_SEVERAL_SPACES = re.compile(r"[ \t]{2,}")
FEWEST_READ = 0.5
"""Share of the cells that are numbers, times or missing, between separators that are tried."""
MOST_ABOVE = 50
"""Lines above the readings in which units are looked for."""
ALIGNED = "  "
"""Two spaces or more separate cells, which may hold single ones."""
_SEPARATOR_LINE = re.compile(r"sep=(.|\\t)\s*")


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    Attributes
    ----------
    separator : str
        Between two cells; a space stands for one or several, two for at least two.
    quote : str
        Round cells that may hold separators.
    layout : Layout
        The columns, and what stands above the readings.
    skipped_lines : int
        Lines before the first reading.
    rows : list of list of str
        The first readings, split into cells.
    is_sentence : bool
        Whether a space follows each separator of the names, as in a sentence, or none is there.
    """

    separator: str
    quote: str
    layout: Layout
    skipped_lines: int
    rows: list[list[str]]
    is_sentence: bool = False

    @property
    def is_spaced(self) -> bool:
        """Whether spaces separate the cells."""
        return not self.separator.strip(" ")

    @property
    def description(self) -> str:
        """The separator in words."""
        if len(self.layout.names) == 1:
            return "one column"
        return f"{_in_words(self.separator)} between the cells"


def find_dialect(
    lines: Sequence[str], separator: str | None = None, decimal: str | None = None
) -> Dialect:
    """Find the dialect of a CSV file.

    CleverCSV weighs how alike the rows get against how clean their cells become [1]_. Spaces
    separate cells only where nothing else splits names and readings alike, since times have them.

    Parameters
    ----------
    lines : sequence of str
        Its first lines.
    separator : str, optional
        The separator, if the user states it.
    decimal : str, optional
        The decimal mark, if the user states it.

    Raises
    ------
    InvalidDataError
        If there is no table in the lines, or a comma may be a separator or a decimal mark.

    References
    ----------
    .. [1] van den Burg, G. J. J., Nazábal, A. and Sutton, C. (2019). Wrangling messy CSV files by
       detecting row and type patterns. Data Mining and Knowledge Discovery, 33, 1799-1820.
    """
    head = head_of(lines)
    n_above = head.n_lines or _n_comments(lines)
    if match := _SEPARATOR_LINE.fullmatch(lines[n_above] if n_above < len(lines) else ""):
        n_above, separator = n_above + 1, separator or match.group(1)
    separator = separator or head.separator
    if head.names:
        # Names in a comment right above the readings are found.
        lines = [*lines[: n_above - 1], f"#{head.names}", *lines[n_above:]]
    dialect = _dialect_below(lines, n_above, separator, decimal)
    _refuse_readings_above(lines, dialect)
    if not head.note:
        return dialect
    layout = dialect.layout
    return replace(dialect, layout=replace(layout, notes=(head.note, *layout.notes)))


def _refuse_readings_above(lines: Sequence[str], dialect: Dialect) -> None:
    """Check that no readings stand above the names: a logger goes on so with another sensor.

    Facts above a table begin with a word.

    Raises
    ------
    InvalidDataError
        If some do; the error names the line of these names.
    """
    above = list(lines[: dialect.skipped_lines])
    rows, ends = _cells(above, dialect.separator, dialect.quote)
    found: list[int] = []
    for row, end in zip(rows, ends, strict=True):
        cells = [cell for cell in map(str.strip, row) if cell not in MISSING]
        are_times = [is_time(cell) and not is_number(cell) for cell in cells]
        begins_so = any(are_times[:1]) or (any(are_times[1:2]) and is_number(cells[0]))
        if begins_so and any(map(is_number, cells)):
            found.append(end)
    if len(found) < FEWEST_READINGS:
        return
    names = next(i for i in range(len(above), 0, -1) if above[i - 1].strip())
    raise InvalidDataError(
        f"Line {names} begins another table, below the readings of lines {found[0]} to "
        f"{found[-1]}: {above[names - 1].strip()[:80]!r}.",
        field="FILE",
        remedy="Give each table a file of its own.",
    )


def _dialect_below(
    lines: Sequence[str], n_above: int, separator: str | None, decimal: str | None
) -> Dialect:
    """Return the dialect of a file below the lines that are skipped."""
    if separator is not None:
        separator = {"\\t": "\t", "tab": "\t", "space": " "}.get(separator, separator)
        return _split(lines, n_above, separator, _quote(lines, ""))
    try:
        dialect = _detected_dialect(lines, n_above, lines[n_above:])
        firsts = (row[0] for row in dialect.rows if row)
        is_found = dialect.layout.n_cells > 1 or any(map(is_written, firsts))
    except NoReadingError:
        is_found = False
    if not is_found:
        # A long preamble may be all that the detector has seen.
        below = lines[max(n_above, len(lines) - SNIFFED_LINES) :]
        dialect = _detected_dialect(lines, n_above, below)
    if (mark := _mark_within(dialect)) is None:
        _refuse_pairs(dialect)
        return _with_numbers(lines, n_above, dialect)
    if decimal is None:
        cell = ",".join(dialect.rows[0])
        raise InvalidDataError(
            f"{cell!r} may be one number, or {dialect.layout.n_cells} columns.",
            field="FILE",
            remedy=f"Say --decimal {'comma' if mark == ',' else 'point'}, or --separator ','.",
        )
    if decimal == mark:
        return _split(lines, n_above, _absent(lines), dialect.quote)
    return dialect


def _with_numbers(lines: Sequence[str], n_above: int, dialect: Dialect) -> Dialect:
    """Return a dialect that finds the numbers of the rows, where the detected one finds none.

    What stands above a table may have other separators, and more lines than the table.

    Raises
    ------
    InvalidDataError
        If no other separator finds them.
    """
    rows = [row for row in dialect.rows[:LAYOUT_LINES] if any(map(str.strip, row))]
    if not rows or any(_begins_as_number(cell) for row in rows for cell in row):
        return dialect
    plain = [" ".join(row) for row in rows]
    if 2 * sum(map(_holds_several, plain)) <= len(rows):
        return dialect
    shares: dict[str, float] = {}
    found: dict[str, Dialect] = {}
    for other in SEPARATORS:
        try:
            split = _spaced if other == " " else _split
            found[other] = split(lines, n_above, other, dialect.quote)
        except InvalidDataError:
            continue
        its_rows = [row for row in found[other].rows if len(row) == found[other].layout.n_cells]
        has_numbers = its_rows and all(any(map(_is_number_or_grouped, row)) for row in its_rows)
        if has_numbers and not _left_in_cells(found[other]):
            shares[other] = _share_read(its_rows)
    best = max(shares, key=lambda other: shares[other], default="")
    if best and shares[best] > FEWEST_READ:
        return found[best]
    at = dialect.skipped_lines
    raise InvalidDataError(
        f"No separator makes numbers of line {at + 1}: {lines[at].strip()[:80]!r}.",
        field="FILE",
        remedy="Remove the lines above the names, or say --separator.",
    )


def _share_read(rows: Sequence[Sequence[str]]) -> float:
    """Return the share of the cells that are numbers, times or missing."""
    cells = [cell.strip() for row in rows for cell in row]
    return sum(c in MISSING or is_time(c) or _is_number_or_grouped(c) for c in cells) / len(cells)


def _is_number_or_grouped(cell: str) -> bool:
    """Return whether a cell is a number, perhaps with spaces between its thousands."""
    cell = cell.strip()
    is_one = " " not in cell or _GROUPED.fullmatch(cell) is not None
    return _begins_as_number(cell) or (is_one and is_number(cell))


def _begins_as_number(cell: str) -> bool:
    """Return whether a cell is a number, with a unit behind it at most."""
    return is_written(cell.strip()) or _WITH_UNIT.fullmatch(cell.strip()) is not None


def _holds_several(line: str) -> bool:
    """Return whether a line plainly holds several numbers, or one beside a time."""
    words = [word for word in _BETWEEN.split(line) if word.strip('"')]
    times = [word for word in words if is_time(word) and not is_number(word)]
    numbers = [word for word in words if is_number(word)]
    n_decimals = sum(_FRACTION.search(word) is not None for word in numbers)
    n_others = sum(word not in MISSING for word in words) - len(times) - len(numbers)
    # A sentence has words between its numbers.
    is_plain = len(numbers) + bool(times) > 1 and not n_others
    return is_plain or (n_decimals + bool(times) > 1 and 2 * n_others <= len(numbers))


def _detected_dialect(lines: Sequence[str], n_above: int, shown: Sequence[str]) -> Dialect:
    """Return the dialect of a file below its comments, by the lines that the detector is shown."""
    table = lines[n_above:]
    if (plain := _plain_separator(table)) is not None:
        tried = _split(lines, n_above, plain, '"')
        if tried.skipped_lines == n_above + 1 and not _left_in_cells(tried):
            return tried
    if _is_named_column_of_commas(table):
        return _split(lines, n_above, _absent(lines), _quote(table, ""))
    dialect: Dialect | None = None
    for candidates in (SEPARATORS[:-1], SEPARATORS):
        found, quote = _detected(shown, candidates)
        if found is None or (found == " " and _are_grouped(table)):
            continue
        tried = (_spaced if found == " " else _split)(lines, n_above, found, quote)
        if found == " " and _is_date_and_more(tried):
            continue
        if tried.is_spaced and (better := _other_than_spaces(lines, n_above, tried)) is not None:
            return better
        if tried.layout.has_header or dialect is None or found == " ":
            dialect = tried
        if tried.layout.has_header:
            break
    if dialect is None or _is_one_column(dialect, lines):
        dialect = _split(lines, n_above, _absent(lines), _quote(table, ""))
    for other in _left_in_cells(dialect):
        # The detector knows no decimal commas: "60,5;1,5" may be three cells to it.
        tried = _split(lines, n_above, other, dialect.quote)
        is_named = tried.layout.has_header or not dialect.layout.has_header
        # What was taken for names may be the first row, as "1 358 454,9;940 512,8".
        # Words of a title are taken for names between spaces.
        is_named = is_named or tried.skipped_lines < dialect.skipped_lines
        is_named = is_named or dialect.is_spaced
        if is_named and tried.layout.n_cells > 1 and not _left_in_cells(tried):
            return tried
    return dialect


def _other_than_spaces(lines: Sequence[str], n_above: int, spaced: Dialect) -> Dialect | None:
    """Return the dialect that makes numbers of all cells with spaces in them; None if none does.

    Raises
    ------
    InvalidDataError
        If commas may be decimal marks between spaces, or separate cells.
    """
    for other in SEPARATORS[:-1]:
        try:
            tried = _split(lines, n_above, other, spaced.quote)
        except InvalidDataError:
            continue
        if tried.layout.n_cells < 2 or not _is_clean(tried):
            continue
        if other != "," or not _is_clean(spaced):
            return tried
        raise InvalidDataError(
            f"{lines[tried.skipped_lines]!r} may be {tried.layout.n_cells} numbers with commas "
            f"between them, or {spaced.layout.n_cells} with spaces.",
            field="FILE",
            remedy="Say --separator ',', or --separator space.",
        )
    return None


def _is_clean(dialect: Dialect) -> bool:
    """Return whether the first cells are whole numbers, times and missing values."""
    rows = [row for row in dialect.rows[:LAYOUT_LINES] if any(cell.strip() for cell in row)]
    cells = {cell.strip() for row in rows for cell in row}
    is_even = len(set(map(len, rows))) == 1
    return is_even and all(
        c in MISSING or is_written(c) or (is_time(c) and "," not in c) for c in cells
    )


def _mark_within(dialect: Dialect) -> str | None:
    """Return the decimal mark of the one number that each row may be; None if it is none.

    Two columns of whole numbers may be one with decimal commas, and several with three digits one
    with commas between thousands. Names tell, unless a sentence with a comma is split into two.
    """
    layout = dialect.layout
    if dialect.separator != "," or layout.n_cells < 2 or not dialect.rows:
        return None
    if layout.has_header and not dialect.is_sentence:
        return None
    rows = [row for row in dialect.rows[:LAYOUT_LINES] if any(cell.strip() for cell in row)]
    rows = [row for row in rows if len(row) > 1 or row[0].strip() not in MISSING]
    if all(_WITH_THOUSANDS.fullmatch(",".join(row).strip()) for row in rows):
        return "."
    is_decimal = all(
        len(row) == 2 and _WHOLE.fullmatch(row[0]) and _DECIMALS.fullmatch(row[1]) for row in rows
    )
    return "," if is_decimal else None


def _refuse_pairs(dialect: Dialect) -> None:
    """Check that commas do not both separate cells and stand within numbers, as in "12,5,13,7".

    Digits behind a decimal mark are as many in each row, and take all values.

    Raises
    ------
    InvalidDataError
        If they may, without names that would tell.
    """
    layout = dialect.layout
    if dialect.separator != "," or layout.has_header:
        return
    rows = [row for row in dialect.rows[:LAYOUT_LINES] if len(row) == layout.n_cells]
    columns = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]
    while columns and any(is_time(cell) and not is_number(cell) for cell in columns[0]):
        columns.pop(0)
    if len(columns) < 4 or len(columns) % 2 or len(rows) < 2:
        return
    pairs = list(zip(columns[::2], columns[1::2], strict=True))
    if all(_may_be_decimals(whole, digits) for whole, digits in pairs):
        raise InvalidDataError(
            f"{','.join(rows[0])!r} may be {len(columns)} numbers, or {len(pairs)} with decimal "
            "commas.",
            field="FILE",
            remedy="Say --separator ',' for the first; for the second, write it with semicolons "
            "between the cells.",
        )


def _may_be_decimals(whole: Sequence[str], digits: Sequence[str]) -> bool:
    """Return whether a column may be the digits behind the decimal comma of another."""
    sizes = set(map(len, digits))
    if not all(map(_WHOLE.fullmatch, whole)) or not all(map(str.isdigit, digits)):
        return False
    different = len(set(digits))
    if len(sizes) > 1 or different == 1:
        return False
    [size] = sizes
    numbers = list(map(int, digits))
    if size == 1:
        return 2 * different > min(len(digits), 10)
    return 2 * (max(numbers) - min(numbers)) > 10**size or any(d[0] == "0" for d in digits)


def _is_named_column_of_commas(lines: Sequence[str]) -> bool:
    """Return whether one name stands above numbers with decimal commas, as "rms" above "0,52".

    Above what may be two whole numbers, several words are a title, and no name of a column.
    """
    some = [line.strip().strip('"') for line in lines[:LAYOUT_LINES] if line.strip()]
    first = next((i for i, line in enumerate(some) if _DECIMAL_COMMA.fullmatch(line)), 0)
    names, readings = some[:first], some[first:]
    if not names or any(s in line for line in names for s in SEPARATORS[:-1]):
        return False
    is_title = any(len(_UNIT.sub("", line).split()) > 1 for line in names)
    if is_title and not any(map(_NO_TWO_NUMBERS.search, readings)):
        return False
    return all(_DECIMAL_COMMA.fullmatch(line) or "," not in line for line in readings)


def _absent(lines: Sequence[str]) -> str:
    """Return a separator that occurs in no line."""
    return next((s for s in SEPARATORS if not any(s in line for line in lines)), "\x1f")


def separator_reasons(
    dialect: Dialect, lines: Sequence[str], stated: str | None = None
) -> list[str]:
    """Return sentences on the separator, and on what others would make of the same lines.

    Parameters
    ----------
    dialect : Dialect
        As found.
    lines : sequence of str
        The first lines of the file.
    stated : str, optional
        The separator that the user states.
    """
    body = [line for line in lines[dialect.skipped_lines :] if line.strip()]
    others = [
        f"{_in_words(other)} would make {_counts(body, other, dialect.quote)}"
        for other in SEPARATORS
        if other != dialect.separator and any(other in line for line in body)
    ]
    if len(dialect.layout.names) == 1:
        found = "There is one column: no separator splits all rows alike"
    else:
        said = ", as stated" if stated is not None else ""
        made = _counts(body, dialect.separator, dialect.quote)
        n_columns, n_cells = len(dialect.layout.names), dialect.layout.n_cells
        if n_cells > n_columns:
            end = "one" if n_cells == n_columns + 1 else "several"
            made = f"{n_columns} columns; each line has {n_cells} cells, since it ends in {end}"
        elif not body:
            made = f"{n_columns} columns"
        found = (
            f"{_in_words(dialect.separator).capitalize()} stand between the cells{said}: they make "
            f"{made}"
        )
    return [found, *(f"Not chosen: {other}" for other in others)]


def _in_words(separator: str) -> str:
    names = {
        ALIGNED: "several spaces",
        ",": "commas",
        ";": "semicolons",
        "\t": "tabs",
        "|": "bars",
        " ": "spaces",
    }
    return names.get(separator, repr(separator))


def _counts(lines: Sequence[str], separator: str, quote: str) -> str:
    """Return how many cells a separator makes of each line, in words."""
    try:
        rows, _ = _cells(lines, separator, quote)
    except InvalidDataError:
        return "no rows"
    sizes = sorted({len(row) for row in rows})
    if len(sizes) == 1:
        return f"{sizes[0]} cell{'' if sizes[0] == 1 else 's'} of each row"
    return f"{sizes[0]} to {sizes[-1]} cells of a row" if sizes else "no rows"


def _plain_separator(lines: Sequence[str]) -> str | None:
    """Return the separator of a table that leaves no doubt; None if it leaves some.

    Its first line has names only, and all lines have equally many of one separator, and not of
    another. The detector would find the same, but takes a third of a second to be imported.
    """
    some = [line for line in lines[:LAYOUT_LINES] if line.strip()]
    if len(some) < FEWEST_LINES or any("'" in line or line.count('"') % 2 for line in some):
        return None
    bare = [_QUOTED.sub("", line) if '"' in line else line for line in some]
    others = [s for s in SEPARATORS[:-1] if s in some[0]]
    if len(others) != 1:
        return None
    [separator] = others
    if len({line.count(separator) for line in bare}) != 1 or separator not in bare[0]:
        return None
    [names], _ = _cells(some[:1], separator, '"')
    return (
        None if any(is_number(name) or is_time(name) or not name for name in names) else separator
    )


def _detected(lines: Sequence[str], separators: Sequence[str]) -> tuple[str | None, str]:
    from clevercsv.detect import Detector

    found = Detector().detect(_sniffed(lines), delimiters=list(separators))
    if found is None or not found.delimiter:
        return None, ""
    return found.delimiter, _quote(lines, found.quotechar)


def _quote(lines: Sequence[str], detected: str | None) -> str:
    """Return the quote: quotation marks, or apostrophes if most lines have them."""
    if detected != "'" or any('"' in line for line in lines):
        return '"'
    return "'" if 2 * sum("'" in line for line in lines) > len(lines) else '"'


def _sniffed(lines: Sequence[str]) -> str:
    """Return enough lines to see the dialect: the detector's time grows with the characters.

    What stands in quotation marks says nothing about the separator, and is left out.
    """
    chosen: list[str] = []
    size = 0
    for line in lines:
        if size > SNIFFED_CHARACTERS and len(chosen) >= SNIFFED_LINES:
            break
        chosen.append(_QUOTED.sub("0", line))
        size += len(line) + 1
    return "\n".join([*chosen, ""])


def _spaced(lines: Sequence[str], n_above: int, separator: str, quote: str) -> Dialect:
    """Split lines at spaces: at several in a row, if these make as many names as cells.

    Raises
    ------
    InvalidDataError
        If names of several words make as many cells as dates with a time of day.
    """
    if _has_units_below_names(lines, n_above):
        return _split(lines, n_above, separator, quote)
    try:
        aligned = _split(lines, n_above, ALIGNED, quote)
    except InvalidDataError:
        return _split(lines, n_above, separator, quote)
    layout = aligned.layout
    # A single cell is a line below the table.
    is_even = all(len(row) == layout.n_cells for row in aligned.rows if len(row) > 1)
    if layout.n_cells > 1 and layout.has_header and is_even:
        return aligned
    try:
        single = _split(lines, n_above, separator, quote)
    except InvalidDataError as error:
        remedy = "Write it with semicolons between the cells."
        raise InvalidDataError(error.message, field=error.field, remedy=remedy) from error
    names = lines[single.skipped_lines - 1] if single.skipped_lines else ""
    n_named = len(_SEVERAL_SPACES.split(names.strip()))
    if single.layout.has_header and 1 < n_named < single.layout.n_cells:
        raise InvalidDataError(
            f"Line {single.skipped_lines} may name {n_named} columns, or "
            f"{single.layout.n_cells}: {names.strip()!r}.",
            field="FILE",
            remedy="Write it with semicolons between the cells, or say --separator space if "
            "each word names a column.",
        )
    return single


def _has_units_below_names(lines: Sequence[str], n_above: int) -> bool:
    """Return whether two comments and the first row have as many words: each names a column."""
    head = [COMMENT.sub("", line).split() for line in lines[:n_above][-2:]]
    row = next((line.split() for line in lines[n_above:] if line.strip()), [])
    return len(head) == 2 and {len(words) for words in head} == {len(row)} and are_units(head[1])


def _split(lines: Sequence[str], n_above: int, separator: str, quote: str) -> Dialect:
    """Split lines into cells, and find the table in them."""
    rows, ends = _cells(lines[n_above:], separator, quote, n_above)
    if not separator.strip(" "):
        rows = _with_aligned_units(rows, lines[n_above:], ends)
    layout, n_before = find_layout(rows[:LAYOUT_LINES], n_above), n_above
    head = (
        []
        if layout.has_header
        else _head_in_comments(lines[:n_above], separator, quote, layout.n_cells)
    )
    if head:
        while not COMMENT.sub("", lines[n_before - 1]).strip():
            n_before -= 1
        rows, ends, n_before = [*head, *rows], [0] * len(head) + ends, n_before - len(head)
        layout = find_layout(rows[:LAYOUT_LINES], n_before)
    skipped = n_above + (ends[layout.first - 1] if layout.first else 0)
    notes = tuple(_with_line(note, n_before) for note in layout.notes)
    layout = replace(layout, notes=notes)
    # Units of one column may stand between its name and its readings.
    names = next((row for row in reversed(rows[: layout.first]) if len(row) > 1), [])
    is_sentence = all(cell.startswith(" ") for cell in names[1:])
    rows = rows[layout.first :]
    if layout.lacks_last:
        rows = [[*row, ""] if len(row) == layout.n_cells - 1 else row for row in rows]
    return Dialect(separator, quote, layout, skipped, rows, is_sentence)


def _with_aligned_units(
    rows: list[list[str]], lines: Sequence[str], ends: Sequence[int]
) -> list[list[str]]:
    """Return rows with each unit of an incomplete line below the name that it is aligned with."""
    for at in range(1, min(len(rows), MOST_ABOVE)):
        units, names = rows[at], rows[at - 1]
        if not 1 < len(units) < len(names) or not are_units(units) or are_units(names):
            continue
        spans = [
            [match.span() for match in re.finditer(r"\S+", lines[ends[i] - 1])]
            for i in (at - 1, at)
        ]
        if list(map(len, spans)) != [len(names), len(units)]:
            continue
        below = [
            next((k for k, (a, b) in enumerate(spans[0]) if a < end and begin < b), -1)
            for begin, end in spans[1]
        ]
        if -1 not in below and len(set(below)) == len(below):
            aligned = [""] * len(names)
            for place, unit in zip(below, units, strict=True):
                aligned[place] = unit
            return [*rows[:at], aligned, *rows[at + 1 :]]
    return rows


def _head_in_comments(
    comments: Sequence[str], separator: str, quote: str, n_cells: int
) -> list[list[str]]:
    """Return the cells of the last comment, if it may hold names, and of the one above units.

    Comments without a word stand below them.
    """
    found: list[list[str]] = []
    for line in reversed(comments):
        if not found and not COMMENT.sub("", line).strip():
            continue
        cells = next(iter(_cells([COMMENT.sub("", line)], separator, quote)[0]), [])
        if len(cells) != n_cells or any(map(is_number, cells)):
            break
        found.insert(0, cells)
        if not are_units(cells):
            break
    return found


def _with_line(note: str, n_above: int) -> str:
    """Return a note whose lines count from the first of the file."""
    if not note.startswith("Line"):
        return note
    return re.sub(r"\d+", lambda match: str(int(match[0]) + n_above), note)


def _cells(
    lines: Sequence[str], separator: str, quote: str, n_above: int = 0
) -> tuple[list[list[str]], list[int]]:
    """Split lines into cells; also return the number of the last line of each row."""
    if separator.isspace():
        lines = [without_spaces(line, separator) for line in lines]
    reader = csv.reader(
        io.StringIO("\n".join(lines)), delimiter=parsed_separator(separator), quotechar=quote
    )
    rows, ends = [], []
    try:
        for row in reader:
            rows.append(row)
            ends.append(reader.line_num)
            if len(rows) >= MOST_ROWS:
                break
    except csv.Error as error:
        opened = n_above + (ends[-1] if ends else 0) + 1
        raise InvalidDataError(
            f"A cell that begins in line {opened} does not end.",
            field="FILE",
            remedy="Close the quotation mark that is left open there, or remove it.",
        ) from error
    return rows, ends


def parsed_separator(separator: str) -> str:
    """Return the single character that separates the cells of changed lines."""
    return "\t" if separator == ALIGNED else separator


def without_spaces(line: str, separator: str) -> str:
    """Return a line with one separator in place of several spaces, and none at its ends."""
    if separator == "\t":
        return line
    if separator == ALIGNED:
        return _SEVERAL_SPACES.sub("\t", line.strip())
    return re.sub(r"[ \t]+", " ", line.strip())


def _n_comments(lines: Sequence[str]) -> int:
    """Return the number of comment lines above the table."""
    return next((i for i, line in enumerate(lines) if not COMMENT.match(line)), 0)


def _left_in_cells(dialect: Dialect) -> list[str]:
    """Return the separators that stand between digits within the first readings' cells.

    A comma may be a decimal mark there, unless it makes no number of what spaces separate.
    """
    cells = [cell for row in dialect.rows[:SNIFFED_LINES] for cell in row]
    others = [s for s in SEPARATORS[1:-1] if s != dialect.separator]
    if dialect.is_spaced and any(is_number(c) and not is_written(c) for c in cells):
        others.append(",")
    return [
        s for s in others if any(re.search(rf"[\dZ]{re.escape(s)}([-+\d]|$)", c) for c in cells)
    ]


def _is_date_and_more(dialect: Dialect) -> bool:
    """Return whether spaces split only dates from times of day, with other cells behind these."""
    return any(_TIME_AND_MORE.search(cell) for row in dialect.rows[:1] for cell in row)


def _are_grouped(lines: Sequence[str]) -> bool:
    """Return whether each line below the names is one number, with spaces between its thousands.

    Raises
    ------
    InvalidDataError
        If each may as well be several whole numbers.
    """
    cells = [line.strip() for line in lines if line.strip()]
    first = next((i for i, cell in enumerate(cells) if _GROUPED.fullmatch(cell)), len(cells))
    cells = cells[first:]
    grouped = [cell for cell in cells if _GROUPED.fullmatch(cell)]
    others = [cell for cell in cells if not _GROUPED.fullmatch(cell) and " " in cell]
    if not grouped or len(others) > len(grouped) // 10:
        return False
    if len(grouped) < len(cells) or any(map(_PROOF.match, grouped)):
        return True
    raise InvalidDataError(
        f"{grouped[0]!r} may be one number, or several with spaces between them.",
        field="FILE",
        remedy="Say --separator space for several; write one without spaces.",
    )


def _is_one_column(dialect: Dialect, lines: Sequence[str]) -> bool:
    """Return whether only the name of a single column, or spaces in its numbers, were split."""
    layout = dialect.layout
    if layout.n_cells == 1:
        return True
    above = lines[dialect.skipped_lines - 1] if dialect.skipped_lines else ""
    above = "" if is_ruler([above]) else above
    is_name = bool(above.strip()) and dialect.separator not in above.strip()
    is_name = is_name and not is_number(above)
    return dialect.is_spaced and not layout.has_header and is_name
