"""The guide's service for the One-Class SVM."""

from __future__ import annotations

from typing import Literal

from vigie.config import Settings
from vigie.services.detector_service import DetectorService
from vigie.services.mlflow_service import MLflowService


class OneClassSVMService(DetectorService):
    """Train PyOD's ``OCSVM`` with a scaler, predict with it, register it as ``one_class_svm``.

    Parameters
    ----------
    nu : float in (0, 1], optional
        Upper bound on the share of training rows outside the learnt region.
    kernel : {'rbf', 'linear', 'poly', 'sigmoid'}, optional
        The kernel function.
    gamma : float, 'scale' or 'auto', optional
        Kernel coefficient.
    svm_rows : int or 'all', optional
        Most rows for the solver, sampled evenly from the training; 'all' for the exact solution,
        whose time grows with the square of the rows.
    contamination : float in (0, 0.5), optional
        Share of healthy readings that may be called anomalous; the threshold follows from it.
    settings : Settings, optional
        Defaults of all other arguments; read from the environment and ``.env`` if not given.
    mlflow_service : MLflowService, optional
        Records the trainings; by default created from the settings.

    Examples
    --------
    >>> OneClassSVMService(nu=0.1).nu
    0.1
    """

    name = algorithm_name = "one_class_svm"

    nu: float
    kernel: Literal["rbf", "linear", "poly", "sigmoid"]
    gamma: float | Literal["scale", "auto"]
    svm_rows: int | Literal["all"]

    def __init__(
        self,
        *,
        nu: float | None = None,
        kernel: Literal["rbf", "linear", "poly", "sigmoid"] | None = None,
        gamma: float | Literal["scale", "auto"] | None = None,
        svm_rows: int | Literal["all"] | None = None,
        contamination: float | None = None,
        settings: Settings | None = None,
        mlflow_service: MLflowService | None = None,
    ):
        given = {
            "nu": nu,
            "kernel": kernel,
            "gamma": gamma,
            "svm_rows": svm_rows,
            "contamination": contamination,
        }
        super().__init__(given, settings, mlflow_service)
