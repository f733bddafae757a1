"""What the next rows of an asset look back on: its last rows, and what was said of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vigie.assessment.sensors import Sensors
from vigie.assessment.status import AssetStatus
from vigie.assessment.timeline import RecentRows
from vigie.detectors.base import Floats


@dataclass(frozen=True)
class LookBack:
    """The past of an asset, as far as an assessment looks at it.

    Attributes
    ----------
    rows : RecentRows
        Its last rows.
    p_values : ndarray of shape (n_rows,)
        As ``Assessment.conservative_p_values`` had them; NaN for a row that was not assessed.
    status : AssetStatus or None
        After the last row; None where it is not known.
    """

    rows: RecentRows
    p_values: Floats
    status: AssetStatus | None

    @classmethod
    def none(cls, sensors: Sensors) -> LookBack:
        """Return what the first row of an asset looks back on."""
        return cls(RecentRows.none(sensors), np.empty(0), None)
