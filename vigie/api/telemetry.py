"""OpenTelemetry: spans and metrics of requests, by FastAPI's own instrumentation."""

from __future__ import annotations

from importlib import import_module

from fastapi.telemetry import TelemetryConfig

from vigie.config import Settings
from vigie.errors import InvalidDataError

EXPORTER = "opentelemetry-exporter-otlp-proto-http"
MODULES = [
    f"opentelemetry.exporter.otlp.proto.http.{name}"
    for name in ("trace_exporter", "metric_exporter", "_log_exporter")
]
"""Those that FastAPI imports; without one it starts, and sends nothing."""
OFF: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""The lookup of an exporter that is not installed costs 5 % of each request's time."""
# Its log records have the messages of exceptions, which may quote readings.
ON: TelemetryConfig = {"logs": False, "auto_configure": True}


def telemetry(settings: Settings) -> TelemetryConfig:
    """Return what FastAPI is to send; the standard variables (``OTEL_...``) say where.

    Raises
    ------
    InvalidDataError
        If it is asked for, and the exporter is not installed.
    """
    if not settings.telemetry:
        return OFF
    try:
        for module in MODULES:
            import_module(module)
    except ImportError as error:
        raise InvalidDataError(
            f"OpenTelemetry is asked for, and its exporter cannot be imported: {error}.",
            field="VIGIE_TELEMETRY",
            remedy=f"Install it beside Vigie (`pip install {EXPORTER}`), or unset the variable.",
        ) from error
    return ON
