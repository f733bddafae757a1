"""The rows of one asset from a table or a file: judged part by part, as if all had come at once.

What a row looks back on is carried over from one part to the next: the rows of the longest window,
their p-values, how long each sensor has held its value, and the state of the asset. So memory does
not grow with the rows, and it makes no difference where they are cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats
from vigie.detectors.compiled.blocks import CORES
from vigie.detectors.data.matrices import as_matrix
from vigie.detectors.data.quality import Kind, SensorFault
from vigie.models.anomaly_data import AssetState
from vigie.services import asset
from vigie.services.asset import Course, Standing
from vigie.services.detector_service import Served
from vigie.services.sensors import Examined, Sensors
from vigie.services.timeline import Timeline, Times, reach_of
from vigie.services.verdict import Judged, examples, judge, look_back

if TYPE_CHECKING:
    import pandas as pd

SECOND = np.timedelta64(1_000_000, "us")
EXPLAINED_AT_A_TIME = 2048
"""Anomalous rows whose sensors are looked for at a time; each is scored once for each sensor."""

KINDS: tuple[Kind, ...] = get_args(Kind)

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """Consecutive rows, and what is said of them.

    Attributes
    ----------
    first : int
        Its first row, counted from 0 over all parts.
    judged : Judged
        Of these rows; ``examined`` is of these rows too.
    course : Course
        The states of the asset.
    """

    first: int
    judged: Judged
    course: Course

    def __len__(self) -> int:
        return len(self.judged)

    @property
    def examined(self) -> Examined:
        """What is wrong with the sensors."""
        assert self.judged.examined is not None
        return self.judged.examined

    @property
    def in_alarm(self) -> NDArray[np.bool_]:
        """Whether the asset is in alarm at each row, shape (n,)."""
        found: NDArray[np.bool_] = self.course.states == asset.STATES.index(AssetState.ALARM)
        return found

    def leading(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the sensor with the largest share in each of some anomalous rows.

        The same that ``Judged.reasons`` names first, without an object for every sensor of every
        row; as places in the names of ``examined.sensors``, shape (n_rows,).
        """
        blocks = [
            self._shares(rows[start : start + EXPLAINED_AT_A_TIME]).argmax(axis=1)
            for start in range(0, len(rows), EXPLAINED_AT_A_TIME)
        ]
        return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.intp)

    def _shares(self, rows: NDArray[np.intp]) -> Floats:
        judged, names = self.judged, self.examined.sensors.names
        shares = np.zeros((len(rows), len(names)))
        for name, served in judged.serving.items():
            model, p_values = served.model, judged.p_values[name][rows]
            known = np.flatnonzero(~np.isnan(p_values))
            why = model.explain(examples(model, judged.timeline, judged.first + rows[known]))
            columns = np.array([names.index(sensor) for sensor in model.feature_names])
            surprise = -np.log10(p_values[known])[:, None]
            shares[np.ix_(known, columns)] += surprise * why.shares
        return shares


class Stream:
    """Judge the consecutive rows of one asset, part by part.

    Parameters
    ----------
    serving : mapping of str to Served
        The models that are asked.
    sensors : Sensors
        All that any of them looks at.
    refuse : bool
        Whether an impossible value is an error; else the row is judged without that sensor.
    contamination : float
        The p-value below which a reading is an anomaly.
    max_gap_s : float
        A longer pause between two rows, in seconds, makes windows start afresh.
    lacking : mapping of str to tuple of str
        By model, the columns that it needs and the rows do not have.
    """

    def __init__(
        self,
        serving: Mapping[str, Served],
        sensors: Sensors,
        *,
        refuse: bool,
        contamination: float,
        max_gap_s: float,
        lacking: Mapping[str, tuple[str, ...]] = {},
    ):
        self.serving, self.sensors, self.contamination = serving, sensors, contamination
        self.lacking = lacking
        self._refuse, self._max_gap_s = refuse, max_gap_s
        self._look_back = look_back(serving)
        self._n_rows = self._n_followed = 0
        self._past = np.empty((0, len(sensors.names)))
        self._past_times = np.empty(0, dtype="datetime64[us]")
        self._held: NDArray[np.intp] | None = None
        self._supported = np.empty(0)
        self._standing: Standing | None = None

    def judge_all(self, parts: Iterable[tuple[pd.DataFrame, Times | None]]) -> Iterator[Part]:
        """Judge tables one after the other, several at once.

        Only what is carried over is looked at in order: before a table is scored, which takes
        nearly all of the time, and after. The next tables are fetched and looked at meanwhile.
        """
        taken = ahead(self._take(X, times) for X, times in parts)
        for judged in side_by_side(self._score, taken):
            yield self._follow(judged)

    def judge(self, X: Any, times: Times | None = None) -> Part:
        """Judge the next rows.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
            Readings in time order; columns that no model knows are not looked at.
        times : ndarray of datetime64 of shape (n_samples,), optional
            When they were measured; by default a second apart.

        Raises
        ------
        InvalidDataError
            If a column is missing or holds no numbers, or a value is impossible and to be refused.
        """
        return self._follow(self._score(self._take(X, times)))

    def _take(self, X: Any, times: Times | None) -> tuple[Timeline, Examined]:
        """Return the next rows behind those that they look back on, and what is wrong with them."""
        names = self.sensors.names
        known = {str(column) for column in X.columns}
        if not self._refuse and known.intersection(names) and not known.issuperset(names):
            X = X.reindex(columns=list(names))
        found = as_matrix(X, names, gaps=not self._refuse, first_row=self._n_rows)
        values = found.values
        if times is None:
            times = np.datetime64(0, "us") + SECOND * np.arange(
                self._n_rows, self._n_rows + len(values)
            )
        times = times.astype("datetime64[us]", copy=False)
        n_past = len(self._past)
        values = np.concatenate([self._past, values]) if n_past else values
        times = np.concatenate([self._past_times, times]) if n_past else times
        examined = replace(self.sensors.examine(values), held_before=self._held)
        now = examined.since(n_past)
        if self._refuse:
            for row in np.flatnonzero(np.isnan(now.usable).any(axis=1)).tolist():
                now.refuse(row, f"data[{self._n_rows + row}].")
        self._n_rows += len(values) - n_past
        kept = max(len(values) - self._look_back, 0)
        self._past, self._past_times = values[kept:].copy(), times[kept:].copy()
        self._held = examined.held[kept] if len(values) else None
        reach = reach_of(times, self._max_gap_s)
        return Timeline(self.sensors, times, examined.usable, reach), now

    def _score(self, taken: tuple[Timeline, Examined]) -> Judged:
        """Return what the models say of the next rows, without what was said of earlier ones."""
        timeline, now = taken
        first = len(timeline.times) - len(now.values)
        judged = judge(self.serving, timeline, first, np.empty(0), self.contamination)
        return replace(judged, examined=now)

    def _follow(self, judged: Judged) -> Part:
        """Put what was said of earlier rows before what is said of the next ones."""
        judged = replace(judged, before=self._supported[len(self._supported) - judged.first :])
        times = judged.timeline.times[judged.first :]
        course = asset.course(self._standing, times, judged.asset, self.contamination)
        if len(times):
            self._standing = _last(course, judged)
        part = Part(self._n_followed, judged, course)
        self._n_followed += len(times)
        known = np.append(judged.before, judged.supported)
        self._supported = known[max(len(known) - self._look_back, 0) :]
        return part


class Faults:
    """What is wrong with the sensors, counted over all parts."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], SensorFault] = {}
        self._n_rows = 0

    def add(self, part: Part) -> None:
        """Count the faults of the next part."""
        names = part.examined.sensors.names
        self._n_rows += len(part)
        for fault in part.examined.faults():
            place = KINDS.index(fault.kind), names.index(fault.sensor)
            fault = replace(fault, first_row=part.first + fault.first_row)
            if (known := self._found.get(place)) is not None:
                longest = max(fault.longest or 0, known.longest or 0) or None
                fault = replace(known, n_rows=known.n_rows + fault.n_rows, longest=longest)
            self._found[place] = fault

    def all(self) -> list[SensorFault]:
        """Return them by kind and sensor, as if all rows had come in one part."""
        return [replace(fault, n_samples=self._n_rows) for _, fault in sorted(self._found.items())]


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield items, each made in a thread while the one before it is made use of."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield item  # type: ignore[misc]


def side_by_side(work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Yield what becomes of items, in their order; each core works on one of them."""
    with ThreadPoolExecutor(CORES) as threads:
        underway: deque[Future[T]] = deque()
        for item in items:
            underway.append(threads.submit(work, item))
            if len(underway) > CORES:
                yield underway.popleft().result()
        while underway:
            yield underway.popleft().result()


def _last(course: Course, judged: Judged) -> Standing:
    """Return the standing after the last row."""
    last = course.standing(-1)
    raised = int(course.entered[-1])
    if last.state is AssetState.ALARM and raised >= 0:
        return replace(last, began=judged.began(raised))
    return last
