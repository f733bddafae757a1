"""The look-back of an asset: its last rows, and their assessment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vigie.assessment.sensors import Sensors
from vigie.assessment.status import AssetStatus
from vigie.assessment.timeline import RecentRows
from vigie.detectors.base import Floats


@dataclass(frozen=True)
class LookBack:
    """The part of an asset's past that the next assessment needs.

    Attributes
    ----------
    rows : RecentRows
        The last rows.
    p_values : ndarray of shape (n_rows,)
        ``Assessment.conservative_p_values`` of these rows; NaN for a row that was not assessed.
    status : AssetStatus or None
        The status after the last row; None if unknown.
    """

    rows: RecentRows
    p_values: Floats
    status: AssetStatus | None

    def n_bytes(self) -> int:
        """Return the memory of its arrays."""
        rows = self.rows
        arrays = rows.times, rows.values, rows.rows_since_gap, rows.held, self.p_values
        n_bytes = sum([array.nbytes for array in (*arrays, *rows.errors.values())])
        return n_bytes if rows.is_sound else n_bytes + rows.usable.nbytes

    @classmethod
    def none(cls, sensors: Sensors) -> LookBack:
        """Return the empty look-back of the first row of an asset."""
        return cls(RecentRows.none(sensors), np.empty(0), None)
