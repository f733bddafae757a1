"""Hands on ``vigie.services.isolation_forest_service``."""

from vigie.services.isolation_forest_service import IsolationForestService

__all__ = ["IsolationForestService"]
