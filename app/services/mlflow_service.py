"""Hands on ``vigie.services.mlflow_service``."""

from vigie.services.mlflow_service import MLflowService

__all__ = ["MLflowService"]
