"""What versions in Staging cost the answers that they are compared on.

Two services on one real registry, with the default models trained on 2000 rows, twice each, and
their histories on. The one asked the registry before the second versions came to Staging, and does
not ask again; the other compares all four. One client asks them in turns for readings of 64
machines, one after the other.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from statistics import median

import figures
import httpx
from servers import free_port, mlflow_uri

from vigie import samples
from vigie.config import Settings
from vigie.detectors.catalogue import algorithms
from vigie.local import await_health, running
from vigie.services.detector_service import new_service
from vigie.services.mlflow_service import MLflowService

N_ROWS, N_ASSETS = 2000, 64
GOAL = 1.1
PATIENCE_S, NEVER_S = 60.0, 86_400.0


def measure(quick: bool) -> Iterator[figures.Figure]:
    """Yield the ratio of the medians, with and without."""
    turns, requests = (10, 50) if quick else (40, 50)
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as folder, ExitStack() as stack:
        settings = Settings(
            mlflow_tracking_uri=mlflow_uri(),
            mlflow_experiment_name="shadow",
            state_dir=Path(folder),
            tracking_patience_s=PATIENCE_S,
            figures=False,
            # How well the network has learnt makes no difference to how fast it answers.
            epochs=2,
        )
        tracking, second = MLflowService(settings), _trained(settings)
        alone = _started(settings, "alone", NEVER_S, stack)
        for name, version in second.items():
            tracking.transition_model_stage(name, version, "Staging")
        beside = _started(settings, "beside", 1.0, stack)
        for name in second:
            _await(beside, name)
        bodies = _bodies()
        taken: dict[httpx.Client, list[list[float]]] = {alone: [], beside: []}
        for turn in range(turns + 2):
            for client, times in taken.items():
                of_turn = [_asked(client, body) for body in islice(bodies, requests)]
                # The first turns only warm.
                times += [of_turn] if turn > 1 else []
        found = beside.get(f"/models/{next(iter(second))}/comparison").json()
        p50 = [[1e3 * median(times) for times in of_it] for of_it in taken.values()]
        every = [sorted(1e3 * time for t in of_it for time in t) for of_it in taken.values()]
        p99 = [times[int(0.99 * len(times))] for times in every]
        yield figures.within(
            "p50 of a reading while four versions in Staging are compared, against none",
            [median(every[1]) / median(every[0])],
            unit="x",
            goal=GOAL,
            note=f"{turns * requests} readings of {N_ASSETS} machines each, turn by turn "
            f"{figures.Spread.of([two / one for one, two in zip(*p50, strict=True)])}; p50 "
            f"{median(every[0]):.3g} and {median(every[1]):.3g} ms, p99 {p99[0]:.3g} and "
            f"{p99[1]:.3g} ms; {found['readings']} compared, {found['dropped']} dropped",
        )


def _started(settings: Settings, name: str, poll_s: float, stack: ExitStack) -> httpx.Client:
    """Start a service with a state folder of its own; return a client for it."""
    folder = settings.state_dir / name
    folder.mkdir()
    update = {"state_dir": folder, "port": free_port(), "registry_poll_s": poll_s}
    settings = settings.model_copy(update=update)
    variables = {**os.environ, **settings.variables(*Settings.model_fields)}
    command = [sys.executable, "-m", "vigie.cli", "serve"]
    process = stack.enter_context(running(command, variables, folder / "log"))
    address = f"http://127.0.0.1:{settings.port}/api/v1"
    await_health("vigie", process, f"{address}/anomalies/health/ready", folder / "log")
    return stack.enter_context(httpx.Client(base_url=address, trust_env=False, timeout=PATIENCE_S))


def _trained(settings: Settings) -> dict[str, int]:
    """Train each model twice, promote the first; return the numbers of the second."""
    tracking, second = MLflowService(settings), {}
    for name in algorithms():
        for seed, stage in ((0, "Production"), (1, "None")):
            service = new_service(name, settings)
            service.train(samples.healthy(N_ROWS, seed=seed).data, samples.FEATURE_NAMES)
            service.mlflow_service.flush(PATIENCE_S)
            assert service.served is not None
            assert service.served.version is not None
            tracking.transition_model_stage(name, service.served.version, stage)
            second[name] = service.served.version
    return second


def _bodies() -> Iterator[dict[str, object]]:
    """Yield readings of healthy machines, in turns, always new ones."""
    for number, row in enumerate(samples.healthy(20_000, seed=2).data):
        features = dict(zip(samples.FEATURE_NAMES, row.tolist(), strict=True))
        yield {"asset_id": f"pump-{number % N_ASSETS}", "features": features}


def _asked(client: httpx.Client, body: dict[str, object]) -> float:
    began = time.perf_counter()
    client.post("/anomalies/detect", json=body).raise_for_status()
    return time.perf_counter() - began


def _await(client: httpx.Client, name: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while client.get(f"/models/{name}/comparison").is_error:
        if time.monotonic() > until:
            raise RuntimeError(f"{name} is not compared")
        time.sleep(0.1)
