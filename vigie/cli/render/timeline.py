"""Draw the verdict on a machine and its sensors over time, one below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vigie.cli.render.sensors import ACCENT, ALERT, INK, WIDTH, is_alone, label_times, save, text_of
from vigie.detectors.base import MAX_SURPRISE, Floats
from vigie.models.anomaly_data import AssetState
from vigie.tables.names import with_unit

COLOURS = {
    AssetState.ALARM: ALERT,
    AssetState.DRIFT: "#e0a030",
    AssetState.UNKNOWN_OPERATING_POINT: "#8e5bb5",
    AssetState.BAD_DATA: "#8a8a8a",
}
"""Of the states that are events."""
TRAINING_COLOUR, LABELLED_ALPHA = "#dddddd", 0.15
MOST_BLOCKS = 1400
"""Most points of a line; of more rows, each shows several by their least and largest value."""
MOST_SENSORS = 8
ODDS = {1: "1 in 10", 2: "1 in 100", 3: "1 in 1,000", 4: "1 in 10,000", 5: "1 in 100,000",
        6: "1 in a million"}  # fmt: skip
"""Labels of -log10 p."""
MOST_TOLD = 6.0
"""Largest -log10 p that is drawn: beyond one in a million only the order counts."""
VERDICT_HEIGHT, SENSOR_HEIGHT = 2.6, 1.0
"""In inches."""

Spans = Sequence[tuple[float, float]]
"""Beginnings and ends on the axis."""


class Blocks:
    """Consecutive rows for a picture, as few blocks of rows however many there are.

    Attributes
    ----------
    x : ndarray of shape (n_blocks,)
        Where each block begins.
    surprise : ndarray of shape (n_blocks,)
        The largest ``-log10 p`` of the asset in each; NaN where it is unknown.
    low, high : ndarray of shape (n_blocks, n_sensors)
        The least and the largest value of each sensor.
    """

    def __init__(self) -> None:
        self.x = self.surprise = np.empty(0)
        self.low = self.high = np.empty((0, 0))
        self._numbers: NDArray[np.int64] = np.empty(0, np.int64)
        self._n_rows, self._every = 0, 1

    def add(self, x: Floats, p_values: Floats, values: Floats) -> None:
        """Add the next rows: their places (n,), p-values (n,), and values (n, n_sensors)."""
        numbers = (self._n_rows + np.arange(len(x))) // self._every
        self._n_rows += len(x)
        surprise = -np.log10(np.maximum(p_values, 10.0**-MAX_SURPRISE))
        if not len(self.x):
            self.low = self.high = np.empty((0, values.shape[1]))
        self._numbers = np.concatenate([self._numbers, numbers])
        self.x, self.surprise = np.append(self.x, x), np.append(self.surprise, surprise)
        self.low, self.high = np.vstack([self.low, values]), np.vstack([self.high, values])
        self._join()
        while len(self.x) > MOST_BLOCKS:
            self._every *= 2
            self._numbers //= 2
            self._join()

    def _join(self) -> None:
        """Join the blocks with the same number."""
        begins = np.flatnonzero(np.diff(self._numbers, prepend=-1))
        if len(begins) == len(self.x):
            return
        self._numbers, self.x = self._numbers[begins], self.x[begins]
        self.surprise = np.fmax.reduceat(self.surprise, begins)
        self.low = np.fmin.reduceat(self.low, begins, axis=0)
        self.high = np.fmax.reduceat(self.high, begins, axis=0)


@dataclass(frozen=True)
class Picture:
    """What is drawn.

    Attributes
    ----------
    title : str
        Of the picture.
    blocks : Blocks
        The rows.
    is_time : bool
        Whether they stand at days rather than at row numbers.
    sensors : sequence of str
        Names of the sensors.
    limit : float
        The p-value of the asset below which an alarm is raised.
    states : mapping of AssetState to spans
        When the asset was in a state.
    named : mapping of str to spans, optional
        By sensor, the alarms that name it; by default it is unknown which do.
    pauses : spans
        Between which rows there is a pause.
    training, labelled : spans
        Rows that were trained on, and those labelled as faulty.
    first : sequence of str
        Sensors to draw if there are too many.
    units : mapping of str to str
        Units of the sensors.
    """

    title: str
    blocks: Blocks
    is_time: bool
    sensors: Sequence[str]
    limit: float
    states: Mapping[AssetState, Spans]
    named: Mapping[str, Spans] | None = None
    pauses: Spans = ()
    training: Spans = ()
    labelled: Spans = ()
    first: Sequence[str] = ()
    units: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the picture in the format that the ending of the file says.

        Raises
        ------
        InvalidDataError
            If the file cannot be written.
        """
        # Imported here, since few commands need Matplotlib.
        from matplotlib.figure import Figure

        shown = self._shown()
        heights = [VERDICT_HEIGHT, *[SENSOR_HEIGHT] * len(shown)]
        figure = Figure(figsize=(WIDTH, 1.2 + sum(heights)), layout="constrained")
        grid = figure.subplots(
            len(heights), sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        panels = grid.ravel().tolist()
        self._draw_verdict(panels[0])
        for axes, column in zip(panels[1:], shown, strict=True):
            self._draw_sensor(axes, column)
        for axes in panels:
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8, labelbottom=False)
        label_times(panels[-1], self.is_time, most=8)
        more = f" ({len(shown)} of {len(self.sensors)} sensors)"
        figure.suptitle(
            text_of(self.title, 90) + (more if 0 < len(shown) < len(self.sensors) else ""),
            fontsize=11,
        )
        n_entries = len(panels[0].get_legend_handles_labels()[0])
        # Of seven, the last would stand alone.
        columns = n_entries if n_entries <= 6 else 4
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
        )
        save(figure, path)

    def _shown(self) -> list[int]:
        """Return the columns of the sensors that are drawn, in the order of the table."""
        columns = range(len(self.sensors))
        if len(self.sensors) <= MOST_SENSORS:
            return list(columns)
        rank = {name: place for place, name in enumerate(self.first)}
        by_rank = sorted(columns, key=lambda column: rank.get(self.sensors[column], len(rank)))
        return sorted(by_rank[:MOST_SENSORS])

    def _draw_verdict(self, axes: Any) -> None:
        limit = -float(np.log10(self.limit))
        surprise = np.minimum(self._broken(self.blocks.surprise), MOST_TOLD)
        top = 1.25 * max(float(np.nanmax(surprise, initial=0.0)), limit)
        x = self.blocks.x
        half = 0.5 if not self.is_time else 0.0
        axes.set(ylim=(0.0, top))
        if len(x) > 1:
            axes.set_xlim(x[0] - half, x[-1] + half)
        axes.set_ylabel("how rarely a healthy\nmachine looks like this", fontsize=9)
        # Above are the bars of the states.
        ticks = [tick for tick in ODDS if tick <= 0.86 * top]
        axes.set_yticks(ticks, [ODDS[tick] for tick in ticks])
        self._shade(axes, 0.0, top, with_labels=True)
        axes.plot(
            self._broken(x),
            surprise,
            color=ACCENT,
            linewidth=0.9,
            label="latest readings",
        )
        axes.axhline(limit, color=INK, linewidth=0.9, linestyle="--", label="alarm threshold")
        for state, colour in COLOURS.items():
            height = 0.94 if state is AssetState.ALARM else 0.88
            self._bars(axes, self.states.get(state, ()), height * top, 0.04 * top,
                       color=colour, label=state.words)  # fmt: skip

    def _draw_sensor(self, axes: Any, column: int) -> None:
        name, x = self.sensors[column], self._broken(self.blocks.x)
        low, high = (self._broken(ends[:, column]) for ends in (self.blocks.low, self.blocks.high))
        axes.fill_between(x, low, high, color=ACCENT, linewidth=0.5, alpha=0.6)
        axes.plot(x, (low + high) / 2, color=ACCENT, linewidth=0.9)
        alone = is_alone(low)
        axes.plot(x[alone], low[alone], ".", color=ACCENT, markersize=2)
        axes.locator_params(axis="y", nbins=3)
        axes.ticklabel_format(axis="y", useOffset=False)
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom, top)
        self._shade(axes, bottom, top - bottom)
        alarms = self.states.get(AssetState.ALARM, ())
        if self.named is not None:
            alarms = self.named.get(name, ())
        self._bars(axes, alarms, top - 0.05 * (top - bottom), 0.05 * (top - bottom),
                   color=ALERT)  # fmt: skip
        title = text_of(with_unit(name, self.units.get(name)))
        axes.set_title(title, fontsize=9, loc="left", pad=3, color=INK)

    def _shade(self, axes: Any, bottom: float, height: float, with_labels: bool = False) -> None:
        named = ("training", "labelled as faulty") if with_labels else (None, None)
        self._bars(axes, self.training, bottom, height, color=TRAINING_COLOUR, label=named[0],
                   zorder=0)  # fmt: skip
        self._bars(axes, self.labelled, bottom, height, color=ALERT, alpha=LABELLED_ALPHA,
                   label=named[1], zorder=1)  # fmt: skip

    def _bars(self, axes: Any, spans: Spans, bottom: float, height: float, **look: Any) -> None:
        if spans:
            # What lasts a moment only must be seen too.
            least = (self.blocks.x[-1] - self.blocks.x[0]) / 500.0 if self.is_time else 0.0
            drawn = [(begin, max(end - begin, least)) for begin, end in spans]
            axes.broken_barh(drawn, (bottom, height), linewidth=0, **look)

    def _broken(self, values: Floats) -> Floats:
        """Return values with a NaN in each pause, which breaks a line there.

        Those of less than a block of rows are too short to be seen.
        """
        width = float(np.median(np.diff(self.blocks.x))) if len(self.blocks.x) > 1 else 0.0
        ends = [end for begin, end in self.pauses if end - begin > width]
        at = np.unique(np.searchsorted(self.blocks.x, ends))
        with_gaps: Floats = np.insert(values, at, np.nan)
        return with_gaps
