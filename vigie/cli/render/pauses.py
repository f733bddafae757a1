"""Pauses of a recording: steps in time that are far longer than the usual one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vigie.assessment.timeline import Times

FAR_LONGER = 10.0
"""In usual steps."""
MOST_SAMPLED, MOST_KEPT = 1 << 16, 1000


class Pause(NamedTuple):
    """A pause.

    Attributes
    ----------
    row : int
        The last row before it, counted from 0.
    begin, end : datetime64[us]
        When that row and the next one were measured.
    """

    row: int
    begin: np.datetime64
    end: np.datetime64

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return float((self.end - self.begin) / np.timedelta64(1, "s"))


class Pauses:
    """Find the pauses of consecutive rows, in bounded memory.

    Attributes
    ----------
    n_rows : int
        Rows so far.
    """

    def __init__(self) -> None:
        self.n_rows = 0
        self._last: np.datetime64 | None = None
        self._sampled, self._every = np.empty(0), 1
        self._longest: list[Pause] = []

    def add(self, times: Times | None) -> None:
        """Add the next rows, measured at ``times`` (n,); without times there is no pause."""
        if times is None or not len(times):
            return
        before, first = times, self.n_rows
        self.n_rows += len(times)
        if self._last is not None:
            before, first = np.concatenate([[self._last], times]), first - 1
        self._last = times[-1]
        steps = np.diff(before) / np.timedelta64(1, "s")
        self._sampled = np.concatenate([self._sampled, steps[:: self._every]])
        while len(self._sampled) > MOST_SAMPLED:
            self._sampled, self._every = self._sampled[::2], 2 * self._every
        limit = min((pause.seconds for pause in self._longest), default=0.0)
        limit = max(self.limit_s, limit if len(self._longest) == MOST_KEPT else 0.0)
        rows = np.flatnonzero(steps > limit)
        rows = rows[np.argsort(-steps[rows], kind="stable")[:MOST_KEPT]]
        found = [Pause(first + row, before[row], before[row + 1]) for row in rows.tolist()]
        kept = sorted([*self._longest, *found], key=lambda pause: -pause.seconds)
        self._longest = kept[:MOST_KEPT]

    @property
    def usual_s(self) -> float:
        """The usual step in seconds; NaN without one."""
        return float(np.median(self._sampled)) if len(self._sampled) else float("nan")

    def all(self) -> list[Pause]:
        """Return the pauses in time order; of very many, the longest."""
        return sorted(pause for pause in self._longest if pause.seconds > self.limit_s)

    @property
    def limit_s(self) -> float:
        """The longest step that is no pause, in seconds."""
        if not len(self._sampled):
            return float("inf")
        # Of irregular rows, one step in ten may be long without a pause.
        return FAR_LONGER * float(np.quantile(self._sampled, 0.9))
