"""Hands on ``vigie.models.anomaly_data``."""

from vigie.models.anomaly_data import (
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
    AssetState,
    AssetVerdict,
    CriticalityLevel,
    ModelVerdict,
    SensorContribution,
)

__all__ = [
    "AnomalyDetectionRequest",
    "AnomalyDetectionResult",
    "AssetState",
    "AssetVerdict",
    "CriticalityLevel",
    "ModelVerdict",
    "SensorContribution",
]
