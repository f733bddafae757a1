"""What the environment of a command names: its settings, and the MLflow in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vigie.errors import InvalidDataError

if TYPE_CHECKING:
    from vigie.config import Settings
    from vigie.services.mlflow_service import MLflowService


def read_settings(**given: Any) -> Settings:
    """Return the settings; pydantic takes longer to import than all of ``vigie --help``."""
    from vigie.config import Settings

    return Settings(**given)


def enabled_mlflow() -> MLflowService:
    """Return the way to MLflow.

    Raises
    ------
    InvalidDataError
        If tracking is disabled.
    """
    from vigie.services.mlflow_service import MLflowService

    service = MLflowService()
    if not service.enabled:
        raise InvalidDataError(
            "Tracking is disabled, so there is no registry.",
            field="MLFLOW_ENABLED",
            remedy="Set MLFLOW_ENABLED=true.",
        )
    return service
