"""Tell the columns of a table that are no sensors: row numbers, clocks, counters, labels, text.

The values decide; a name breaks ties only. The rules, for columns of numbers:

- A *row number* goes up or down by one constant step in every row. It may start anew, or jump,
  after at least ten steps on average. Whole numbers that are a permutation of consecutive ones are
  row numbers too: those of shuffled rows. A noise sensor has no constant step.
- A *counter* never falls, and a *clock* is one with nearly even steps. Without a name that says
  so, it has to rise ``RISES`` times without a fall; a random walk does so once in 2 ** 100 columns.
  A ramp stays a sensor if it slows down or flattens out, as warming up does; if its slope changes
  smoothly; or if large steps follow small ones, as noise about a slope makes them: of ramps in 120
  rows whose noise is a tenth of their rise per row, 4 in 1,000 are taken for clocks, and none in
  10,000 from four tenths on. One that rises evenly and without noise all through the training
  cannot be told from a counter, and would be as useless: every later value is new. With a name,
  ``NAMED_RISES`` rises are enough.
- A counter may fall back to its lowest value up to ``RESETS`` times. More often, it is a sensor in
  the form of a saw-tooth, such as the wear of a tool, whose whole range the training has seen.
- A *label* is 0 in most rows, in few runs, and named like a label. A digital tag with two values
  is a *switch*, which is a sensor.
- A *code* is whole numbers under a name such as "StatusWord", or qualities of OPC under one such as
  "Temp_Quality"; one that is 0 or 1 is a switch.
- An *identifier* changes exactly where the row numbers or the clock start anew; or is made of whole
  numbers and named like an identifier; or holds large numbers that are all different, evenly
  spread and without order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vigie.tables import names
from vigie.tables.qualities import is_code

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

FEWEST = 20
"""Fewest values that show a row number or an identifier."""
STEPS_A_RUN = 10
"""Steps of a row number for each time that it starts anew, on average."""
RISES, NAMED_RISES, RESETS = 100, 8, 2
PARTS, SLOWED = 8, 1.5
"""Parts of a ramp; the steepest is at least this many times as steep as the flattest."""
CALM, ALTERNATING, SMOOTH = 0.05, -0.3, 0.99
"""Spread of even steps, by their mean; limits of the correlation of a counter's steps."""
EVEN, EVEN_SHARE = 2.0, 0.95
"""Steps of a clock lie within this factor of the median, in this share of the rows."""
FEWEST_PARTS = 3
"""Parts of a date, no finer than a minute, that stand in columns of their own."""
DROPOUTS = 0.1
"""Share of zeros among the values of a counter."""
MOST_CLASSES, RUNS_A_ROW = 20, 0.1
ROWS_A_MACHINE = 10
"""Rows for each value of a column that is named like a machine; "engine" may be its speed."""
LARGE = 1e8
"""Whole numbers from here on may be identifiers."""
SPREAD = 1.36
"""Limit of Kolmogorov and Smirnov at 5 %, to be divided by the root of the number of values."""
EPOCHS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
EPOCH = (946_684_800.0, 4_102_444_800.0)
"""Seconds since 1970 of the years 2000 and 2100."""
_TIME = re.compile(r"\s*(\d{1,4}([-/.])\d{1,2}\2\d{1,4}(?!\d)|\d{1,2}:\d{2}(?!\d))")
_PART_OF_A_SECOND = re.compile(r"\b1/(10{1,6}) ?s")
SHOWN_WORDS, SHOWN_LETTERS = 3, 24
SHOWN_NAMES = 3
MOST_TEXTS = 1000
"""Different texts of a column that are looked at."""


class Kind(StrEnum):
    """What a column is; sensors and switches are features of a model."""

    SENSOR = "sensor"
    SWITCH = "switch"
    CLOCK = "clock"
    ROW_NUMBER = "row number"
    COUNTER = "counter"
    CONSTANT = "constant"
    EMPTY = "empty"
    LABEL = "label"
    CODE = "code"
    IDENTIFIER = "identifier"
    TEXT = "text"


_COMMON_REASON = {
    Kind.CLOCK: "clocks",
    Kind.ROW_NUMBER: "row numbers",
    Kind.COUNTER: "counters",
    Kind.CONSTANT: "always the same value",
    Kind.LABEL: "labels",
    Kind.CODE: "qualities and codes",
    Kind.IDENTIFIER: "identifiers",
}


@dataclass(frozen=True)
class Column:
    """A column of a table, what it is, and why, in a short phrase without a capital letter."""

    name: str
    kind: Kind
    reason: str

    @property
    def is_feature(self) -> bool:
        """Whether it holds readings."""
        return self.kind in (Kind.SENSOR, Kind.SWITCH)


def kinds(frame: pd.DataFrame, clock: Collection[str] = ()) -> list[Column]:
    """Tell what each column of a table is.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        Numbers as float64 with NaN for missing cells, text as str with None; rows in their order.
    clock : collection of str, optional
        The columns that hold the times of the rows.

    Returns
    -------
    list of Column
        One for each column, in their order. A table of one row has sensors, text and empty
        columns only.
    """
    columns, starts = [], set[int]()
    for place, name in enumerate(map(str, frame.columns)):
        series = frame.iloc[:, place]
        if name in clock:
            found = Column(name, Kind.CLOCK, "the time")
        elif not _is_numeric(series):
            found = _of_text(name, series)
        else:
            values = _numbers(series)
            # Steps between the largest floats overflow.
            with np.errstate(over="ignore", invalid="ignore"):
                found = _of_numbers(name, values)
            if found.kind in (Kind.ROW_NUMBER, Kind.CLOCK):
                starts.update(_starts_anew(values).tolist())
        columns.append(found)
    columns = _with_parts_of_dates(frame, columns)
    if starts:
        at = np.array(sorted(starts), dtype=np.intp)
        columns = [_at_starts(c, frame.iloc[:, i], at) for i, c in enumerate(columns)]
    return columns


def without_changepoints(labels: Sequence[str]) -> list[str]:
    """Return the names of labels without those that mark the beginning of a fault only.

    Such as the column ``changepoint`` of SKAB; it is kept where no other label is.
    """
    lasting = [name for name in labels if not names.has(name, names.CHANGEPOINT)]
    return lasting or list(labels)


def left_out_line(columns: Iterable[Column]) -> str | None:
    """Return one line that names the columns that are no features, and why; None if all are.

    Columns with the same reason stand together: "spare_1, spare_2 and 38 more (no value)".
    """
    left_out = [column for column in columns if not column.is_feature]
    reasons: dict[str, set[str]] = {}
    for column in left_out:
        reasons.setdefault(_common_reason(column), set()).add(column.reason)
    groups: dict[str, list[str]] = {}
    for column in left_out:
        common = _common_reason(column)
        reason = common if len(reasons[common]) > SHOWN_NAMES else column.reason
        groups.setdefault(reason, []).append(column.name)
    listed = [f"{_listed(found)} ({reason})" for reason, found in groups.items()]
    return f"Left out: {', '.join(listed)}" if listed else None


def _common_reason(column: Column) -> str:
    """Return a reason without its example, such as the words of a text."""
    return _COMMON_REASON.get(column.kind) or column.reason.partition(":")[0]


def _listed(found: Sequence[str]) -> str:
    if len(found) == 1:
        return found[0]
    if len(found) <= SHOWN_NAMES:
        return f"{', '.join(found[:-1])} and {found[-1]}"
    return f"{', '.join(found[:2])} and {len(found) - 2} more"


# Text


def _of_text(name: str, series: pd.Series[Any]) -> Column:
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(series):
        return Column(name, Kind.CLOCK, "times") if series.notna().any() else _empty(name)
    codes, found = pd.factorize(series)
    n_values = int((codes >= 0).sum())
    n_texts, texts = len(found), [str(word) for word in found[:MOST_TEXTS]]
    if not texts:
        return _empty(name)
    if n_texts == 1 and n_values > 1:
        return Column(name, Kind.CONSTANT, f"always {_short(texts[0])}")
    if all(_TIME.match(text) for text in texts[:100]):
        return Column(name, Kind.CLOCK, f"times: {_short(texts[0])} ...")
    if n_values >= FEWEST and n_texts == n_values:
        return Column(
            name, Kind.IDENTIFIER, f"text, different in every row: {_short(texts[0])} ..."
        )
    if names.names_a_machine(name) or names.ends_with(name, names.IDENTIFIER):
        return Column(name, Kind.IDENTIFIER, f"names: {_examples(texts, n_texts)}")
    is_number = pd.to_numeric(pd.Series(texts), errors="coerce").notna().to_numpy()
    if n_texts > 2 and is_number.mean() > 0.5 and not is_number.all():
        others = [text for text, number in zip(texts, is_number, strict=True) if not number]
        return Column(name, Kind.TEXT, f"text among numbers: {_examples(others, len(others))}")
    return Column(name, Kind.TEXT, f"text: {_examples(texts, n_texts)}")


def _examples(texts: Sequence[str], n_texts: int) -> str:
    shown = ", ".join(map(_short, texts[:SHOWN_WORDS]))
    return shown + (f" and {n_texts - SHOWN_WORDS} more" if n_texts > SHOWN_WORDS else "")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_LETTERS else text[: SHOWN_LETTERS - 3] + "..."


def _empty(name: str) -> Column:
    return Column(name, Kind.EMPTY, "no value")


# Numbers


def _is_numeric(series: pd.Series[Any]) -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(series)


def _numbers(series: pd.Series[Any]) -> Floats:
    """Return the values of a column as float64, NaN where they are missing or infinite."""
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    is_finite = np.isfinite(values)
    return values if is_finite.all() else np.where(is_finite, values, np.nan)


def _plain(value: float) -> str:
    """Return a number as a person writes it: without ".0", and with six digits at most."""
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def _of_numbers(name: str, values: Floats) -> Column:
    rows = np.flatnonzero(~np.isnan(values))
    x = values if len(rows) == len(values) else values[rows]
    if len(x) == 0:
        return _empty(name)
    low, high = float(x.min()), float(x.max())
    if len(values) == 1:
        return Column(name, Kind.SENSOR, "numbers")
    if low == high:
        return Column(name, Kind.CONSTANT, f"always {_plain(low)}")
    is_whole = bool(np.all(x == np.floor(x)))
    if is_whole and _is_label(name, x, low, high):
        two = "0/1" if high == 1 else "mostly 0"
        return Column(name, Kind.LABEL, f"{two} and named like a label")
    if is_whole and low >= 0 and is_code(name, x):
        return Column(name, Kind.CODE, f"whole numbers such as {_plain(high)}, named like a code")
    is_two = bool(np.all((x == low) | (x == high)))
    if is_whole and _is_calendar(name, x, low, high) and (not is_two or _turns_once(x)):
        return Column(name, Kind.CLOCK, "part of the date")
    if not is_whole and names.has(name, names.YEAR) and _are_decimal_years(x, low, high):
        return Column(name, Kind.CLOCK, "years with decimals")
    if is_two:
        return Column(name, Kind.SWITCH, f"two values: {_plain(low)}, {_plain(high)}")
    found = _in_order(name, x, rows)
    if found is None and low == 0 and np.mean(x == 0) <= DROPOUTS:
        # A counter whose connection fails reads 0 for a moment.
        found = _in_order(name, x[x != 0], rows[x != 0])
    if found is None and is_whole:
        found = _of_whole(name, x, low, high)
    return found or Column(name, Kind.SENSOR, "numbers")


def _are_decimal_years(x: Floats, low: float, high: float) -> bool:
    """Return whether all values can be years, and go on from row to row."""
    least, most = names.CALENDAR["year"]
    steps = np.diff(x)
    return least <= low and high <= most and bool((steps > 0).all() or (steps < 0).all())


def _in_order(name: str, x: Floats, rows: Rows) -> Column | None:
    """Return a column whose values follow from the order of the rows."""
    steps, gaps = np.diff(x), np.diff(rows)
    # Nearly every sensor ends here: half of its steps are falls.
    n_up, n_down = int((steps > 0).sum()), int((steps < 0).sum())
    if min(n_up, n_down) * STEPS_A_RUN > max(n_up, n_down):
        return None
    return _row_number(name, x, steps, gaps) or _counter(name, x, steps, gaps)


def _row_number(name: str, x: Floats, steps: Floats, gaps: Rows) -> Column | None:
    step = _constant_step(x, steps, gaps)
    if step is None:
        return None
    if (unit := _epoch_unit(x)) and step > 0:
        return Column(name, Kind.CLOCK, f"{unit} since 1970")
    if names.has(name, names.CLOCK) and step > 0:
        return Column(name, Kind.CLOCK, f"goes up by {_plain(step)} from row to row, like a clock")
    by = "one" if abs(step) == 1 else _plain(abs(step))
    again = ", and starts anew" if np.any(steps * step < 0) else ""
    way = "up" if step > 0 else "down"
    return Column(name, Kind.ROW_NUMBER, f"goes {way} by {by} from row to row{again}")


def _constant_step(x: Floats, steps: Floats, gaps: Rows) -> float | None:
    """Return the step of a row number; None for other columns."""
    if len(x) < FEWEST:
        return None
    step = float(np.median(steps / gaps))
    # Times such as 0.1, 0.2, 0.3 have steps that differ in their last binary digits.
    tolerance = 1e-6 * abs(step) + 4 * np.finfo(float).eps * max(abs(x.min()), abs(x.max()))
    differs = np.abs(steps - step * gaps) > tolerance
    n_starts = int(differs.sum())
    is_row_number = (
        step != 0
        and n_starts * STEPS_A_RUN <= len(steps) - n_starts
        # It jumps where rows were left out, and stands still nowhere.
        and bool(np.all(steps[differs] != 0))
    )
    return step if is_row_number else None


def _counter(name: str, x: Floats, steps: Floats, gaps: Rows) -> Column | None:
    """Return a counter, or a clock of uneven steps: it never falls, but where it starts anew."""
    is_reset = steps < 0
    n_resets, n_rises = int(is_reset.sum()), int((steps > 0).sum())
    unit = _epoch_unit(x)
    is_clock = unit is not None or names.has(name, names.CLOCK)
    is_named = is_clock or names.has(name, names.COUNTER)
    needed = (NAMED_RISES if is_named else RISES) * (n_resets + 1)
    if n_rises < needed or n_resets > RESETS:
        return None
    usual = float(np.quantile(steps[steps > 0], 0.99))
    if np.any(x[1:][is_reset] > x.min() + usual):
        return None
    if not is_named and (_is_ramp(x) or _is_reading(steps / gaps)):
        return None
    again = ", and starts anew" if n_resets else ""
    if unit:
        return Column(name, Kind.CLOCK, f"{unit} since 1970")
    if _is_even(steps, gaps) and (is_clock or not names.has(name, names.COUNTER)):
        return Column(name, Kind.CLOCK, f"goes up in nearly even steps, like a clock{again}")
    return Column(name, Kind.COUNTER, f"never falls, like a counter{again}")


def _is_even(steps: Floats, gaps: Rows) -> bool:
    rates = steps / gaps
    usual = np.median(rates)
    return bool(
        np.mean((rates >= usual / EVEN) & (rates <= usual * EVEN) & (rates > 0)) > EVEN_SHARE
    )


def _is_ramp(x: Floats) -> bool:
    """Return whether values flatten out, or rise in one slope, as a machine that warms up does."""
    at = np.linspace(0, len(x) - 1, PARTS + 1).round().astype(int)
    rises = np.diff(x[at])
    peak = int(rises.argmax())
    changes = np.diff(rises)
    # A coarse sensor that flattens out moves a step now and then.
    steps = np.diff(x)
    step = np.median(steps[steps > 0])
    has_one_slope = bool(np.all(changes[:peak] >= -step) and np.all(changes[peak:] <= step))
    return bool(has_one_slope and rises.max() >= SLOWED * rises.min())


def _is_reading(steps: Floats) -> bool:
    """Return whether values follow a smooth curve, or scatter about one.

    About a curve, a large step follows a small one; on it, each one is like the one before. Those
    of a coarse counter are so too, but take few values.
    """
    mean, spread = steps.mean(), steps.std()
    if spread <= CALM * mean or len(np.unique(np.round(steps / steps.max(), 6))) <= 3:
        return False
    centred = steps - mean
    first, second = centred[:-1], centred[1:]
    together = 2 * (first @ second) / (first @ first + second @ second)
    return bool(together < ALTERNATING or together > SMOOTH)


def _epoch_unit(x: Floats) -> str | None:
    """Return the unit of times since 1970, if these may be such: years 2000 to 2100."""
    low, high = x.min(), x.max()
    for unit, scale in EPOCHS.items():
        if EPOCH[0] * scale <= low and high <= EPOCH[1] * scale:
            return unit
    return None


def _is_label(name: str, x: Floats, low: float, high: float) -> bool:
    if low != 0 or high > MOST_CLASSES or not names.has(name, names.LABEL):
        return False
    runs = np.count_nonzero(np.diff(x, prepend=0.0) > 0)
    return bool(np.mean(x == 0) >= 0.5 and runs <= max(1.0, RUNS_A_ROW * len(x)))


def _of_whole(name: str, x: Floats, low: float, high: float) -> Column | None:
    """Return an identifier, or shuffled row numbers, of whole numbers."""
    if len(x) < FEWEST:
        return None
    if names.ends_with(name, names.IDENTIFIER) or (
        names.names_a_machine(name) and len(np.unique(x)) * ROWS_A_MACHINE <= len(x)
    ):
        return Column(name, Kind.IDENTIFIER, "whole numbers, and named like an identifier")
    is_shuffled = high - low == len(x) - 1
    if not is_shuffled and low < LARGE:
        return None
    ordered = np.sort(x)
    if np.any(ordered[1:] == ordered[:-1]):
        return None
    if is_shuffled:
        return Column(name, Kind.ROW_NUMBER, "each whole number once")
    if _is_random(x, ordered):
        return Column(name, Kind.IDENTIFIER, "large numbers, all different and without order")
    return None


def _is_calendar(name: str, x: Floats, low: float, high: float) -> bool:
    found = [word for word in names.words(name) if not word.isdigit()]
    least, most = names.CALENDAR.get(found[-1], (np.inf, -np.inf)) if found else (0.0, 0.0)
    if part := _PART_OF_A_SECOND.search(name):
        least, most = 0, int(part[1]) - 1
    steps = np.diff(x)
    # Later is higher, but for the turn of the year, the month or the day.
    turns, rises = np.count_nonzero(steps < 0), steps[steps > 0].sum()
    return bool(least <= low and high <= most and (turns - 1) * (high - low) <= rises)


def _with_parts_of_dates(frame: pd.DataFrame, columns: list[Column]) -> list[Column]:
    """Return the columns, those as clocks that are parts of the date by their names together."""
    parts = [
        place
        for place, column in enumerate(columns)
        if column.kind in (Kind.SENSOR, Kind.SWITCH, Kind.COUNTER, Kind.CLOCK, Kind.CONSTANT)
        and _may_be_part(column.name, frame.iloc[:, place])
    ]
    coarse = [place for place in parts if names.words(columns[place].name)[0] in names.COARSE]
    if len(coarse) < FEWEST_PARTS:
        return columns
    return [
        Column(column.name, Kind.CLOCK, "part of the date")
        if place in parts and column.is_feature
        else column
        for place, column in enumerate(columns)
    ]


def _may_be_part(name: str, series: pd.Series[Any]) -> bool:
    """Return whether a name is the word for a part of the date, and the values lie in its range."""
    found = names.words(name)
    if len(found) != 1 or found[0] not in names.CALENDAR or not _is_numeric(series):
        return False
    values = _numbers(series)
    values = values[~np.isnan(values)]
    least, most = names.CALENDAR[found[0]]
    return bool(len(values) and least <= values.min() and values.max() <= most)


def _turns_once(x: Floats) -> bool:
    """Return whether two values stand in one block each, or one of them in two."""
    return bool(np.count_nonzero(np.diff(x)) <= 2)


def _is_random(x: Floats, ordered: Floats) -> bool:
    """Return whether large numbers are spread evenly, and without order; readings are not."""
    n = len(x)
    share = (ordered - ordered[0]) / (ordered[-1] - ordered[0])
    distance = np.abs(share - np.arange(n) / (n - 1)).max()
    centred = x - x.mean()
    together = float(centred[1:] @ centred[:-1] / (centred @ centred))
    is_even = n >= 5 * FEWEST and distance < SPREAD / n**0.5
    return bool(is_even and abs(together) < 3 / n**0.5)


# Tables of several machines


def _starts_anew(values: Floats) -> Rows:
    """Return the rows in which a row number or clock starts anew."""
    rows = np.flatnonzero(~np.isnan(values))
    steps = np.diff(values[rows])
    rises, falls = steps > 0, steps < 0
    backwards = falls if rises.sum() >= falls.sum() else rises
    # Shuffled row numbers go backwards everywhere.
    is_ordered = backwards.sum() * STEPS_A_RUN <= len(steps)
    return np.asarray(rows[1:][backwards & is_ordered], dtype=np.intp)


def _at_starts(column: Column, series: pd.Series[Any], starts: Rows) -> Column:
    """Judge a column again, now that the first rows of all machines but the first are known."""
    if column.kind in (Kind.SENSOR, Kind.SWITCH, Kind.TEXT, Kind.COUNTER):
        if _changes_at(series, starts):
            return Column(column.name, Kind.IDENTIFIER, "changes where the row number starts anew")
        if column.kind is Kind.SENSOR and _is_numeric(series):
            return _counter_of_machines(column, _numbers(series), starts)
    return column


def _changes_at(series: pd.Series[Any], starts: Rows) -> bool:
    import pandas as pd

    codes = pd.factorize(series)[0]
    changes = np.flatnonzero(codes[1:] != codes[:-1]) + 1
    return bool((codes >= 0).all()) and np.array_equal(changes, starts)


def _counter_of_machines(column: Column, values: Floats, starts: Rows) -> Column:
    """Return a counter if it is one on the machine with the most rows, and falls on none."""
    parts = np.split(values, starts)
    longest = _of_numbers(column.name, max(parts, key=len))
    falls = any(np.any(np.diff(part[~np.isnan(part)]) < 0) for part in parts)
    return longest if longest.kind in (Kind.COUNTER, Kind.CLOCK) and not falls else column
