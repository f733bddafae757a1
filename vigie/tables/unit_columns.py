"""Columns that hold the units of the numbers beside them, as multimeters and historians write it.

The unit of a sensor may change from row to row, as an instrument changes its range.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError
from vigie.tables import names
from vigie.tables.kinds import kinds
from vigie.tables.units import as_spelt, is_unit, scaled

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

MOST_UNITS = 200
_COUPLING = re.compile(r"(?<=[AV])\s*(?:DC|AC|ac|dc|rms|RMS|TRMS)+$")
"""Behind volts and amperes, what kind of current they are of."""


@dataclass(frozen=True, eq=False)
class InOneUnit:
    """Numbers of one or several sensors, each in one unit.

    Attributes
    ----------
    values : ndarray of float64 of shape (n_rows,)
        The numbers.
    units : dict of str to str
        The unit of each sensor that has one.
    scales : dict of str to list of str
        By sensor, the units that are converted into it.
    """

    values: Floats
    units: dict[str, str] = field(default_factory=dict)
    scales: dict[str, list[str]] = field(default_factory=dict)

    @property
    def notes(self) -> Iterator[str]:
        """Sentences on the sensors whose unit changes."""
        for name, written in self.scales.items():
            yield f"{name}: numbers in {', '.join(written)} are read in {self.units[name]}"


def holds_units(frame: pd.DataFrame, name: str) -> bool:
    """Return whether a column of text holds units, by its name and most of its words.

    Units A and B are machines, and amperes stand beside volts.
    """
    if frame[name].dtype != object or not names.UNIT.intersection(names.words(name)):
        return False
    different = frame[name].unique()[: MOST_UNITS + 2]
    found = {_plain(str(word)) for word in different if word is not None}
    if len(found) > MOST_UNITS or 2 * sum(map(is_unit, found)) <= len(found):
        return False
    is_of_letters = all(len(word) == 1 and word.isascii() and word.isalpha() for word in found)
    return not is_of_letters or "V" in found or found.isdisjoint("AB")


def unit_columns(frame: pd.DataFrame, clock: Collection[str] = ()) -> dict[str, list[str]]:
    """Return the columns of units of a table with a column for each sensor.

    Returns
    -------
    dict of str to list of str
        With each, the columns of numbers that it may be of: the one that has its name, as "P" of
        "P Unit", or else those that stand side by side before it, the nearest first.
    """
    columns = [str(name) for name in frame.columns]
    found = [name for name in columns if name not in clock and holds_units(frame, name)]
    if not found:
        return {}
    numbers = [n for n in columns if n not in clock and frame[n].dtype == np.float64]
    of = {name: _of_its_name(name, numbers) or _beside(name, columns, numbers) for name in found}
    return {name: values for name, values in of.items() if values}


def value_of(frame: pd.DataFrame, unit: str, values: list[str]) -> str:
    """Return the column of numbers that a column of units is of.

    Raises
    ------
    InvalidDataError
        If its units change, and it may be of several.
    """
    if len(values) == 1 or frame[unit].nunique() == 1:
        return values[0]
    told = [name for name in values if names.ends_with(name, names.VALUE)]
    if not told:
        told = [column.name for column in kinds(frame[values]) if column.is_feature]
    if len(told) == 1:
        return told[0]
    words = frame[unit].to_numpy()
    row = int(np.argmax(frame[unit].notna()))
    other = int(np.argmax(frame[unit].notna() & (frame[unit] != words[row])))
    raise InvalidDataError(
        f"It is {words[row]} in row {row + 1} and {words[other]} in row {other + 1}, and may be "
        f"the unit of {' or '.join(values[:2])}.",
        field=unit,
        remedy=f"Name it after its column, such as {values[0]} Unit.",
    )


def in_one_unit(
    values: Floats,
    units: pd.Series[Any],
    keys: pd.Series[Any] | str,
    row_of: Callable[[int], str],
    is_ignored: Callable[[str], bool],
) -> InOneUnit:
    """Return numbers in one unit for each sensor, where its units are multiples of one.

    Parameters
    ----------
    values : ndarray of float64 of shape (n_rows,)
        NaN where a value is missing; its unit does not count.
    units : Series of shape (n_rows,)
        Their units.
    keys : Series of shape (n_rows,) or str
        Their sensors; or the only one.
    row_of : callable
        Returns the name of a row, from its number in ``values``.
    is_ignored : callable
        Returns whether the values of a sensor, by its name, may be in several units.

    Raises
    ------
    InvalidDataError
        If a sensor has units that are no multiples of one, or numbers without one beside others.
    """
    import pandas as pd

    unit_codes, words = pd.factorize(units.to_numpy())
    if isinstance(keys, str):
        key_codes, sensors = np.zeros(len(values), np.intp), [keys]
    else:
        key_codes, found = pd.factorize(keys.to_numpy())
        sensors = list(map(names.written, found))
    pairs = (unit_codes + 1) + (len(words) + 1) * key_codes
    counts = ~np.isnan(values) & (key_codes >= 0)
    first = np.flatnonzero(counts)[~pd.Series(pairs[counts]).duplicated().to_numpy()]
    by_sensor: dict[int, dict[int, str | None]] = {}
    for row in first.tolist():
        unit_code = int(unit_codes[row])
        unit = None if unit_code < 0 else str(words[unit_code])
        by_sensor.setdefault(int(key_codes[row]), {})[row] = unit
    result = InOneUnit(values)
    factors = np.ones((len(sensors), len(words) + 1))
    for key, by_row in by_sensor.items():
        name, written = sensors[key], [unit for unit in by_row.values() if unit is not None]
        if not written or is_ignored(name):
            continue
        if len({as_spelt(_plain(unit)) for unit in written}) == 1:
            result.units[name] = written[0]
            continue
        scales = {unit: scaled(_plain(unit)) for unit in written}
        bases = {as_spelt(base) for base, _ in scales.values()}
        if len(bases) > 1 or None in by_row.values():
            _refuse(name, by_row, row_of)
        result.units[name] = next(iter(scales.values()))[0]
        result.scales[name] = [unit for unit, (_, by) in scales.items() if by != 1]
        for unit, (_, by) in scales.items():
            factors[key, words.tolist().index(unit) + 1] = by
    if not result.scales:
        return result
    return InOneUnit(values * factors.ravel()[pairs], result.units, result.scales)


def _refuse(name: str, by_row: Mapping[int, str | None], row_of: Callable[[int], str]) -> None:
    unlike = list(by_row.items())
    row, unit = unlike[0]
    base = None if unit is None else as_spelt(scaled(_plain(unit))[0])
    other_row, other = next(
        (at, one)
        for at, one in unlike[1:]
        if one is None or unit is None or as_spelt(scaled(_plain(one))[0]) != base
    )
    said = [word or "has no unit" for word in (unit, other)]
    raise InvalidDataError(
        f"Its numbers have different units: {said[0]} in {row_of(row)}, {said[1]} in "
        f"{row_of(other_row)}.",
        field=f"data.{name}",
        remedy="Write all its numbers in one unit, or train without it: --exclude "
        f"{shlex.quote(name)}.",
    )


def _of_its_name(unit: str, numbers: list[str]) -> list[str]:
    """Return the column that has the name of a column of units without the word for these."""
    without = names.UNIT | names.VALUE
    rest = [word for word in names.words(unit) if word not in without and not word.isdigit()]
    told = [n for n in numbers if [w for w in names.words(n) if w not in names.VALUE] == rest]
    return told[:1] if rest else []


def _beside(unit: str, columns: list[str], numbers: list[str]) -> list[str]:
    at = columns.index(unit)
    before: list[str] = []
    for name in columns[:at][::-1]:
        if name not in numbers:
            break
        before.append(name)
    return before or [name for name in columns[at + 1 : at + 2] if name in numbers]


def _plain(unit: str) -> str:
    """Return a unit without what it says of a current: "mVDC" is "mV"."""
    return _COUPLING.sub("", unit.strip())
