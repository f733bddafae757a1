"""The service for the vector autoregression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from vigie.config import Settings
from vigie.services.detector_service import DetectorService
from vigie.services.mlflow_service import MLflowService


class VectorAutoregressionService(DetectorService):
    """Train a linear forecast of each row, and register it as ``vector_autoregression``.

    Parameters
    ----------
    horizons : sequence of int, optional
        The forecast uses the means of so many last rows; ascending.
    penalty : float or 'auto', optional
        Ridge penalty per row, in squared standard deviations; 'auto' for the one whose forecasts
        of held-out rows are best.
    contamination : float in (0, 0.5), optional
        Share of healthy readings that may be called anomalous; the threshold follows from it.
    settings : Settings, optional
        Defaults of all other arguments; read from the environment and ``.env`` if not given.
    mlflow_service : MLflowService, optional
        Records the trainings; by default created from the settings.

    Examples
    --------
    >>> VectorAutoregressionService(penalty=0.1).penalty
    0.1
    """

    name = algorithm_name = "vector_autoregression"

    horizons: list[int]
    penalty: float | Literal["auto"]

    def __init__(
        self,
        *,
        horizons: Sequence[int] | None = None,
        penalty: float | Literal["auto"] | None = None,
        contamination: float | None = None,
        settings: Settings | None = None,
        mlflow_service: MLflowService | None = None,
    ):
        given = {"horizons": horizons, "penalty": penalty, "contamination": contamination}
        super().__init__(given, settings, mlflow_service)
