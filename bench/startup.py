"""How long until Vigie answers, what it holds in memory then, and what a training costs readers."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import figures
import httpx
import numpy as np
from servers import free_port, mlflow_uri

from vigie import samples
from vigie.config import Settings
from vigie.local import running
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.serving.last_served import FILE

HEAVY = ("torch", "sklearn", "pyod", "mlflow", "pandas", "pyarrow")
ROWS = 1000
FIRST_SCORE = """
import sys, numpy as np
from pathlib import Path
from vigie.detectors.trained import TrainedModel
model = TrainedModel.load(Path(sys.argv[1]))
model.predict_scores(np.zeros((1, model.n_features)))
"""


def measure(quick: bool) -> Iterator[figures.Figure]:
    """Start real processes, and ask them as a user would."""
    runs = 3 if quick else 7
    yield _of_processes("import vigie.main, in a new process", 1.0, runs, "-c", "import vigie.main")
    yield _of_processes("vigie --help", 0.5, runs, "-m", "vigie.cli", "--help")
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as state:
        settings = Settings(
            mlflow_tracking_uri=mlflow_uri(),
            state_dir=Path(state),
            port=free_port(),
            tracking_patience_s=60.0,
            epochs=3,
        )
        bench = samples.healthy(ROWS)
        trained = AnomalyDetectionService(settings)
        trained.train_all_models(bench.data, bench.feature_names)
        trained.mlflow_service.flush()
        yield from _starts(settings, bench, 1 if quick else runs)
        yield from _beside_a_training(settings, bench, quick)


def _starts(settings: Settings, bench: samples.Recording, runs: int) -> Iterator[figures.Figure]:
    cold, warm, memory, loaded = [], [], [], set()
    for _ in range(runs):
        for times, empty in ((cold, True), (warm, False)):
            if empty:
                _empty(settings.state_dir)
            with _service(settings) as (api, process, ready_s):
                times.append(ready_s)
                for row in bench.data[:50]:
                    api.post("/detect", json=_reading(bench, row)).raise_for_status()
                _await_confirmed(api)
                memory.append(_resident_mb(process.pid))
                maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
                loaded |= {name for name in HEAVY if f"/{name}/" in maps}
    note = f"libraries of {', '.join(HEAVY)} loaded: {', '.join(sorted(loaded)) or 'none'}"
    yield figures.within("ready with three models from the local cache", warm, unit="s", goal=2.0)
    yield figures.within(
        "ready with three models from the registry, the cache empty", cold, unit="s", goal=5.0
    )
    yield figures.within("resident memory while serving", memory, unit="MB", goal=250.0, note=note)
    form = next((settings.state_dir / "models" / "isolation_forest").iterdir())
    what = "first score of a new process, from a cached Isolation Forest"
    yield _of_processes(what, 1.0, runs + 1, "-c", FIRST_SCORE, str(form))


def _beside_a_training(
    settings: Settings, bench: samples.Recording, quick: bool
) -> Iterator[figures.Figure]:
    """Ask one reading after the other, alone and while a training runs."""
    body = {"data": bench.data.tolist(), "feature_names": list(bench.feature_names)}
    n_readings = 300 if quick else 3000
    # The network goes on learning until the service is stopped.
    with _service(settings.model_copy(update={"epochs": 100_000})) as (api, _, _):
        quiet = _p99_ms(api, bench, n_readings)
        training = threading.Thread(target=_train, args=(api, body), daemon=True)
        training.start()
        disturbed = _p99_ms(api, bench, n_readings)
        assert training.is_alive(), "the training ended before its readings were counted"
    training.join()
    yield figures.within(
        "p99 of one reading while a training runs, over that without",
        [disturbed / quiet],
        unit="x",
        goal=2.0,
        note=f"{disturbed:.3g} against {quiet:.3g} ms",
    )


def _train(api: httpx.Client, body: Mapping[str, Any]) -> None:
    with suppress(httpx.HTTPError):
        api.post("/train?wait=true", json=body)


def _p99_ms(api: httpx.Client, bench: samples.Recording, n_readings: int) -> float:
    times: list[float] = []
    for index in range(n_readings):
        reading = _reading(bench, bench.data[index % ROWS])
        times.append(figures.seconds(lambda reading=reading: api.post("/detect", json=reading)))
    return float(np.quantile(times, 0.99) * 1e3)


def _of_processes(name: str, goal: float, runs: int, *arguments: str) -> figures.Figure:
    """Measure how long a Python process takes from its start to its end."""
    command, busy, whole = [sys.executable, *arguments], _processor_seconds(), []
    for _ in range(runs):
        run = partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)
        whole.append(figures.seconds(run))
    note = f"{(_processor_seconds() - busy) / runs:.2g} s of them on a processor"
    return figures.within(name, whole, unit="s", goal=goal, note=note)


def _processor_seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


@contextmanager
def _service(
    settings: Settings,
) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes], float]]:
    """Run ``vigie serve`` until the block ends; tell how long it took until it was ready."""
    started = time.perf_counter()
    address = f"http://127.0.0.1:{settings.port}/api/v1/anomalies"
    command, log = [sys.executable, "-m", "vigie.cli", "serve"], settings.state_dir / "vigie.log"
    with (
        running(command, _variables(settings), log) as process,
        httpx.Client(base_url=address, trust_env=False, timeout=300) as api,
    ):
        while not _is_ready(api):
            if process.poll() is not None or time.perf_counter() - started > 60:
                raise RuntimeError("The service does not become ready.")
            time.sleep(0.01)
        yield api, process, time.perf_counter() - started


def _is_ready(api: httpx.Client) -> bool:
    try:
        return api.get("/health/ready").is_success
    except httpx.TransportError:
        return False


def _await_confirmed(api: httpx.Client) -> None:
    """Return once the registry has been heard, which takes memory too."""
    while api.get("/status").json()["confirmed"] is None:
        time.sleep(0.05)


def _variables(settings: Settings) -> Mapping[str, str]:
    names = ("mlflow_tracking_uri", "state_dir", "port", "epochs")
    return {Settings.variable(name): str(getattr(settings, name)) for name in names}


def _reading(bench: samples.Recording, row: np.ndarray) -> dict[str, Any]:
    features = dict(zip(bench.feature_names, row.tolist(), strict=True))
    return {"asset_id": "pump", "features": features}


def _empty(state: Path) -> None:
    shutil.rmtree(state / "models", ignore_errors=True)
    (state / FILE).unlink(missing_ok=True)


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024
