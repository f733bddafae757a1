"""``vigie up``: run MLflow and the service together."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from vigie.cli.environment import service_settings
from vigie.cli.options import Host, Insecure, Port, TlsCert, TlsKey
from vigie.cli.terminal import err, print_complaint, signals_as_exit

if TYPE_CHECKING:
    from vigie.config import Settings


def up(
    host: Host = None,
    port: Port = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure: Insecure = False,
) -> None:
    """Run MLflow and the service on this machine until Ctrl-C."""
    from vigie.local import Program, mlflow_server, require_room, service, watch

    settings = service_settings(host, port, tls_cert, tls_key, insecure)
    # Runs, models, readings and logs are nobody else's.
    os.umask(0o077)
    require_room(settings)
    err.print("Starting MLflow and the service ...")
    programs: list[Program] = []
    with (
        signals_as_exit(),
        mlflow_server(settings, programs.append),
        service(settings, programs.append) as address,
    ):
        print_addresses(settings, address)
        err.print("Ctrl-C stops both.")
        watch(programs, print_complaint)
        signal.pause()


def print_addresses(settings: Settings, address: str) -> None:
    """Print where a person can see the service and the training runs."""
    from vigie.local import runs_page

    for line in (f"Service  {address}/docs", f"MLflow   {runs_page(settings)}"):
        err.print(line, markup=False, highlight=False, soft_wrap=True)
