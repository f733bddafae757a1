"""Hands on ``vigie.services.anomaly_detection_service``."""

from vigie.services.anomaly_detection_service import AnomalyDetectionService

__all__ = ["AnomalyDetectionService"]
