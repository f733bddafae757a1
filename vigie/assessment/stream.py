"""Assess the rows of one asset from a table or a file part by part, with the result of one pass.

The look-back is carried over from part to part, so memory does not grow with the number of rows
and the cuts make no difference. Only the look-back needs the order: parts are read one by one,
scored in parallel, which takes nearly all of the time, and concluded one by one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args

import numpy as np

from vigie.assessment import false_alarms
from vigie.assessment.assessment import Assessment, Scores
from vigie.assessment.engine import conclude, score
from vigie.assessment.ensemble import Ensemble
from vigie.assessment.sensors import Examined
from vigie.assessment.status import STATES
from vigie.assessment.timeline import Timeline, Times
from vigie.detectors.compiled.blocks import CORES
from vigie.detectors.data.context import as_word, code_of
from vigie.detectors.data.matrices import as_matrix
from vigie.detectors.data.quality import Kind, SensorFault
from vigie.models.anomaly_data import AssetState

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

SECOND = np.timedelta64(1_000_000, "us")
KINDS: tuple[Kind, ...] = get_args(Kind)

S = TypeVar("S")
T = TypeVar("T")


class Part(NamedTuple):
    """Consecutive rows of a stream.

    Attributes
    ----------
    first : int
        The number of the first row, from 0.
    assessment : Assessment
        Of these rows.
    times : ndarray of datetime64[us] of shape (n,) or None
        When they were measured, in UTC; None if that is unknown.
    """

    first: int
    assessment: Assessment
    times: Times | None = None


class _Read(NamedTuple):
    """The timeline that ends with the next rows, and these rows with their faults."""

    timeline: Timeline
    rows: Examined
    times: Times | None


class Stream:
    """Assess the consecutive rows of one asset, part by part.

    Parameters
    ----------
    ensemble : Ensemble
        The models.
    refuse : bool
        Whether an impossible value is an error; else the row is assessed without that sensor.
    lacking : mapping of str to tuple of str
        By model, the columns that are missing from the rows.
    versions : mapping of str to int or None
        Registered version by model; None for an unregistered model.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        *,
        refuse: bool,
        lacking: Mapping[str, tuple[str, ...]] = {},
        versions: Mapping[str, int | None] = {},
    ):
        self.ensemble, self.lacking, self.versions = ensemble, lacking, versions
        self._refuse = refuse
        self._n_read = self._n_concluded = 0
        self._recent = ensemble.no_look_back.rows
        self._look_back = ensemble.no_look_back
        self._has_doubted = False

    def assess_all(self, parts: Iterable[tuple[pd.DataFrame, Times | None]]) -> Iterator[Part]:
        """Assess consecutive tables; see ``assess``."""
        read = ahead(self._read(X, times) for X, times in parts)
        for scored in map_in_order(self._score, read):
            yield self._conclude(*scored)

    def assess(self, X: Any, times: Times | None = None) -> Part:
        """Assess the next rows.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
            Readings in time order; columns that no model uses are ignored.
        times : ndarray of datetime64 of shape (n_samples,), optional
            When they were measured; by default at intervals of one second.

        Raises
        ------
        InvalidDataError
            If a column is missing or not numeric, an impossible value is to be refused, or there
            are no times and false alarms are asked for by time.
        """
        return self._conclude(*self._score(self._read(X, times)))

    def _read(self, X: Any, given: Times | None) -> _Read:
        sensors = self.ensemble.sensors
        columns = {str(column) for column in X.columns}
        known = columns.intersection(sensors.names)
        if not self._refuse and 0 < len(known) < len(sensors.names):
            X = X.reindex(columns=list(sensors.names))
        table = as_matrix(
            X, sensors.names, words=sensors.words, gaps=not self._refuse, first_row=self._n_read
        )
        rows = replace(sensors.examine(table.values), words=self._unknown_words(X))
        if self._refuse:
            for row in np.flatnonzero(np.isnan(rows.usable).any(axis=1)).tolist():
                rows.refuse(row, f"data[{self._n_read + row}].")
        times = given
        if times is None:
            if self.ensemble.false_alarms_per_month is not None:
                raise false_alarms.without_times("times")
            times = np.datetime64(0, "us") + SECOND * np.arange(
                self._n_read, self._n_read + len(rows)
            )
        times = times.astype("datetime64[us]", copy=False)
        timeline = self._recent.followed_by(times, rows, self.ensemble.max_gap_s)
        self._recent = timeline.last(self.ensemble.n_look_back)
        self._n_read += len(rows)
        return _Read(timeline, rows, None if given is None else times)

    def _unknown_words(self, X: Any) -> dict[float, str]:
        """Return the words of a table that training has not seen, by their code."""
        model = self.ensemble.knows_operating_points
        if model is None or model.context is None:
            return {}
        unknown: dict[float, str] = {}
        for column, known in model.context.words.items():
            if (name := model.feature_names[column]) in X.columns:
                found = {as_word(value) for value in X[name].unique()}
                unknown |= {code_of(w): w for w in found - set(known) if w is not None}
        return unknown

    def _score(self, read: _Read) -> tuple[_Read, Scores]:
        return read, score(self.ensemble, read.timeline, len(read.timeline) - len(read.rows))

    def _conclude(self, read: _Read, scores: Scores) -> Part:
        """Combine the scores with the look-back; parts must come in order."""
        before, rows = self._look_back, read.rows
        assessment = conclude(self.ensemble, scores, rows, before.p_values, before.status)
        self._look_back = assessment.look_back()
        if not self._has_doubted and len(rows) and (doubt := assessment.doubt(len(rows) - 1)):
            self._has_doubted = True
            logger.warning("%s", doubt)
        part = Part(self._n_concluded, assessment, read.times)
        self._n_concluded += len(rows)
        return part


class Faults:
    """The sensor faults of all parts, added up."""

    def __init__(self) -> None:
        self._faults: dict[tuple[int, int], SensorFault] = {}
        self._n_rows = 0

    def add(self, part: Part) -> None:
        """Count the faults of the next part."""
        names = part.assessment.rows.sensors.names
        self._n_rows += len(part.assessment)
        for fault in part.assessment.faults():
            key = KINDS.index(fault.kind), names.index(fault.sensor)
            fault = replace(fault, first_row=part.first + fault.first_row)
            if (earlier := self._faults.get(key)) is not None:
                longest = max(fault.longest or 0, earlier.longest or 0) or None
                fault = replace(earlier, n_rows=earlier.n_rows + fault.n_rows, longest=longest)
            self._faults[key] = fault

    def all(self) -> list[SensorFault]:
        """Return the faults by kind and sensor, as if all rows had come in one part."""
        ordered = sorted(self._faults.items())
        return [replace(fault, n_samples=self._n_rows) for _, fault in ordered]


class InState(NamedTuple):
    """The rows in a state: how many, the number of the first, and when that was measured."""

    n_rows: int
    first: int
    start: np.datetime64 | None


class StateCounts:
    """The rows of all parts by the state of the asset, and the first row in each state."""

    def __init__(self) -> None:
        self._rows: dict[AssetState, InState] = {}

    def add(self, part: Part) -> None:
        """Count the states of the next part."""
        for number, state in enumerate(STATES):
            rows = np.flatnonzero(part.assessment.statuses.states == number)
            if len(rows):
                start = None if part.times is None else part.times[rows[0]]
                found = self._rows.get(state, InState(0, part.first + int(rows[0]), start))
                self._rows[state] = found._replace(n_rows=found.n_rows + len(rows))

    def of(self, state: AssetState) -> InState | None:
        """Return the rows in a state; None if there are none."""
        return self._rows.get(state)


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield items, fetching the next one in a thread while the caller uses the current one."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(next, source, end)
        while (item := future.result()) is not end:
            future = thread.submit(next, source, end)
            yield item  # type: ignore[misc]


def map_in_order(work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Yield ``work(item)`` for each item, in order, with one thread per core.

    Unlike ``Executor.map``, it reads only a few items ahead.
    """
    with ThreadPoolExecutor(CORES) as threads:
        pending: deque[Future[T]] = deque()
        for item in items:
            pending.append(threads.submit(work, item))
            if len(pending) > CORES:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
