"""Look at a file before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vigie.detectors.data.proposal import proposed_for
from vigie.detectors.data.quality import frozen_runs
from vigie.tables.machines import Machine, by_machine
from vigie.tables.options import UNSTATED, ReadOptions
from vigie.tables.reading import read_table
from vigie.tables.report import Report, report_of
from vigie.tables.shape import looks_by_asset
from vigie.tables.table import Table

if TYPE_CHECKING:
    import pandas as pd

LOOKED_AT = 20_000
"""Rows in which settings of the machine are looked for."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was understood of a file, and its machines."""

    report: Report
    machines: Sequence[Machine]


def inspect(path: Path, options: ReadOptions = UNSTATED, name: str = "FILE") -> Inspection:
    """Read a file as a training would, and report what was understood.

    Parameters
    ----------
    path : Path
        The file.
    options : ReadOptions, optional
        What is known about it.
    name : str, optional
        What the user calls it.

    Raises
    ------
    InvalidDataError
        If it cannot be read without a guess. Several machines that no option tells apart are
        none: they are reported.
    """
    table = read_table(path, options)
    by = options.by
    if by is None and options.long is None:
        by = looks_by_asset(table.frame, table.times)
    machines = list(by_machine(table, replace(options, by=by)))
    return Inspection(_report(table, machines, options, by, name), machines)


def report_on(table: Table, name: str = "FILE", options: ReadOptions = UNSTATED) -> Report:
    """Report on the rows of one machine that are already read."""
    return _report(table, [Machine(None, table)], options, None, name)


def _report(
    table: Table,
    machines: Sequence[Machine],
    options: ReadOptions,
    by: str | None,
    name: str,
) -> Report:
    return report_of(
        table, machines, options, by=by, name=name, frozen=frozen_runs, context=_proposed
    )


def _proposed(frame: pd.DataFrame, features: Sequence[str]) -> dict[str, float]:
    known = [feature for feature in features if feature in frame]
    return proposed_for(frame.iloc[:LOOKED_AT], known) if known else {}
