"""From a table as it stands in a file to one row a time and one column a sensor, by machine."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vigie.errors import InvalidDataError, listed
from vigie.tables.file_form import FileForm
from vigie.tables.names import PLACE, STATE, TAG, VALUE, ends_with
from vigie.tables.options import ReadOptions
from vigie.tables.qualities import (
    Quality,
    may_name_a_quality,
    names_a_flag,
    names_a_quality,
    names_an_alarm,
    quality_of,
)
from vigie.tables.reading import (
    AT_A_TIME,
    Recording,
    read_table,
    understood,
    without_sentinels,
)
from vigie.tables.report_words import counted
from vigie.tables.sentinels import note
from vigie.tables.shape import (
    STATES,
    LongFormat,
    as_numbers,
    asset_within,
    by_asset,
    hold,
    long_format,
    looks_by_asset,
    looks_long,
    mixed_rates,
    pivot,
    repeated,
    several_keys,
)
from vigie.tables.stated import duration
from vigie.tables.table import Table, Times, require_columns
from vigie.tables.unit_columns import holds_units, in_one_unit, unit_columns, value_of

if TYPE_CHECKING:
    import pandas as pd

MOST_TRIED = 20
"""Machines that are looked at before a column is proposed that tells them apart."""


@dataclass(frozen=True)
class Known:
    """What models know of the columns of a file.

    Attributes
    ----------
    numbers, words : collection of str
        The columns that they know as numbers, and as words.
    form : FileForm
        What the files say that they were trained on.
    """

    numbers: Collection[str]
    words: Collection[str] = ()
    form: FileForm = field(default_factory=FileForm)


@dataclass(frozen=True, eq=False)
class Machine:
    """The rows of one machine, in memory; it is read as a ``Recording`` is.

    Attributes
    ----------
    asset : str or None
        Its name; None if the file does not tell machines apart.
    table : Table
        One row a time, in order.
    first : int
        Number of its first row in the file, from 0; 0 if its rows are not those of the file.
    long : LongFormat or None
        The columns of the file, if this has one value a row.
    """

    asset: str | None
    table: Table
    first: int = 0
    long: LongFormat | None = None

    @property
    def units(self) -> dict[str, str]:
        """Units, where the file has them."""
        return self.table.units

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how the file was understood."""
        return self.table.notes

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns."""
        return tuple(map(str, self.table.frame.columns))

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.table.frame)

    def read(
        self, names: Collection[str], words: Collection[str] = ()
    ) -> Iterator[tuple[pd.DataFrame, Times | None]]:
        """Yield the rows in parts, with the columns of these names."""
        wanted = [name for name in self.columns if name in names]
        for begin in range(0, max(self.n_rows, 1), AT_A_TIME):
            part = self.table.rows(slice(begin, begin + AT_A_TIME))
            yield part.frame[wanted], part.times


def read_machines(
    path: Path,
    options: ReadOptions,
    *,
    rows: slice = slice(None),
    words: Collection[str] = (),
    numbers: Collection[str] = (),
    ignored: Collection[str] = (),
) -> list[Machine]:
    """Read a whole file, one table for each machine in it; for the parameters see ``read_table``.

    Raises
    ------
    InvalidDataError
        If it cannot be read without a guess, or plainly holds several machines that no option
        tells apart.
    """
    table = read_table(path, options, rows=rows, words=words, numbers=numbers, ignored=ignored)

    def is_ignored(name: str) -> bool:
        return name in ignored or (bool(numbers) and name not in numbers)

    return list(by_machine(table, options, rows.start or 0, is_ignored))


def named(machines: list[Machine], asset: str | None) -> list[Machine]:
    """Return the machine that is named, or all.

    Raises
    ------
    InvalidDataError
        If there is no such machine.
    """
    if asset is None:
        return machines
    if found := [machine for machine in machines if machine.asset == asset]:
        return found
    names = [machine.asset for machine in machines if machine.asset is not None]
    if not names:
        raise InvalidDataError(
            "No column tells machines apart.", field="--asset", remedy="Name it with --by."
        )
    raise InvalidDataError(
        f"The file has {len(names)} machines, but no {asset!r}.",
        field="--asset",
        remedy=f"Name one to train on: {listed(names)}.",
    )


def open_machines(
    path: Path,
    options: ReadOptions,
    *,
    rows: slice = slice(None),
    known: Callable[[Sequence[str]], Known],
) -> Sequence[Recording | Machine]:
    """Open a file for detection: in parts, unless its rows must be put together first.

    Parameters
    ----------
    path, options, rows
        See ``read_table``.
    known : callable
        Takes the columns of the file; returns what models know of them.
    """
    recording = Recording(path, rows, options)
    its = known(recording.columns)
    recording.expect(its.form)
    options = recording.options
    ignored = set(recording.columns).difference(its.numbers)
    is_part = not (options.by or options.long or options.hold)
    if is_part and _is_in_order(recording, options, ignored):
        return [recording]
    machines = read_machines(
        path, options, rows=rows, words=its.words, numbers=its.numbers, ignored=ignored
    )
    return [replace(one, table=one.table.in_units(its.form.units)) for one in machines]


def _is_in_order(recording: Recording, options: ReadOptions, ignored: Collection[str]) -> bool:
    """Return whether a file has one row a time, in time order."""
    start = recording.start()
    try:
        clock, written = recording.clock
        if not start:
            return True
        table = understood(
            start, recording.file, options, ignored=ignored, clock=clock, written=written
        )
    except InvalidDataError:
        # The whole table shows whether it is newest first, or holds several machines.
        return False
    if looks_long(table.frame, table.times) or several_keys(table.frame, table.times):
        return False
    # The units of all rows tell which one is the base.
    return not unit_columns(table.frame, table.clock)


def by_machine(
    table: Table,
    options: ReadOptions,
    first: int = 0,
    is_ignored: Callable[[str], bool] = lambda _: False,
) -> Iterator[Machine]:
    """Yield the rows of each machine of a table, whose first row has a number in the file.

    Sensors that are ignored may have several units.

    Raises
    ------
    InvalidDataError
        If the table plainly holds several machines that no option tells apart, or a sensor has
        several units.
    """
    if options.by is None:
        asset = looks_by_asset(table.frame, table.times) if options.long is None else None
        if asset is not None and not _is_told_by(table, asset):
            _refuse_keys(table, several_keys(table.frame, table.times))
        if asset is not None:
            raise InvalidDataError(
                f"The rows are of several machines: {asset} tells them apart.",
                field="FILE",
                remedy=f"Read them one by one with --by {shlex.quote(asset)}, or give the rows of "
                "one machine.",
            )
        yield _shaped(Machine(None, table, first), options, is_ignored)
        return
    require_columns(table.frame.columns, [options.by], "--by")
    table = _alike(table, options, first, is_ignored)
    for name, frame, times, numbers in by_asset(table.frame, table.times, options.by):
        if options.long is None and (other := _key_left(frame, times)):
            raise InvalidDataError(
                f"The rows of {name} are of several machines or sensors: {other} tells them apart.",
                field="--by",
                remedy=f"Join {options.by} and {other} into one column of the file, and name that "
                f"one, or give the rows of one {other}.",
            )
        is_one_block = numbers[-1] - numbers[0] == len(numbers) - 1
        its_table = replace(table, frame=frame, times=times)
        its_first = first + int(numbers[0]) if is_one_block else 0
        yield _shaped(Machine(name, its_table, its_first), options, is_ignored)


def _refuse_keys(table: Table, keys: Sequence[str]) -> None:
    """Check that no columns tell the rows of a time apart only together.

    Raises
    ------
    InvalidDataError
        If some do; its remedy was tried.
    """
    if not keys:
        return
    working = [key for key in keys if _is_told_by(table, key)]
    said = [f"--by {shlex.quote(key)}" for key in working]
    alone = f"give the rows of one {keys[0]}"
    joined = f"Join {' and '.join(keys)} into one column of the file, or {alone}."
    split = f"Read each {{}} as a machine with {' or '.join(said)}, or {alone}."
    raise InvalidDataError(
        f"The rows of a time differ in {' and '.join(keys)}: one of these does not tell which "
        "values belong together.",
        field="FILE",
        remedy=split.format(working[0]) if working else joined,
    )


def _is_told_by(table: Table, key: str) -> bool:
    """Return whether the rows of each value of a column are of one machine."""
    if not table.frame[key].notna().all():
        return False
    machines = by_asset(table.frame, table.times, key)
    return all(not _key_left(frame, times) for _, frame, times, _ in islice(machines, MOST_TRIED))


def _key_left(frame: pd.DataFrame, times: Times | None) -> str | None:
    """Return what else tells the rows of a time of one machine apart, if anything does."""
    if times is None or (times[1:] > times[:-1]).all():
        return None
    long = looks_long(frame, times)
    if long is not None:
        # Sites of one sensor are no sensors.
        is_place = ends_with(long.tag, PLACE) and not ends_with(long.value, VALUE)
        return long.tag if is_place else None
    if keys := several_keys(frame, times):
        return " and ".join(keys)
    return asset_within(frame, times)


def _shaped(machine: Machine, options: ReadOptions, is_ignored: Callable[[str], bool]) -> Machine:
    """Return a machine's rows with one column a sensor, and with values held where asked."""
    table = machine.table
    long = _long_format(table, options)
    if machine.asset is None and (long is None or options.long is not None):
        _refuse_keys(table, several_keys(table.frame, table.times))
    if long is not None:
        table = _pivoted(machine, long, is_ignored)
        machine = replace(machine, table=table, first=0, long=long)
    else:
        table = _in_one_unit(machine, is_ignored)
        machine = replace(machine, table=table)
    if options.hold is not None:
        if table.times is None:
            raise InvalidDataError(
                "The file has no times, so nothing tells how old a value is.",
                field="--hold",
                remedy="Name the column with the time: --time NAME.",
            )
        held = hold(table.frame, table.times, options.hold)
        return replace(machine, table=replace(table, frame=held))
    notes = (
        *table.notes,
        *_note_on_rates(table),
        *(() if machine.asset is not None else _note_on_long(table, long)),
        *_notes_on_qualities(table),
    )
    return replace(machine, table=replace(table, notes=notes))


def _note_on_long(table: Table, long: LongFormat | None) -> Iterator[str]:
    """Yield a note if a table with one sensor and one column of words may be in long format."""
    names = [name for name in table.frame.columns if name not in table.clock]
    if long is not None or len(names) != 2 or table.times is None or any(":" in n for n in names):
        return
    words, values = sorted(names, key=lambda name: table.frame[name].dtype != object)
    is_mixed = table.frame[words].dtype == object and table.frame[values].dtype != object
    if is_mixed and 1 < table.frame[words].nunique() <= len(table.frame) // 2:
        # "3.05*" is a number with a mark, and no name.
        if (
            _holds_states(table.frame, words)
            or holds_units(table.frame, words)
            or not table.frame[words].str.contains("[^\\W\\d_]").any()
        ):
            return
        yield (
            f"If {words} names the sensor whose value {values} is, say "
            f"--long {shlex.quote(f'{words}:{values}')}"
        )


def _holds_states(frame: pd.DataFrame, name: str) -> bool:
    """Return whether a column of words has the states of a switch or a machine, or qualities."""
    found = {str(word).casefold() for word in frame[name].dropna().unique()}
    is_known = may_name_a_quality(name) or ends_with(name, STATE) or bool(found & STATES.keys())
    return is_known or (len(found) == 2 and not ends_with(name, TAG))


def _note_on_rates(table: Table) -> Iterator[str]:
    """Yield a note if sensors are recorded less often than the rows."""
    if rates := mixed_rates(table.recorded, table.times):
        yield (
            f"{_listed(list(rates))} recorded less often than the rows: --hold "
            f"{duration(max(rates.values()))} holds the last value"
        )


def _long_format(table: Table, options: ReadOptions) -> LongFormat | None:
    if options.long is None:
        return looks_long(table.frame, table.times)
    require_columns(table.frame.columns, options.long, "--long")
    return long_format(table.frame, *options.long, table.clock)


def _in_one_unit(machine: Machine, is_ignored: Callable[[str], bool]) -> Table:
    """Return a table with a column for each sensor, in the units that columns beside these tell."""
    table = machine.table
    read, units, notes = dict[str, Any](), dict[str, str](), list[str]()
    for unit, beside in unit_columns(table.frame, table.clock).items():
        if all(map(is_ignored, beside)):
            continue
        name = value_of(table.frame, unit, beside)
        values = table.frame[name].to_numpy()
        found = in_one_unit(values, table.frame[unit], name, _row_of(machine), is_ignored)
        units |= found.units
        notes += found.notes
        if found.scales:
            read[name] = found.values
            read[unit] = table.frame[unit].where(table.frame[unit].isna(), found.units[name])
    if not units:
        return table
    frame = table.frame.assign(**read) if read else table.frame
    # A unit in the name of a column says more than a constant beside it.
    said = {name: unit for name, unit in table.units.items() if unit and name not in read}
    return replace(table, frame=frame, units=units | said, notes=(*table.notes, *notes))


def _alike(
    table: Table, options: ReadOptions, first: int, is_ignored: Callable[[str], bool]
) -> Table:
    """Return the rows of all machines in the same units, where these are multiples of one."""
    if options.long or not unit_columns(table.frame, table.clock):
        return table
    _, frame, times, _ = next(by_asset(table.frame, table.times, str(options.by)))
    if looks_long(frame, times):
        return table
    try:
        return _in_one_unit(Machine(None, table, first), is_ignored)
    except InvalidDataError:
        # Each machine may have a unit of its own.
        return table


def _row_of(machine: Machine) -> Callable[[int], str]:
    """Return how the rows of a machine are called."""
    of = "" if machine.asset is None else f" of {machine.asset}"
    return lambda row: f"row {row + 1 + (0 if of else machine.first)}{of}"


def _pivoted(machine: Machine, long: LongFormat, is_ignored: Callable[[str], bool]) -> Table:
    """Return a table of one value a row as one with a column for each tag."""
    table = machine.table
    if table.times is None:
        raise InvalidDataError(
            "A table with one value a row needs times: they tell which values belong together.",
            field="--long",
            remedy="Name the column with the time: --time NAME.",
        )
    rows, unread = table.frame, dict[str, int]()
    flags = [name for name in long.others if name != long.quality and names_a_flag(name)]
    told = {name: quality_of(rows[name]) for name in (long.quality, *flags) if name is not None}
    qualities = {name: quality for name, quality in told.items() if quality is not None}
    if qualities:
        is_bad = np.logical_or.reduce([quality.is_bad for quality in qualities.values()])
        spoilt = rows.loc[is_bad, long.tag].value_counts()
        unread = {str(tag): int(n) for tag, n in spoilt.items()}
        rows = rows.assign(**{long.value: rows[long.value].mask(is_bad)})
    units, of_units = dict[str, str](), list[str]()
    if (unit := next((name for name in long.others if holds_units(rows, name)), None)) is not None:
        values = as_numbers(rows[long.value])
        found = in_one_unit(values, rows[unit], rows[long.tag], _row_of(machine), is_ignored)
        units, of_units = found.units, list(found.notes)
        if found.scales:
            rows = rows.assign(**{long.value: found.values})
    frame, times = pivot(rows, table.times, long)
    notes = [
        *table.notes,
        f"One value a row: {long.tag} names the sensor, {long.value} is its value; put together "
        f"into {len(frame)} rows of {frame.shape[1]} sensors",
    ]
    for name, quality in qualities.items():
        notes += _notes_on_quality(name, quality)
    notes += _notes_on_unknown(table, long, qualities)
    notes += of_units
    if n_repeated := repeated(rows, table.times, long):
        notes.append(f"{n_repeated} values of a sensor were replaced by later ones of their time")
    frame, marks = without_sentinels(frame)
    notes += [note(name, values) for name, values in marks.items()]
    unread |= {tag: unread.get(tag, 0) + sum(values.values()) for tag, values in marks.items()}
    return replace(
        table,
        frame=frame,
        times=times,
        clock=(),
        units=units,
        notes=tuple(notes),
        unread=unread,
    )


def _notes_on_quality(name: str, quality: Quality) -> Iterator[str]:
    if quality.n_bad:
        yield (
            f"{counted(quality.n_bad, 'value')} left missing, since {name} is not good there, "
            f"such as {quality.example!r}"
        )
    if quality.unknown:
        yield f"{name}: {quality.unknown!r} is not known, and its values are kept"


def _notes_on_unknown(table: Table, long: LongFormat, known: Collection[str]) -> Iterator[str]:
    """Yield notes on columns that may tell how good a value is, in a way that is not known."""
    for name in long.others:
        may_tell = may_name_a_quality(name) or names_a_flag(name) or names_an_alarm(name)
        if not may_tell or name in known or name in table.clock:
            continue
        if quality_of(table.frame[name]) is not None:
            continue
        # Limits of an alarm follow from the tag.
        if table.frame.groupby(long.tag)[name].nunique().max() > 1:
            found = [
                f"{word:g}" if isinstance(word, float) else repr(word)
                for word in table.frame[name].dropna().unique()[:2]
            ]
            yield (
                f"{name} may tell how good a value is, but not how: all are kept, such as "
                f"where it is {' and '.join(found)}"
            )


def _notes_on_qualities(table: Table) -> Iterator[str]:
    """Yield notes on the qualities of a table with a column for each sensor."""
    for name in map(str, table.frame.columns):
        is_status = may_name_a_quality(name) and table.frame[name].dtype == object
        is_named = names_a_quality(name) or names_a_flag(name) or is_status
        quality = quality_of(table.frame[name]) if is_named else None
        if quality is not None and quality.n_bad:
            yield (
                f"{name} is not good in {counted(quality.n_bad, 'row')}, such as "
                f"{quality.example!r}: the values there are read as they stand"
            )


def _listed(names: list[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''} are"
