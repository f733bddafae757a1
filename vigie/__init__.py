"""Vigie: anomaly detection for machines and their sensors, tracked and versioned in MLflow.

The names below are all that a program needs. Each is imported when it is first used, because a
service takes two seconds of imports and ``vigie --help`` none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vigie import samples
    from vigie.config import Settings
    from vigie.errors import (
        ConflictError,
        HistoryError,
        InvalidDataError,
        ModelNotFoundError,
        ModelRefusedError,
        NotTrainedError,
        ServiceError,
        ServiceUnavailableError,
        TrackingError,
        TrackingRefusedError,
        TrackingUnavailableError,
        TrainingInterruptedError,
        VigieError,
    )
    from vigie.models.anomaly_data import (
        AnomalyDetectionRequest,
        AnomalyDetectionResult,
        AssetState,
        CriticalityLevel,
    )
    from vigie.services.anomaly_detection_service import AnomalyDetectionService
    from vigie.services.isolation_forest_service import IsolationForestService
    from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService
    from vigie.services.mlflow_service import MLflowService
    from vigie.services.one_class_svm_service import OneClassSVMService
    from vigie.services.vector_autoregression_service import VectorAutoregressionService

__version__ = "0.1.0"

__all__ = [
    "AnomalyDetectionRequest",
    "AnomalyDetectionResult",
    "AnomalyDetectionService",
    "AssetState",
    "ConflictError",
    "CriticalityLevel",
    "HistoryError",
    "InvalidDataError",
    "IsolationForestService",
    "LSTMAutoencoderService",
    "MLflowService",
    "ModelNotFoundError",
    "ModelRefusedError",
    "NotTrainedError",
    "OneClassSVMService",
    "ServiceError",
    "ServiceUnavailableError",
    "Settings",
    "TrackingError",
    "TrackingRefusedError",
    "TrackingUnavailableError",
    "TrainingInterruptedError",
    "VectorAutoregressionService",
    "VigieError",
    "samples",
]

_MODULES = {
    "AnomalyDetectionRequest": "vigie.models.anomaly_data",
    "AnomalyDetectionResult": "vigie.models.anomaly_data",
    "AnomalyDetectionService": "vigie.services.anomaly_detection_service",
    "AssetState": "vigie.models.anomaly_data",
    "CriticalityLevel": "vigie.models.anomaly_data",
    "IsolationForestService": "vigie.services.isolation_forest_service",
    "LSTMAutoencoderService": "vigie.services.lstm_autoencoder_service",
    "MLflowService": "vigie.services.mlflow_service",
    "OneClassSVMService": "vigie.services.one_class_svm_service",
    "Settings": "vigie.config",
    "VectorAutoregressionService": "vigie.services.vector_autoregression_service",
}
"""Where a name stands that is neither an error nor a module."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "samples":
        return import_module("vigie.samples")
    value = getattr(import_module(_MODULES.get(name, "vigie.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
