"""Draw the sensors of a machine over time, one panel each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError
from vigie.events.gathering import stretches
from vigie.printable import printable
from vigie.tables.machines import Machine
from vigie.tables.report import ColumnReport, Report
from vigie.tables.table import Times
from vigie.tracking.axes import LONGEST_NAME, days_of, literal, mark_times

Floats = NDArray[np.float64]

MOST_PANELS = 24
BINS = 700
"""Parts of the time that are drawn by their least and largest value, where there are more rows."""
DPI = 110
WIDTH, PANEL_HEIGHT = 10.0, 1.15
"""In inches."""
INK, ACCENT, ALERT = "#33415c", "#3a86c8", "#d1495b"
MISSING_COLOUR, FROZEN_COLOUR, FROZEN_ALPHA = "#c9ced6", "#d1495b", 0.25


@dataclass(frozen=True)
class Drawn:
    """What is drawn of a sensor.

    Attributes
    ----------
    x : ndarray of shape (n_points,)
        When: row numbers from 1, or days.
    low, high : ndarray of shape (n_points,)
        The least and the largest value there; NaN where there is none, and in a gap.
    missing : list of (x, width)
        Where values are missing.
    """

    x: Floats
    low: Floats
    high: Floats
    missing: list[tuple[float, float]]


def write_picture(report: Report, machines: Sequence[Machine], path: Path) -> None:
    """Draw up to 24 sensors of the machine with the most rows into a PNG file.

    Missing and frozen stretches are shaded; lines break where rows are missing.

    Raises
    ------
    InvalidDataError
        If there is no sensor, or the file cannot be written.
    """
    # Imported here, since few looks at a file need Matplotlib.
    from matplotlib.figure import Figure

    columns = report.features[:MOST_PANELS]
    if not columns:
        raise InvalidDataError("No column holds readings to draw.", field="--picture")
    machine = max(machines, key=lambda machine: machine.n_rows)
    across = 1 if len(columns) <= 3 else 2 if len(columns) <= 12 else 3
    down = -(-len(columns) // across)
    figure = Figure(figsize=(WIDTH, 0.95 + PANEL_HEIGHT * max(down, 1.4)), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, squeeze=False).ravel().tolist()
    times = machine.table.times
    x, is_time = places(0, machine.n_rows, times), times is not None and len(times) > 0
    gap = _gap_limit(report, is_time)
    for axes, column in zip(panels, columns, strict=False):
        _draw(axes, column, machine, x, gap)
    for axes in panels[len(columns) :]:
        axes.set_axis_off()
    for axes in panels[max(len(columns) - across, 0) : len(columns)]:
        label_times(axes, is_time, most=8 if across == 1 else 5)
    figure.suptitle(_title(report, machine, len(columns)), fontsize=10, x=0.01, ha="left")
    _add_legend(figure, columns)
    save(figure, path)


def places(first: int, n_rows: int, times: Times | None) -> Floats:
    """Return where rows stand on the axis: days since 1970, or their numbers from 1."""
    if times is None:
        return np.arange(first + 1.0, first + 1.0 + n_rows)
    return days_of(times)


def save(figure: Any, path: Path) -> None:
    """Write a figure in the format that the ending of the file says.

    Raises
    ------
    InvalidDataError
        If the file cannot be written.
    """
    try:
        figure.savefig(path, dpi=DPI, format=path.suffix[1:].lower() or "png")
    except OSError as error:
        raise InvalidDataError(
            f"{path} cannot be written: {error.strerror or error}.", field="--picture"
        ) from error


def label_times(axes: Any, is_time: bool, most: int) -> None:
    """Label the axis of the lowest panel below one another."""
    axes.tick_params(labelbottom=True)
    axes.set_xlabel("time, UTC" if is_time else "row", fontsize=8)
    if is_time:
        mark_times(axes, most)
    axes.xaxis.get_offset_text().set_fontsize(7)


def _add_legend(figure: Any, columns: Sequence[ColumnReport]) -> None:
    """Say what the colours mean that are in the picture."""
    from matplotlib.patches import Patch

    keys = []
    if any(column.n_missing for column in columns):
        keys.append(Patch(color=MISSING_COLOUR, label="missing"))
    if any(column.frozen for column in columns):
        keys.append(Patch(color=FROZEN_COLOUR, alpha=FROZEN_ALPHA, label="frozen"))
    if keys:
        figure.legend(handles=keys, loc="outside lower right", ncols=2, frameon=False, fontsize=8)


def _draw(axes: Any, column: ColumnReport, machine: Machine, x: Floats, gap: float) -> None:
    """Draw a sensor into a panel."""
    values = machine.table.frame[column.name].to_numpy(dtype=np.float64, na_value=np.nan)
    drawn = _drawn(x, values, gap)
    axes.fill_between(drawn.x, drawn.low, drawn.high, color=ACCENT, linewidth=0.5, alpha=0.7)
    axes.plot(drawn.x, (drawn.low + drawn.high) / 2, color=ACCENT, linewidth=0.9)
    alone = is_alone(drawn.low)
    axes.plot(drawn.x[alone], drawn.low[alone], ".", color=ACCENT, markersize=2)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    if drawn.missing:
        axes.broken_barh(
            drawn.missing, (low, high - low), color=MISSING_COLOUR, linewidth=0, zorder=0
        )
    frozen = [
        (x[stretch.first], x[stretch.last] - x[stretch.first])
        for stretch in column.frozen
        if stretch.asset == machine.asset
    ]
    if frozen:
        axes.broken_barh(
            frozen,
            (low, high - low),
            color=FROZEN_COLOUR,
            alpha=FROZEN_ALPHA,
            linewidth=0,
            zorder=0,
        )
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7, labelbottom=False)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.yaxis.get_offset_text().set_fontsize(7)
    axes.locator_params(axis="y", nbins=3)
    axes.set_title(text_of(column.name), fontsize=8, loc="left", pad=3, color=INK)
    if column.unit:
        axes.set_ylabel(text_of(column.unit), fontsize=7)
    if len(x) > 1:
        axes.set_xlim(x.min(), x.max())


def _drawn(x: Floats, values: Floats, gap: float) -> Drawn:
    """Return what is drawn of a sensor: its rows, or the envelope of many."""
    is_missing = ~np.isfinite(values)
    missing = [(x[first], x[last] - x[first]) for first, last in _runs(is_missing)]
    values = np.where(is_missing, np.nan, values)
    if len(x) <= 2 * BINS:
        at = np.flatnonzero(np.diff(x) > gap) + 1
        # A NaN between two rows breaks the line.
        holes = np.insert(x, at, x[at - 1]), np.insert(values, at, np.nan)
        return Drawn(holes[0], holes[1], holes[1], missing)
    width = (x[-1] - x[0]) / BINS or 1.0
    bins = np.minimum(((x - x[0]) / width).astype(np.intp), BINS - 1)
    low, high = np.full(BINS, np.inf), np.full(BINS, -np.inf)
    known = ~is_missing
    np.minimum.at(low, bins[known], values[known])
    np.maximum.at(high, bins[known], values[known])
    empty = low > high
    low[empty], high[empty] = np.nan, np.nan
    middle = x[0] + width * (np.arange(BINS) + 0.5)
    # With fewer rows than bins here and there, empty ones are no gaps.
    is_gap = np.zeros(BINS, dtype=bool)
    for row in np.flatnonzero(np.diff(x) > max(gap, width)):
        is_gap[bins[row] + 1 : bins[row + 1]] = True
    for first, last in _runs(is_missing):
        is_gap[bins[first] : bins[last] + 1] = True
    keep = ~empty | is_gap
    return Drawn(middle[keep], low[keep], high[keep], missing)


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first row before, and the last row of, each run of missing values."""
    return [(max(first - 1, 0), min(last + 1, len(mask) - 1)) for first, last in stretches(mask)]


def is_alone(values: Floats) -> NDArray[np.bool_]:
    """Return which values have none beside them, so that no line shows them."""
    known = np.isfinite(values)
    before, after = np.append(False, known[:-1]), np.append(known[1:], False)
    return np.asarray(known & ~before & ~after)


def _gap_limit(report: Report, is_time: bool) -> float:
    """Return the step from which a line breaks."""
    if not is_time or report.time is None or report.time.step_s is None:
        return float(np.inf)
    usual = report.time.step_s / 86_400
    return usual * (2.5 if report.time.is_regular else 10.0)


def _title(report: Report, machine: Machine, n_drawn: int) -> str:
    name = text_of(Path(report.name).name or report.name, 60)
    whose = "" if machine.asset is None else f", machine {text_of(machine.asset)}"
    n_all = len(report.features)
    of = f"{n_drawn} sensors" if n_drawn == n_all else f"the first {n_drawn} of {n_all} sensors"
    of = "1 sensor" if n_all == 1 else of
    return f"{name}{whose}: {of} over {machine.n_rows:,} rows"


def text_of(text: str, longest: int = LONGEST_NAME) -> str:
    """Return text from outside as Matplotlib draws it as it is, control characters written out."""
    return literal(printable(text), longest)
