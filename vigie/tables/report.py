"""What was understood of a table, before anything is trained on it.

Rows count from 0 in the attributes, and from 1 in sentences. Times are UTC, as ISO 8601.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vigie.tables import names
from vigie.tables.kinds import Column, Kind, without_changepoints
from vigie.tables.options import UNSTATED, ReadOptions
from vigie.tables.origin import Origin
from vigie.tables.report_words import summary
from vigie.tables.shape import LongFormat, mixed_rates
from vigie.tables.stated import as_arguments, duration

if TYPE_CHECKING:
    import pandas as pd

    from vigie.tables.machines import Machine
    from vigie.tables.table import Table

Floats = NDArray[np.float64]
FrozenRuns = Callable[[Floats], Sequence[tuple[int, int]]]
"""From the readings of a sensor, shape (n_rows,), to the first and last row of each frozen run."""

REGULAR, NEAR = 0.9, 0.1
"""Share of the steps that lie this near the usual one, if rows come regularly."""
GAP, IRREGULAR_GAP = 1.5, 10.0
"""A gap in usual steps, where rows come regularly, and where they do not."""
DOUBLE, OFTEN = 2.0, 0.01
"""In usual steps, a longer one that is no gap where it is more than this share of the steps."""
LEAST_TO_TRAIN = 100
"""Rows before the first labelled fault from which these alone are proposed for training."""
MOST_LABELS = 20
"""Different words of a label, at most."""


@dataclass(frozen=True)
class ValueRange:
    """The least and the largest value, and quantiles at 1 %, 50 % and 99 %."""

    minimum: float
    low: float
    median: float
    high: float
    maximum: float


@dataclass(frozen=True)
class Stretch:
    """Rows of a machine in which a sensor holds one value; both ends are included."""

    asset: str | None
    first: int
    last: int
    value: float

    @property
    def n_rows(self) -> int:
        """Number of rows, those without a value among them."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class ColumnReport:
    """A column.

    Attributes
    ----------
    name : str
        Its name.
    kind : Kind
        What it is.
    reason : str
        Why, in a short phrase.
    is_feature : bool
        Whether a model learns it.
    unit : str or None
        Its unit, if the file has it.
    written : str or None
        How its numbers are written, if a CSV parser cannot read them.
    values : ValueRange or None
        Its range; None for text and empty columns.
    n_missing : int
        Rows without a value.
    missing_share : float
        Their share of all rows.
    frozen : tuple of Stretch
        Where a sensor is frozen.
    """

    name: str
    kind: Kind
    reason: str
    is_feature: bool
    unit: str | None
    written: str | None
    values: ValueRange | None
    n_missing: int
    missing_share: float
    frozen: tuple[Stretch, ...]

    @property
    def longest_frozen(self) -> Stretch | None:
        """The longest stretch in which it is frozen."""
        return max(self.frozen, key=lambda stretch: stretch.n_rows, default=None)


@dataclass(frozen=True)
class Gap:
    """A step between two rows of a machine that is far longer than usual.

    Attributes
    ----------
    asset : str or None
        The machine.
    row : int
        The last row before it.
    begin : str
        The time of that row.
    seconds : float
        How long it is.
    """

    asset: str | None
    row: int
    begin: str
    seconds: float


@dataclass(frozen=True)
class TimeReport:
    """The times of the rows.

    Attributes
    ----------
    columns : tuple of str
        Which hold them.
    written : str
        How, in words.
    zone : str
        Where their zone is from.
    begin, end : str
        The first and the last time.
    span_s : float
        Between these, in seconds.
    step_s : float or None
        The usual step between two rows of a machine, in seconds; None if there is none.
    longer_step_s : float or None
        A longer step, at most twice the usual one, that comes often too, as where clocks round;
        None if there is none.
    is_regular : bool
        Whether nearly all steps are like the usual one.
    n_gaps : int
        Number of gaps.
    longest_gap : Gap or None
        The longest one.
    n_repeated : int
        Rows with the time of the row before.
    """

    columns: tuple[str, ...]
    written: str
    zone: str
    begin: str
    end: str
    span_s: float
    step_s: float | None
    longer_step_s: float | None
    is_regular: bool
    n_gaps: int
    longest_gap: Gap | None
    n_repeated: int


@dataclass(frozen=True)
class Label:
    """A column that looks like a label, and the words of it that may stand for a fault."""

    column: str
    fault_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What was understood of a table.

    Attributes
    ----------
    summary : tuple of str
        What matters most, in sentences.
    name : str
        What the user calls the file.
    description : str
        The kind of file in words.
    origin : Origin or None
        The same as values, and why.
    n_rows : int
        Rows of all machines, as put together.
    columns : tuple of ColumnReport
        In their order.
    time : TimeReport or None
        None if the table has no times.
    by : str or None
        The column that tells several machines apart.
    assets : mapping of str to int
        Rows of each machine; empty if nothing tells machines apart.
    long : LongFormat or None
        The columns of a table with one value a row.
    slow : mapping of str to float
        Sensors recorded less often than the rows, with their step in seconds.
    hold : str or None
        How long to hold their values, as ``--hold`` takes it.
    labels : tuple of Label
        Columns that look like labels.
    context : mapping of str to float
        Columns that look like settings, with the share of the sensors' variance they explain.
    notes : tuple of str
        What a user should know of how the file was understood.
    because : tuple of str
        Why it was understood so.
    commands : tuple of tuple of str
        What to do next, as the words of command lines.
    """

    summary: tuple[str, ...]
    name: str
    description: str
    origin: Origin | None
    n_rows: int
    columns: tuple[ColumnReport, ...]
    time: TimeReport | None
    by: str | None
    assets: Mapping[str, int]
    long: LongFormat | None
    slow: Mapping[str, float]
    hold: str | None
    labels: tuple[Label, ...]
    context: Mapping[str, float]
    notes: tuple[str, ...]
    because: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]

    @property
    def features(self) -> tuple[ColumnReport, ...]:
        """The columns that a model learns."""
        return tuple(column for column in self.columns if column.is_feature)

    @property
    def left_out(self) -> tuple[ColumnReport, ...]:
        """The columns that are neither learnt nor the time."""
        clock = () if self.time is None else self.time.columns
        return tuple(c for c in self.columns if not c.is_feature and c.name not in clock)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-compatible values, without NaN and infinities."""
        return asdict(self)


def report_of(
    table: Table,
    machines: Sequence[Machine],
    options: ReadOptions = UNSTATED,
    *,
    by: str | None = None,
    name: str = "FILE",
    frozen: FrozenRuns = lambda readings: (),
    context: Callable[[pd.DataFrame, Sequence[str]], Mapping[str, float]] = lambda f, names: {},
) -> Report:
    """Return what was understood of a table.

    Parameters
    ----------
    table : Table
        As it stands in the file.
    machines : sequence of Machine
        Its machines, as ``by_machine`` yields them; at least one.
    options : ReadOptions, optional
        What the user states.
    by : str, optional
        The column that tells the machines apart, stated or found.
    name : str, optional
        What the user calls the file.
    frozen : callable, optional
        The rule for a frozen sensor; see ``FrozenRuns``.
    context : callable, optional
        Takes a machine's rows and the names of its sensors; returns the columns that look like
        settings, with the share of the sensors' variance they explain.
    """
    whole = _together(table, machines)
    found = whole.kinds
    features = [column.name for column in found if column.is_feature]
    columns = tuple(
        _column(whole, place, column, machines, frozen) for place, column in enumerate(found)
    )
    largest = max(machines, key=lambda machine: machine.n_rows)
    slow: dict[str, timedelta] = {}
    if not options.hold:
        judged = whole if by is None else largest.table
        recorded = [name for name in judged.recorded.columns if name in features]
        slow = mixed_rates(judged.frame[recorded], judged.times)
    labels = tuple(_labels(whole.frame, found))
    hold = duration(max(slow.values())) if slow else None
    report = Report(
        summary=(),
        name=name,
        description=table.description,
        origin=table.origin and replace(table.origin, because=()),
        n_rows=len(whole.frame),
        columns=columns,
        time=_time(table, machines),
        by=by,
        assets={m.asset: m.n_rows for m in machines if m.asset is not None},
        long=machines[0].long,
        slow={column: step.total_seconds() for column, step in slow.items()},
        hold=hold,
        labels=labels,
        context=dict(context(largest.table.frame, features)) if features else {},
        notes=tuple(dict.fromkeys(note for note in machines[0].table.notes)),
        because=tuple(_because(table)),
        commands=tuple(_commands(name, options, largest, by, hold, labels, bool(features))),
    )
    return replace(report, summary=tuple(summary(report)))


def _together(table: Table, machines: Sequence[Machine]) -> Table:
    """Return the rows of all machines, one machine after the other."""
    import pandas as pd

    from vigie.tables.table import Table

    if len(machines) == 1:
        return machines[0].table
    frames = [machine.table.frame for machine in machines]
    times = [m.table.times for m in machines if m.table.times is not None]
    return Table(
        pd.concat(frames, ignore_index=True),
        np.concatenate(times) if len(times) == len(machines) else None,
        machines[0].table.clock,
        table.units,
        table.formats,
        unread=table.unread,
    )


def _column(
    whole: Table, place: int, column: Column, machines: Sequence[Machine], frozen: FrozenRuns
) -> ColumnReport:
    series = whole.frame.iloc[:, place]
    n_rows = len(series)
    values = _finite(series)
    n_missing = int(series.isna().sum()) if values is None else n_rows - len(values)
    stretches: list[Stretch] = []
    if column.kind is Kind.SENSOR:
        for machine in machines:
            if column.name in machine.table.frame:
                readings = machine.table.frame[column.name].to_numpy(np.float64, na_value=np.nan)
                stretches += [
                    Stretch(machine.asset, first, last, float(readings[first]))
                    for first, last in frozen(readings)
                ]
    written = whole.formats.get(column.name)
    is_plain = written is None or (written.is_plain and written.decimal == ".")
    return ColumnReport(
        name=column.name,
        kind=column.kind,
        reason=column.reason,
        is_feature=column.is_feature,
        unit=whole.units.get(column.name) or None,
        written=None if is_plain else str(written),
        values=None if values is None or not len(values) else _range(values),
        n_missing=n_missing,
        missing_share=n_missing / n_rows if n_rows else 0.0,
        frozen=tuple(stretches),
    )


def _finite(series: pd.Series[Any]) -> Floats | None:
    """Return the finite values of a column of numbers; None for other columns."""
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(series):
        return None
    values: Floats = series.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(values[np.isfinite(values)])


def _range(values: Floats) -> ValueRange:
    # Between the largest floats, interpolation would overflow: so a value of the column is taken.
    low, median, high = np.quantile(values, [0.01, 0.5, 0.99], method="inverted_cdf")
    # A zero has no sign for people.
    five = (float(x) + 0.0 for x in (values.min(), low, median, high, values.max()))
    return ValueRange(*five)


def _labels(frame: pd.DataFrame, columns: Sequence[Column]) -> list[Label]:
    labels = []
    for place, column in enumerate(columns):
        if column.kind is Kind.LABEL:
            labels.append(Label(column.name))
        elif column.kind is Kind.TEXT and names.has(column.name, names.LABEL):
            counts = frame.iloc[:, place].value_counts()
            if 2 <= len(counts) <= MOST_LABELS and frame.iloc[:, place].notna().all():
                # A recording is healthy most of the time.
                labels.append(Label(column.name, tuple(map(str, counts.index[1:]))))
    lasting = without_changepoints([label.column for label in labels])
    return [label for label in labels if label.column in lasting]


# Times


def _time(table: Table, machines: Sequence[Machine]) -> TimeReport | None:
    times = [m.table.times for m in machines if m.table.times is not None and m.n_rows]
    if table.written is None or not times:
        return None
    steps = np.concatenate([np.diff(part).astype(np.int64) for part in times])
    rising = steps[steps > 0]
    usual = float(np.median(rising)) if len(rising) else None
    is_regular = usual is not None and bool(
        np.mean(np.abs(rising - usual) <= NEAR * usual) >= REGULAR
    )
    limit = np.inf if usual is None else usual * (GAP if is_regular else IRREGULAR_GAP)
    longer = None
    if usual is not None and is_regular:
        double = rising[(rising > limit) & (rising <= DOUBLE * usual)]
        if len(double) > OFTEN * len(rising):
            longer, limit = float(double.max()), DOUBLE * usual
    begin, end = min(part.min() for part in times), max(part.max() for part in times)
    return TimeReport(
        columns=table.written.names,
        written=table.written.description,
        zone=_zone(table),
        begin=_iso(begin),
        end=_iso(end),
        span_s=float((end - begin).astype(np.int64)) / 1e6,
        step_s=None if usual is None else usual / 1e6,
        longer_step_s=None if longer is None else longer / 1e6,
        is_regular=is_regular,
        n_gaps=int((steps > limit).sum()),
        longest_gap=_longest_gap(machines, limit),
        n_repeated=int((steps == 0).sum()),
    )


def _longest_gap(machines: Sequence[Machine], limit: float) -> Gap | None:
    longest: Gap | None = None
    for machine in machines:
        times = machine.table.times
        if times is None or len(times) < 2:
            continue
        steps = np.diff(times).astype(np.int64)
        row = int(steps.argmax())
        seconds = float(steps[row]) / 1e6
        if steps[row] > limit and (longest is None or seconds > longest.seconds):
            longest = Gap(machine.asset, row, _iso(times[row]), seconds)
    return longest


def _zone(table: Table) -> str:
    written = table.written
    assert written is not None
    if written.zone is not None:
        return written.zone
    if "local time" in written.description:
        return "taken as UTC"
    return "in the file"


def _iso(time: np.datetime64) -> str:
    text = str(time.astype("M8[us]"))
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}Z"


# Reasons and commands


def _because(table: Table) -> list[str]:
    because = [] if table.origin is None else list(table.origin.because)
    if table.written is not None and table.written.reason:
        because.append(table.written.reason)
    by_format: dict[str, list[str]] = {}
    for name, written in table.formats.items() if len(table.frame) else ():
        by_format.setdefault(str(written), []).append(name)
    for said, of in by_format.items():
        listed = ", ".join(of[:3]) + (f" and {len(of) - 3} more" if len(of) > 3 else "")
        because.append(f"The numbers of {listed} are written with: {said}")
    return because


def _commands(
    name: str,
    options: ReadOptions,
    largest: Machine,
    by: str | None,
    hold: str | None,
    labels: Sequence[Label],
    has_features: bool,
) -> list[tuple[str, ...]]:
    """Return what to do next; a training leaves out the rows from the first labelled fault on."""
    if not has_features:
        return []
    read = as_arguments(options)
    if by is not None and options.by is None:
        read += ["--by", by]
    if hold is not None:
        read += ["--hold", hold]
    train = ["vigie", "train", name, *read]
    if largest.asset is not None:
        train += ["--asset", largest.asset]
    healthy = None if by is not None else _healthy_rows(largest.table.frame, labels)
    if healthy is not None:
        train += ["--rows", f"1:{healthy}"]
    commands = [(*train, "--promote")]
    for label in labels[:1]:
        words = [word for fault in label.fault_words for word in ("--fault-word", fault)]
        commands.append(("vigie", "backtest", name, *read, "--labels", label.column, *words))
    return commands


def labelled_faults(table: Table, first_row: int | None = 1) -> str | None:
    """Return a warning of rows with a labelled fault, which a training would take for healthy.

    Parameters
    ----------
    table : Table
        The rows of one machine.
    first_row : int, optional
        The row of its file that the table begins with, counted from 1; None if its rows are not
        consecutive there.
    """
    labels = _labels(table.frame, table.kinds)
    if not labels:
        return None
    label, faulty = labels[0], _is_faulty(table.frame, labels[0])
    n_faulty = int(faulty.sum())
    if not n_faulty:
        return None
    fault = table.frame[label.column][faulty].iloc[0]
    words = " or ".join(label.fault_words) or f"{fault:g}"
    counted = "1 row is" if n_faulty == 1 else f"{n_faulty:,} rows are"
    verb = "counts" if n_faulty == 1 else "count"
    healthy = None if first_row is None else _healthy_rows(table.frame, labels)
    if first_row is None or healthy is None:
        remedy = "Train on rows without them."
    else:
        last = first_row + healthy - 1
        remedy = f"Give --rows {first_row}:{last} to train on the healthy beginning."
    return f"{counted} labelled {label.column} = {words} and {verb} as healthy. {remedy}"


def _healthy_rows(frame: pd.DataFrame, labels: Sequence[Label]) -> int | None:
    """Return the number of rows before the first labelled fault; None if they are few."""
    if not labels:
        return None
    first = int(np.argmax(_is_faulty(frame, labels[0])))
    return first if first >= LEAST_TO_TRAIN else None


def _is_faulty(frame: pd.DataFrame, label: Label) -> NDArray[np.bool_]:
    series = frame[label.column]
    is_faulty = series.isin(label.fault_words) if label.fault_words else series.fillna(0) != 0
    return is_faulty.to_numpy(dtype=bool)
