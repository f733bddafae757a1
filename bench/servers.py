"""What parts need beside Vigie: free ports, and an MLflow server that all of them share."""

from __future__ import annotations

import atexit
import socket
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from vigie.config import Settings
from vigie.local import mlflow_server

_open = ExitStack()
atexit.register(_open.close)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@cache
def mlflow_uri() -> str:
    """Return the address of a real MLflow server, which runs until this process ends."""
    folder = Path(_open.enter_context(tempfile.TemporaryDirectory(prefix="vigie-bench-")))
    address = f"http://127.0.0.1:{free_port()}"
    settings = Settings(mlflow_tracking_uri=address, state_dir=folder)
    return _open.enter_context(mlflow_server(settings))
