"""Time series servers that tests need, each the real one, of Debian's packages."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vigie.local import await_health, running


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return found


@contextmanager
def prometheus(port: int, folder: Path, openmetrics: str, login: str = "") -> Iterator[str]:
    """Run Prometheus with readings in OpenMetrics' format; yield host and port.

    ``login`` is the text of its file for logins, if there are any.
    """
    server, tool = _program("prometheus", "prometheus"), _program("promtool", "prometheus")
    (folder / "readings.txt").write_text(openmetrics)
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    (folder / "web.yml").write_text(login)
    make = ["tsdb", "create-blocks-from", "openmetrics", "readings.txt", "blocks"]
    subprocess.run([tool, *make], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    host, log = f"127.0.0.1:{port}", folder / "prometheus.log"
    command = [
        server,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/blocks",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address={host}",
        f"--web.config.file={folder}/web.yml",
    ]
    with running(command, {}, log) as process:
        await_health("Prometheus", process, f"http://{host}/-/ready", log)
        yield host


@contextmanager
def victoria_metrics(port: int, folder: Path) -> Iterator[str]:
    """Run VictoriaMetrics; yield host and port."""
    server = _program("victoria-metrics", "victoria-metrics")
    host, log = f"127.0.0.1:{port}", folder / "victoria.log"
    options = {"storageDataPath": folder / "data", "httpListenAddr": host, "retentionPeriod": "50y"}
    command = [server, *(f"-{name}={value}" for name, value in options.items())]
    with running(command, {}, log) as process:
        await_health("VictoriaMetrics", process, f"http://{host}/health", log)
        yield host


@contextmanager
def influxdb(port: int, backup_port: int, folder: Path) -> Iterator[str]:
    """Run InfluxDB 1 with a login, ``vigie`` and ``se:cret``; yield host and port."""
    server = _program("influxd", "influxdb")
    host, log = f"127.0.0.1:{port}", folder / "influx.log"
    variables = {
        "META_DIR": f"{folder}/meta",
        "DATA_DIR": f"{folder}/data",
        "DATA_WAL_DIR": f"{folder}/wal",
        "HTTP_BIND_ADDRESS": host,
        "HTTP_AUTH_ENABLED": "true",
        "BIND_ADDRESS": f"127.0.0.1:{backup_port}",
        "MONITOR_STORE_ENABLED": "false",
    }
    environment = {f"INFLUXDB_{name}": value for name, value in variables.items()}
    with running([server], environment, log) as process:
        await_health("InfluxDB", process, f"http://{host}/ping", log)
        yield host
