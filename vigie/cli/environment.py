"""The settings of a command, and access to MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vigie.errors import InvalidDataError

if TYPE_CHECKING:
    from pathlib import Path

    from vigie.config import Settings
    from vigie.services.mlflow_service import MLflowService


def read_settings(**given: Any) -> Settings:
    """Return the settings; imported late, since pydantic would slow down ``vigie --help``."""
    from vigie.config import Settings

    return Settings(**given)


def service_settings(
    host: str | None,
    port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    insecure: bool,
) -> Settings:
    """Return the settings of the service, with what is given on the command line."""
    auth = "off" if insecure else None
    given = {"host": host, "port": port, "auth": auth, "tls_cert": tls_cert, "tls_key": tls_key}
    return read_settings(**{name: value for name, value in given.items() if value is not None})


def enabled_mlflow() -> MLflowService:
    """Return the MLflow service, if tracking is enabled.

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
