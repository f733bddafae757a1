"""Vigie: anomaly detection for machines and their sensors, tracked and versioned in MLflow."""

__version__ = "0.1.0"
