"""The service of the detector in ``mahalanobis.py``, with its hyper-parameter."""

from __future__ import annotations

from mahalanobis import ALGORITHM
from pydantic import Field

from vigie.config import Settings
from vigie.services.detector_service import DetectorService
from vigie.services.mlflow_service import MLflowService


class MahalanobisSettings(Settings):
    """The settings, and how far the covariance is drawn towards independent sensors."""

    shrinkage: float = Field(0.1, ge=0, le=1)


class MahalanobisService(DetectorService):
    """Train, ask and register a Mahalanobis distance as ``mahalanobis``."""

    name = ALGORITHM.name

    shrinkage: float

    def __init__(
        self,
        *,
        shrinkage: float | None = None,
        contamination: float | None = None,
        settings: Settings | None = None,
        mlflow_service: MLflowService | None = None,
    ):
        given = {"shrinkage": shrinkage, "contamination": contamination}
        super().__init__(given, settings, mlflow_service)
