"""A cache of look-backs by asset, validated against the history."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vigie.assessment.ensemble import Ensemble
from vigie.assessment.look_back import LookBack
from vigie.assessment.status import AssetStatus
from vigie.assessment.timeline import RecentRows, as_times, since_gaps
from vigie.history.records import Reading, Standing
from vigie.models.anomaly_data import AssetState

if TYPE_CHECKING:
    from vigie.history.store import Revision

Asset = tuple[str, str | None]
"""Asset and sensor group, which together have a history of their own."""
MOST_BYTES = 512 * 2**20
"""Memory of the cache; with eight sensors, each look-back takes about 20 kilobytes."""


class LookBackCache:
    """The last look-back of each asset, in least recently used order.

    A cached look-back is valid as long as the history's revision of its asset stays the same; if
    another process has only added readings, it is valid after these have been added to it.
    """

    def __init__(self) -> None:
        self._cached: OrderedDict[Asset, tuple[Revision, Ensemble, LookBack, int]] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def get(self, asset: Asset, ensemble: Ensemble) -> tuple[Revision, LookBack] | None:
        """Return the look-back of an asset by these models, and the revision that it ends with."""
        with self._lock:
            cached = self._cached.get(asset)
        if cached is None or cached[1] is not ensemble:
            return None
        return cached[0], cached[2]

    def put(
        self, asset: Asset, revision: Revision, ensemble: Ensemble, look_back: LookBack
    ) -> None:
        """Cache a look-back that ends with the newest reading of the history's revision.

        If the cache is full, the least recently updated assets are removed.
        """
        n_bytes = look_back.n_bytes()
        with self._lock:
            if (before := self._cached.pop(asset, None)) is not None:
                self._n_bytes -= before[3]
            self._cached[asset] = revision, ensemble, look_back, n_bytes
            self._n_bytes += n_bytes
            while self._n_bytes > MOST_BYTES and len(self._cached) > 1:
                _, oldest = self._cached.popitem(last=False)
                self._n_bytes -= oldest[3]

    def states(self) -> Counter[AssetState]:
        """Return how many assets are in which state."""
        with self._lock:
            cached = list(self._cached.values())
        statuses = (look_back.status for _, _, look_back, _ in cached)
        return Counter(status.state for status in statuses if status is not None)


def look_back_on(ensemble: Ensemble, readings: Sequence[Reading]) -> LookBack:
    """Return the look-back that consists of readings from the history, oldest first."""
    if not readings:
        return ensemble.no_look_back
    sensors, none = ensemble.sensors, ensemble.no_look_back.rows
    rows = sensors.examine(sensors.matrix(reading.features for reading in readings))
    times = as_times([reading.measured for reading in readings])
    counts = readings[-1].assessed.held
    held = np.array([counts.get(name, 1) for name in sensors.names], np.int64)
    since_gap = since_gaps(times, ensemble.max_gap_s, none)
    return LookBack(
        RecentRows(sensors, times, rows.values, rows.usable, since_gap, held),
        # None becomes NaN.
        np.array([reading.assessed.p_value for reading in readings], dtype=np.float64),
        status_of(readings[-1].assessed.standing),
    )


def status_of(standing: Standing) -> AssetStatus | None:
    """Return a state from the history; None in histories of versions without states."""
    if standing.state is None or standing.since is None:
        return None
    return AssetStatus(
        standing.state,
        np.datetime64(standing.since, "us"),
        None if standing.began is None else np.datetime64(standing.began, "us"),
        standing.calm,
        standing.usual,
    )
