"""What a new user meets first: a quick start, and a demo that touches nothing of theirs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from vigie.detectors.catalogue import algorithms
from vigie.local import Program, running, watch
from vigie.services.mlflow_service import MLflowService
from vigie.services.one_class_svm_service import OneClassSVMService

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
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


def test_a_program_that_hangs_or_ends_is_named_with_its_log(tmp_path, new_port):
    told: list[str] = []
    log, nowhere = tmp_path / "mlflow.log", f"http://127.0.0.1:{new_port()}/health"
    with running(["sleep", "1000"], {}, log) as process:

        def tell(sentence: str) -> None:
            told.append(sentence)
            process.kill()

        watch([Program("MLflow", process, nowhere, log)], tell, every_s=0.01)
    silent, ended = told
    assert silent == f"MLflow does not answer. See its log: {log}."
    assert ended.startswith(f"MLflow has ended by signal 9. See its log: {log}.")
    assert ended.endswith("Ctrl-C, then `vigie up`.")


def runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def environment_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def state_of(tracking: MLflowService) -> list[object]:
    """Return all that a registry holds: versions with their stages, and runs."""
    return [
        *(tracking.list_versions(name) for name in algorithms()),
        [run.info.run_id for run in tracking.search_runs()],
    ]


def test_the_demo_prints_what_the_readme_says_and_leaves_the_users_models_alone(
    tracked, tmp_path, healthy, names, monkeypatch
):
    """All that could lead the demo to the user's registry does: variables, `.env`, and ports."""
    own = OneClassSVMService(settings=tracked)
    own.train(healthy, names)
    tracking = MLflowService(tracked)
    tracking.transition_model_stage("one_class_svm", 1, "Production")
    before = state_of(tracking)

    monkeypatch.delenv("VIGIE_DATA", raising=False)
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    (home / ".env").write_text(
        f"MLFLOW_TRACKING_URI={tracked.mlflow_tracking_uri}\nVIGIE_EPOCHS=1\nVIGIE_PORT=1\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = subprocess.Popen(
            [sys.executable, "-m", "vigie.cli", "demo", "--keep"],
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": tracked.mlflow_tracking_uri,
                "MLFLOW_REGISTRY_STORE_URI": f"sqlite:///{home}/registry.db",
                "MLFLOW_REGISTRY_URI": tracked.mlflow_tracking_uri,
                "MLFLOW_ENABLED": "false",
                "VIGIE_PORT": str(taken.getsockname()[1]),
                "VIGIE_STATE_DIR": str(home / "state"),
                "VIGIE_N_ESTIMATORS": "2",
                "VIGIE_PROT": "1",
                "VIGIE_CONTAMINATION": "0.2",
                "TMPDIR": str(temporary),
                "COLUMNS": "80",
            },
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            printed = []
            for line in process.stderr:
                printed.append(line)
                if "Ctrl-C" in line:
                    break
            said = "".join(printed)
            assert "Ctrl-C" in said
            assert said.count("VIGIE_PROT is no setting") == 1
            [docs] = re.findall(r"Service  (\S+)/docs", said)
            [mlflow] = re.findall(r"MLflow   (\S+)", said)
            assert mlflow.endswith("/#/experiments/1?workflowType=machine_learning")
            serving = httpx.get(f"{docs}/api/v1/anomalies/status").json()["models"]
            assert {model["stage"] for model in serving.values()} == {"Production"}
            found = httpx.get(
                f"{mlflow.partition('/#/')[0]}/api/2.0/mlflow/experiments/get?experiment_id=1"
            )
            assert found.json()["experiment"]["name"] == "anomaly-detection"
        finally:
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said + output
    assert_printed(output)

    assert state_of(tracking) == before
    assert [path.name for path in home.iterdir()] == [".env"]
    # Its files and its processes are gone.
    assert list(temporary.iterdir()) == []
    assert not [pid for pid in os.listdir("/proc") if str(temporary) in environment_of(pid)]


def assert_printed(output: str) -> None:
    """Check that the README prints the output of the demo.

    Another processor may round the last digit of a sum otherwise, and move odds and shares a bit.
    """
    [block] = re.findall(r"^```text\n(Replayed: .*?)^```$", README, re.M | re.S)
    printed, expected = output.split(), block.split()
    assert len(printed) == len(expected), output
    after_in = False
    for word, other in zip(printed, expected, strict=True):
        if word != other:
            assert word.endswith("%") or after_in, (word, other, output)
            share = 2.0 if word.endswith("%") else 0.0
            assert number_in(word) == pytest.approx(number_in(other), rel=0.1, abs=share), output
        after_in = word == "in"


def number_in(word: str) -> float:
    return float(word.rstrip("%").replace(",", ""))
