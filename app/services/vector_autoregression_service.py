"""Hands on ``vigie.services.vector_autoregression_service``."""

from vigie.services.vector_autoregression_service import VectorAutoregressionService

__all__ = ["VectorAutoregressionService"]
