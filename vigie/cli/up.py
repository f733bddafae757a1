"""``vigie up``: run MLflow and the service together."""

from __future__ import annotations

import signal

from vigie.cli.environment import service_settings
from vigie.cli.options import Host, Port
from vigie.cli.terminal import err, signals_as_exit


def up(host: Host = None, port: Port = None) -> None:
    """Run MLflow and the service on this machine until Ctrl-C."""
    from vigie.local import mlflow_server, service

    settings = service_settings(host, port)
    err.print("Starting MLflow and the service ...")
    with signals_as_exit(), mlflow_server(settings) as mlflow, service(settings) as address:
        err.print(f"Service  {address}/docs")
        err.print(f"MLflow   {mlflow}")
        err.print("Ctrl-C stops both.")
        signal.pause()
