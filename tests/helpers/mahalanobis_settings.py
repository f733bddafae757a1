"""The hyper-parameter of the detector in ``mahalanobis.py``."""

from __future__ import annotations

from pydantic import Field

from vigie.config import Settings


class MahalanobisSettings(Settings):
    """The settings, and how far the covariance is drawn towards independent sensors."""

    shrinkage: float = Field(0.1, ge=0, le=1)
