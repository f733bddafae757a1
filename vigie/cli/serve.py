"""``vigie serve``: run the service."""

from __future__ import annotations

from vigie.cli.environment import service_settings
from vigie.cli.options import Host, Insecure, Port, TlsCert, TlsKey


def serve(
    host: Host = None,
    port: Port = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure: Insecure = False,
) -> None:
    """Run the service, with the MLflow server at MLFLOW_TRACKING_URI."""
    from vigie.api.server import serve as serve_over_http
    from vigie.local import require_keys, require_own

    settings = service_settings(host, port, tls_cert, tls_key, insecure)
    require_own(settings)
    require_keys(settings)
    serve_over_http(settings)
