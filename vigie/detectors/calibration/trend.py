"""The trend of an asset: any algorithm, applied to moving averages of rows.

An average over ``n_rows`` consecutive rows has a fraction of the noise of one row, so it shows
shifts too small to show in any reading. Two precautions avoid false alarms:

- Beyond the usual range of a sensor, only the logarithm of the distance counts. A single outlier
  then hardly moves the average, and an average soon recovers from a fault.
- The algorithm is fitted to averages of half as many rows, and calibrated on averages of a quarter
  as many. A full average is unusual only if such noisier averages rarely look like it, so a shift
  that is small against the noise raises no alarm, however significant it is. It also means that
  half a window is enough for a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vigie.detectors.base import Detector, Fitted, Floats, Progress, standardisation
from vigie.detectors.scoring import averages

USUAL_PERCENT = (0.5, 99.5)
ROOM = 0.25
"""Scale of the logarithm beyond the usual range, in widths of that range."""


@dataclass(frozen=True)
class Trend:
    """A detector on averages of consecutive rows.

    Parameters
    ----------
    detector : Detector
        The algorithm, configured for single readings.
    n_rows : int
        Rows in an average.
    """

    detector: Detector
    n_rows: int

    @property
    def algorithm(self) -> str:
        return self.detector.algorithm

    @property
    def window(self) -> int:
        return self.n_rows + self.detector.window - 1

    @property
    def scores_comparable(self) -> bool:
        return self.detector.scores_comparable

    @property
    def params(self) -> dict[str, Any]:
        few = max(self.n_rows // 2, 1)
        return self.detector.params | {"averaged_rows": self.n_rows, "averaged_at_least": few}

    @property
    def noisy(self) -> Trend:
        """The same detector on averages of a quarter as many rows, for the calibration."""
        return replace(self, n_rows=max(self.n_rows // 4, 1))

    def for_averages(self, n_rows: int) -> Detector:
        return Trend(self.detector, n_rows)

    def for_part(self, share: float) -> Trend:
        return replace(self, detector=self.detector.for_part(share))

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        rows = np.concatenate(segments)
        low, high = np.percentile(rows, USUAL_PERCENT, axis=0)
        _, unit = standardisation(rows)
        room = ROOM * np.where(high > low, high - low, unit)
        limits = {"low": low, "high": high, "room": room}
        half = max(self.n_rows // 2, 1)
        averaged = [averages(limits, part, half, half) for part in segments]
        enough = [part for part in averaged if len(part) >= self.detector.window]
        fitted = self.detector.for_averages(self.n_rows).fit(enough, progress)
        return replace(fitted, arrays=fitted.arrays | limits)

    def set_threshold(self, estimator: Any, raw_threshold: float) -> None:
        self.detector.set_threshold(estimator, raw_threshold)
