"""The One-Class SVM of the guide."""

from __future__ import annotations

from typing import Literal

from vigie.config import Settings
from vigie.services.detector_service import DetectorService
from vigie.services.mlflow_service import MLflowService


class OneClassSVMService(DetectorService):
    """Train, ask and register PyOD's ``OCSVM``, behind a scaler, as ``one_class_svm``.

    Parameters
    ----------
    nu : float in (0, 1], optional
        Upper bound on the share of training rows left outside the learnt region.
    kernel : {'rbf', 'linear', 'poly', 'sigmoid'}, optional
        How two readings are compared.
    gamma : float, 'scale' or 'auto', optional
        Reach of the kernel.
    svm_rows : int or 'all', optional
        Most rows that the solver is given, spread evenly over the training; 'all' for the exact
        solution, whose time grows with the square of the rows.
    contamination : float in (0, 0.5), optional
        Share of healthy readings that may be called anomalous; the threshold follows from it.
    settings : Settings, optional
        Where all that is not given comes from; by default the environment and ``.env``.
    mlflow_service : MLflowService, optional
        Where trainings are recorded; by default made from the settings.

    Examples
    --------
    >>> OneClassSVMService(nu=0.1).nu
    0.1
    """

    name = "one_class_svm"

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
