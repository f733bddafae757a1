"""HTTP: readings a second and how long one takes, with the servers that people use beside it.

Every server is a process of its own on this machine and is loaded by ``wrk``, with one connection
and with sixteen, in turns. All forests have 100 trees of 256 rows and learnt the same 2000 rows of
20 sensors. ``wrk`` comes with Debian (``apt-get install wrk``); MLServer wants an environment of
its own, whose ``mlserver`` is found by ``VIGIE_BENCH_MLSERVER`` or on the PATH:

    uv venv peer && uv pip install --python peer mlserver==1.7.1 'uvloop<0.22' pyod==3.6.7
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from figures import Figure, Spread, within
from servers import free_port

from vigie.local import await_health, running

PEERS = Path(__file__).resolve().parent / "peers"
LARGE_BATCH = 8000
N_SENSORS, N_TREES, N_ROWS, N_ASSETS = 20, 100, 2000, 64
NAMES = [f"sensor_{i + 1}" for i in range(N_SENSORS)]
API = "/api/v1/anomalies"
FOREST, THREE = "Isolation Forest alone, no history", "three models and history"
MLFLOW, MLFLOW_OURS = "mlflow models serve", "mlflow models serve with our forest inside"
MLSERVER, FASTAPI = "MLServer", "FastAPI + PyOD"
GOAL_OF_THREE = 5.0

LONGEST = 15.0
"""Seconds that a server is given to answer at all."""

Rows = np.ndarray
Process = subprocess.Popen[bytes]
Body = Callable[[Rows, int], Any]
"""From rows and a number to what a server is sent."""


@dataclass(frozen=True)
class Server:
    """Where rows are sent to one at a time and in batches, and in which form."""

    one: str
    batch: str
    body_of_one: Body
    body_of_batch: Body
    process: Process
    """It leads the session of all its children."""
    health: str
    log: Path


@dataclass(frozen=True)
class Load:
    """What ``wrk`` measured: requests a second, and milliseconds.

    ``cpu`` is the time that the server computed for each request, which other work on the machine
    hardly changes.
    """

    rate: float
    p50: float
    p99: float
    errors: int
    cpu: float


def measure(quick: bool) -> Iterator[Figure]:
    """Yield the figures of HTTP."""
    if shutil.which("wrk") is None:
        print("serving: skipped, for it needs wrk: apt-get install wrk")
        return
    runs, warming, seconds = (1, 0.2, 0.6) if quick else (3, 0.5, 2.5)
    cells = [(1, 1), (1, 16), (100, 16)]
    if not quick:
        cells += [(1000, 1), (100, 1), (1000, 16)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = _started(Path(folder), stack, quick)
        for n_rows, connections in cells:
            bodies = {
                name: _bodies(Path(folder), name, server, n_rows)
                for name, server in servers.items()
            }
            loads: dict[str, list[Load]] = {name: [] for name in servers}
            for run in range(runs + 1):
                for name, server in servers.items():
                    # The first turn only warms.
                    length = seconds if run > 0 else warming
                    found = _loaded(server, n_rows, bodies[name], connections, length)
                    loads[name] += [found] if run > 0 else []
            yield from _compared(loads, n_rows, connections)
        yield _while_training(Path(folder), servers[FOREST], seconds, 2000 if quick else 20_000)
        yield _beside_batches(Path(folder), servers[FOREST], seconds)


def rows(n: int, seed: int) -> Rows:
    """Return healthy rows of a machine whose sensors go together, shape (n, N_SENSORS)."""
    rng = np.random.default_rng(seed)
    load, noise = rng.normal(size=(n, 1)), rng.normal(size=(n, N_SENSORS))
    return np.round(10.0 * np.arange(1, N_SENSORS + 1) + 0.7 * (load + noise), 4)


def _compared(
    loads: Mapping[str, Sequence[Load]], n_rows: int, connections: int
) -> Iterator[Figure]:
    what = "one row" if n_rows == 1 else f"{n_rows} rows"
    where = f"{what}, {connections} connection{'s' if connections > 1 else ''}"
    peers = [name for name in (MLFLOW, MLFLOW_OURS, MLSERVER, FASTAPI) if name in loads]
    pure = [name for name in peers if name != MLFLOW_OURS]
    best = max(pure, key=lambda name: Spread.of([load.rate for load in loads[name]]).median)
    for ours, against in ((FOREST, peers), (THREE, [best])):
        for peer in against:
            pairs = list(zip(loads[ours], loads[peer], strict=True))
            # Nobody is advised to serve one model without a history: that row has no goal.
            goal = GOAL_OF_THREE if ours == THREE and n_rows == 1 else None
            yield Figure(
                f"{ours}: {where}",
                "rows/s",
                Spread.of([load.rate * n_rows for load in loads[ours]]),
                Spread.of([load.rate * n_rows for load in loads[peer]]),
                peer if ours == FOREST else f"the best peer with one model ({peer})",
                Spread.of([mine.rate / theirs.rate for mine, theirs in pairs]),
                goal,
                f"p50/p99 {_latency(loads[ours])} against {_latency(loads[peer])} ms, "
                f"computed {_cpu(loads[ours]):.3g} against {_cpu(loads[peer]):.3g} ms a request",
            )


def _latency(loads: Sequence[Load]) -> str:
    p50 = Spread.of([load.p50 for load in loads]).median
    return f"{p50:.3g}/{Spread.of([load.p99 for load in loads]).median:.3g}"


def _cpu(loads: Sequence[Load]) -> float:
    return Spread.of([load.cpu for load in loads]).median


def _while_training(folder: Path, server: Server, seconds: float, n_rows: int) -> Figure:
    """Measure single readings while the same service trains on many rows."""
    training = _training(rows(n_rows, 2), "one_class_svm")
    quiet, busy, took = _beside(
        folder, server, max(seconds, 2.0), lambda: _send_training(server, training)
    )
    return within(
        "p99 of single readings during a training in the background, against none",
        [busy.p99 / quiet.p99],
        unit="x",
        goal=2.0,
        note=f"{n_rows} rows, trained in {took:.1f} s; {_both(quiet, busy)}",
    )


def _beside_batches(folder: Path, server: Server, seconds: float) -> Figure:
    """Measure single readings while another connection sends one large batch after the other."""
    seconds = max(seconds, 2.0)
    bodies = _bodies(folder, "large", server, LARGE_BATCH)
    quiet, busy, _ = _beside(
        folder, server, seconds, lambda: _loaded(server, LARGE_BATCH, bodies, 1, seconds + 1.0)
    )
    return within(
        f"p99 of single readings beside batches of {LARGE_BATCH} rows, against none",
        [busy.p99 / quiet.p99],
        unit="x",
        note=_both(quiet, busy),
    )


def _beside(
    folder: Path, server: Server, seconds: float, other: Callable[[], Any]
) -> tuple[Load, Load, float]:
    """Load a server by single readings, alone and beside another request, which takes so long."""
    bodies = _bodies(folder, "beside", server, 1)
    quiet = _loaded(server, 1, bodies, 4, seconds)
    thread, started = threading.Thread(target=other), time.perf_counter()
    thread.start()
    busy = _loaded(server, 1, bodies, 4, seconds)
    thread.join()
    return quiet, busy, time.perf_counter() - started


def _both(quiet: Load, busy: Load) -> str:
    return (
        f"p99 {quiet.p99:.3g} and {busy.p99:.3g} ms, p50 {quiet.p50:.3g} and {busy.p50:.3g} ms "
        "with four connections"
    )


def _loaded(server: Server, n_rows: int, bodies: Path, connections: int, seconds: float) -> Load:
    address = server.one if n_rows == 1 else server.batch
    # wrk counts in whole seconds; a shorter run is ended by hand, and tells what it has then.
    command = ["wrk", "-t1", f"-c{connections}", "-d60s", "--timeout", "60s"]
    command += ["-s", str(PEERS / "post.lua"), address]
    before = _computed(server.process.pid)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "BODIES": str(bodies)}
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    found = json.loads(output.splitlines()[-1])
    if found["errors"]:
        raise RuntimeError(f"{address} refused {found['errors']} requests")
    n_requests = found.pop("requests")
    if n_requests == 0 and seconds < LONGEST:
        # Not one answer in that time: a slow server is given more of it.
        return _loaded(server, n_rows, bodies, connections, 4.0 * seconds)
    cpu = 1e3 * (_computed(server.process.pid) - before) / max(n_requests, 1)
    return Load(**found, cpu=cpu)


def _computed(session: int) -> float:
    """Return the seconds that the processes of a session have computed so far."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            facts = stat.read_text().rpartition(")")[2].split()
            ticks += int(facts[11]) + int(facts[12]) if int(facts[3]) == session else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def _bodies(folder: Path, name: str, server: Server, n_rows: int) -> Path:
    """Write enough different bodies into a file, one a line."""
    body = server.body_of_one if n_rows == 1 else server.body_of_batch
    # The same two readings of a machine again and again are no healthy ones.
    readings = rows(max(64 * N_ASSETS if n_rows == 1 else 0, 2 * n_rows), 1)
    path = folder / f"{name}.{n_rows}.jsonl"
    parts = [readings[at : at + n_rows] for at in range(0, len(readings), n_rows)]
    path.write_text("\n".join(json.dumps(body(part, k)) for k, part in enumerate(parts)))
    return path


def _reading(row: Rows, asset: int) -> dict[str, Any]:
    features = dict(zip(NAMES, row.tolist(), strict=True))
    return {"asset_id": f"pump-{asset % N_ASSETS}", "features": features}


# The servers


def _started(folder: Path, stack: ExitStack, quick: bool) -> dict[str, Server]:
    """Start all servers and return them when they answer."""
    learnt = rows(N_ROWS, 0)
    files = _forests(folder, learnt)
    servers: dict[str, Server] = {}
    for name, history, models in ((FOREST, False, 1), (THREE, True, 3)):
        servers[name] = _vigie(folder / f"state-{models}", history, stack)
    environment = {"FOREST": str(files["pickle"]), "PYTHONPATH": _path()}
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "fastapi_pyod:app", "--port", str(port)]
    command += ["--no-access-log"]
    log = folder / "fastapi.log"
    process = stack.enter_context(running(command, environment, log))
    base = f"http://127.0.0.1:{port}"
    servers[FASTAPI] = _same(
        f"{base}/score", lambda part, k: {"rows": part.tolist()}, process, f"{base}/docs", log
    )
    for name, kind in ((MLFLOW, "sklearn"), (MLFLOW_OURS, "ours"))[: 1 if quick else 2]:
        port = free_port()
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(files[kind])]
        command += ["--env-manager", "local", "--port", str(port)]
        on_path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        log = folder / f"{kind}.log"
        found = {"PATH": on_path, "PYTHONPATH": _path()}
        process = stack.enter_context(running(command, found, log))
        base = f"http://127.0.0.1:{port}"
        servers[name] = _same(
            f"{base}/invocations",
            lambda part, k: {"inputs": part.tolist()},
            *(process, f"{base}/health", log),
        )
    mlserver = None if quick else _mlserver()
    if mlserver is None:
        print(f"serving: {MLSERVER} is left out; bench/serving.py says how to install it")
    else:
        servers[MLSERVER] = _mlserver_started(mlserver, folder, environment, stack)
    for name, server in servers.items():
        await_health(name, server.process, server.health, server.log)
    with ThreadPoolExecutor() as pool:
        trainings = [
            pool.submit(_train, servers[FOREST], learnt, "isolation_forest"),
            pool.submit(_train, servers[THREE], learnt),
        ]
        for training in trainings:
            training.result()
    return servers


def _forests(folder: Path, learnt: Rows) -> dict[str, Path]:
    """Fit one forest by PyOD and one by Vigie, and return where each form of them is."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    import mlflow
    from pyod.models.iforest import IForest

    from vigie.config import Settings
    from vigie.services.isolation_forest_service import IsolationForestService

    files = {kind: folder / kind for kind in ("pickle", "sklearn", "ours", "serving")}
    forest = IForest(n_estimators=N_TREES, random_state=0).fit(learnt)
    files["pickle"].write_bytes(pickle.dumps(forest))
    mlflow.sklearn.save_model(
        forest, files["sklearn"], serialization_format="cloudpickle", pip_requirements=[]
    )
    service = IsolationForestService(settings=Settings(mlflow_enabled=False, n_estimators=N_TREES))
    service.train(learnt, NAMES)
    assert service.served is not None
    service.served.model.save(files["serving"])
    mlflow.pyfunc.save_model(
        files["ours"],
        python_model=str(PEERS / "our_forest.py"),
        artifacts={"serving": str(files["serving"])},
        pip_requirements=[],
    )
    return files


def _vigie(state: Path, history: bool, stack: ExitStack) -> Server:
    """Start the service as ``vigie serve`` does, without a registry."""
    port = free_port()
    state.mkdir()
    environment = {
        "MLFLOW_ENABLED": "false",
        "VIGIE_PORT": str(port),
        "VIGIE_STATE_DIR": str(state),
        "VIGIE_N_ESTIMATORS": str(N_TREES),
        # How well the network has learnt makes no difference to how fast it answers.
        "VIGIE_EPOCHS": "2",
        "VIGIE_HISTORY_ENABLED": str(history).lower(),
        "PYTHONPATH": _path(),
    }
    command = [sys.executable, "-m", "vigie.cli", "serve"]
    process = stack.enter_context(running(command, environment, state / "log"))
    base = f"http://127.0.0.1:{port}{API}"
    return Server(
        f"{base}/detect",
        f"{base}/detect/batch",
        lambda part, k: _reading(part[0], k),
        # The rows of a table are consecutive readings of one machine.
        lambda part, k: [_reading(row, k) for row in part],
        *(process, f"{base}/health", state / "log"),
    )


def _train(server: Server, learnt: Rows, *models: str) -> None:
    _send_training(server, _training(learnt, *models))


def _training(learnt: Rows, *models: str) -> bytes:
    body = {"data": learnt.tolist(), "feature_names": NAMES, "model_names": list(models) or None}
    return json.dumps(body).encode()


def _send_training(server: Server, body: bytes) -> None:
    address = server.one.removesuffix("/detect") + "/train?wait=true"
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(address, content=body, headers=headers, timeout=300, trust_env=False)
    answer.raise_for_status()


def _same(address: str, body: Body, process: Process, health: str, log: Path) -> Server:
    return Server(address, address, body, body, process, health, log)


def _mlserver() -> str | None:
    return os.environ.get("VIGIE_BENCH_MLSERVER") or shutil.which("mlserver")


def _mlserver_started(
    program: str, folder: Path, environment: Mapping[str, str], stack: ExitStack
) -> Server:
    home, port = folder / "mlserver", free_port()
    home.mkdir()
    others = {"grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"host": "127.0.0.1", "http_port": port, "parallel_workers": 0, "debug": False}
    (home / "settings.json").write_text(json.dumps(settings | others))
    model = {"name": "forest", "implementation": "mlserver_pyod.Forest"}
    (home / "model-settings.json").write_text(json.dumps(model))
    found = environment | {"PYTHONPATH": str(PEERS)}
    log = folder / "mlserver.log"
    process = stack.enter_context(running([program, "start", str(home)], found, log))

    def body(part: Rows, k: int) -> Any:
        values = {"name": "x", "shape": list(part.shape), "datatype": "FP64"}
        return {"inputs": [values | {"data": part.ravel().tolist()}]}

    base = f"http://127.0.0.1:{port}/v2"
    return _same(f"{base}/models/forest/infer", body, process, f"{base}/health/ready", log)


def _path() -> str:
    return os.pathsep.join([str(PEERS.parents[1]), str(PEERS)])
