"""What a reading looks back on, as arrays, and the pasts of assets that were heard of lately."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats
from vigie.history.reading import Reading
from vigie.models.anomaly_data import AssetState
from vigie.services.asset import Standing
from vigie.services.sensors import Examined, Sensors
from vigie.services.timeline import Times, as_times

if TYPE_CHECKING:
    from vigie.history.store import Mark

Asset = tuple[str, str | None]
"""Asset and sensor group: what has a history of its own."""
MOST_REMEMBERED = 4096
"""Assets; each takes about ten kilobytes."""


@dataclass(frozen=True)
class Past:
    """Rows of one asset that have been judged, oldest first.

    Attributes
    ----------
    sensors : Sensors
        The columns, and what is known of them.
    times : ndarray of datetime64[us] of shape (n_rows,)
        When each row was measured.
    values, usable : ndarray of shape (n_rows, n_sensors)
        As ``Examined`` has them.
    held : ndarray of int of shape (n_rows, n_sensors)
        For how many rows each sensor had had its very value when the row was judged.
    p_values : ndarray of shape (n_rows,)
        As ``Judged.supported`` gave them.
    standing : Standing or None
        The state of the asset after the last row; None where it is not known.
    """

    sensors: Sensors
    times: Times
    values: Floats
    usable: Floats
    held: NDArray[np.intp]
    p_values: Floats
    standing: Standing | None

    @classmethod
    def of(cls, sensors: Sensors, readings: Sequence[Reading]) -> Past:
        """Return readings as the history has kept them."""
        examined = sensors.examine(sensors.matrix(reading.features for reading in readings))
        held = np.ones(examined.values.shape, dtype=np.intp)
        for row, reading in enumerate(readings):
            if known := reading.result.get("held"):
                held[row] = [known.get(name, 1) for name in sensors.names]
        return cls(
            sensors,
            as_times([reading.timestamp for reading in readings]),
            examined.values,
            examined.usable,
            held,
            # A missing one becomes NaN.
            np.array([one.result.get("p_value") for one in readings], dtype=np.float64),
            _standing(readings[-1]) if readings else None,
        )

    def __len__(self) -> int:
        return len(self.times)

    def before(self, examined: Examined) -> Examined:
        """Return these rows and those that come after them, without what is wrong with them."""
        if len(self) == 0:
            return examined
        values = usable = np.concatenate([self.values, examined.values])
        if self.usable is not self.values or not examined.sound:
            usable = np.concatenate([self.usable, examined.usable])
        return Examined(self.sensors, values, usable, {}, self.held[0])


class Memory:
    """The pasts of the assets that were heard of last.

    The history alone is to be believed. What is remembered of it is good for as long as the
    history's mark of an asset stays what it was.
    """

    def __init__(self) -> None:
        self._pasts: OrderedDict[Asset, tuple[Mark, Past]] = OrderedDict()
        self._lock = threading.Lock()

    def recall(self, asset: Asset, mark: Mark, sensors: Sensors) -> Past | None:
        """Return the past of an asset; None if it is not known, or not any more."""
        with self._lock:
            known, past = self._pasts.get(asset, (None, None))
        return past if known == mark and past is not None and past.sensors is sensors else None

    def keep(self, asset: Asset, mark: Mark, past: Past) -> None:
        """Remember a past under the history's mark, if it ends with the newest reading.

        Where there are too many, the asset not heard of for the longest time is forgotten.
        """
        if mark.newest_us != int(past.times[-1].astype(np.int64)):
            return
        with self._lock:
            self._pasts[asset] = mark, past
            self._pasts.move_to_end(asset)
            if len(self._pasts) > MOST_REMEMBERED:
                self._pasts.popitem(last=False)


def _standing(reading: Reading) -> Standing | None:
    result = reading.result
    if "state" not in result:
        return None
    return Standing(
        AssetState(result["state"]),
        np.datetime64(result["since"], "us"),
        None if result["began"] is None else np.datetime64(result["began"], "us"),
        result["calm"],
    )
