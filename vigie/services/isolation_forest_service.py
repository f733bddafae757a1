"""The guide's service for the Isolation Forest."""

from __future__ import annotations

from typing import Literal

from vigie.config import Settings
from vigie.services.detector_service import DetectorService
from vigie.services.mlflow_service import MLflowService


class IsolationForestService(DetectorService):
    """Train PyOD's ``IForest``, predict with it, and register it as ``isolation_forest``.

    Parameters
    ----------
    contamination : float in (0, 0.5), optional
        Share of healthy readings that may be called anomalous; the threshold follows from it.
    n_estimators : int, optional
        Number of trees.
    max_samples : int, float or 'auto', optional
        Rows that each tree sees: a count, a share, or at most 512.
    settings : Settings, optional
        Defaults of all other arguments; read from the environment and ``.env`` if not given.
    mlflow_service : MLflowService, optional
        Records the trainings; by default created from the settings.

    Examples
    --------
    >>> service = IsolationForestService(n_estimators=50)
    >>> service.is_trained
    False
    """

    name = algorithm_name = "isolation_forest"

    n_estimators: int
    max_samples: int | float | Literal["auto"]

    def __init__(
        self,
        *,
        contamination: float | None = None,
        n_estimators: int | None = None,
        max_samples: int | float | Literal["auto"] | None = None,
        settings: Settings | None = None,
        mlflow_service: MLflowService | None = None,
    ):
        given = {
            "contamination": contamination,
            "n_estimators": n_estimators,
            "max_samples": max_samples,
        }
        super().__init__(given, settings, mlflow_service)
