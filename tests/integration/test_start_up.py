"""What a new user meets first: a quick start, and a demo that leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = ("torch", "mlflow", "pyod", "sklearn", "numba", "pandas", "matplotlib")


@pytest.mark.parametrize("module", ["vigie.main", "vigie.cli"])
def test_starting_imports_nothing_that_only_training_needs(module):
    code = f"import sys, {module}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == []


STARTED_AND_KILLED = """
import os, signal, sys
from pathlib import Path
from vigie.local import running

with running(["sleep", "1000"], {}, Path("log")) as process:
    print(process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_started_here_ends_even_when_its_starter_is_killed():
    killed = subprocess.run(
        [sys.executable, "-c", STARTED_AND_KILLED], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    until = time.monotonic() + 30
    while runs(int(killed.stdout)):
        assert time.monotonic() < until, "it runs on"
        time.sleep(0.01)


def runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_demo_finds_the_fault_and_leaves_nothing_running(tmp_path, new_port):
    mlflow_port, service_port = new_port(), new_port()
    (tmp_path / "no-data").mkdir()
    process = subprocess.run(
        [sys.executable, "-m", "vigie.cli", "demo"],
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": f"http://localhost:{mlflow_port}",
            "VIGIE_PORT": str(service_port),
            "VIGIE_STATE_DIR": str(tmp_path / "state"),
            "VIGIE_DATA": str(tmp_path / "no-data"),
            "VIGIE_EPOCHS": "3",
            "VIGIE_ENCODER_LAYERS": "8",
            "VIGIE_DECODER_LAYERS": "8",
            "VIGIE_SEQUENCE_LENGTH": "5",
            "VIGIE_N_ESTIMATORS": "50",
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "a simulated pump bench whose bearing wears" in process.stdout
    versions = ["isolation_forest v1", "one_class_svm v1"]
    versions += ["vector_autoregression v1", "lstm_autoencoder v1"]
    assert ", ".join(versions) in process.stdout

    # The event that lasts until the end is the fault, and a sensor that a bearing moves leads it.
    [event] = [
        line for line in process.stdout.splitlines() if line.startswith("│") and "–1200" in line
    ]
    assert any(name in event for name in ("vibration_rms", "vibration_kurtosis"))

    assert not listens(mlflow_port)
    assert not listens(service_port)
    # What it made stays, for `make run` to go on with.
    assert (tmp_path / "state" / "mlflow.db").is_file()
