"""How long a service takes for a batch with one reading of each of many assets.

The service runs as ``vigie serve`` does, with the default models, trained on 2000 rows of eight
sensors, and its history in SQLite. Beside it stands what a program does that knows no batches: one
request a reading, over a connection that stays open.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import httpx
from figures import Figure, Spread, within
from servers import free_port

from vigie import samples
from vigie.config import Settings
from vigie.local import await_health, running

N_ROWS, WARM_BATCHES, BATCHES, SINGLES = 2000, 3, 7, 300
GOALS = {10_000: 2.0}
"""Seconds."""
START = datetime(2026, 1, 5, tzinfo=UTC)


def measure(quick: bool) -> Iterator[Figure]:
    """Yield the figures of batches of growing fleets."""
    rows = samples.healthy(20_000, seed=2).data
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as folder, ExitStack() as stack:
        settings = Settings(
            mlflow_enabled=False,
            state_dir=Path(folder),
            port=free_port(),
            # How well the network has learnt makes no difference to how fast it answers.
            epochs=2,
        )
        client = _started(settings, stack)
        learnt = samples.healthy(N_ROWS, seed=0).data.tolist()
        training = {"data": learnt, "feature_names": samples.FEATURE_NAMES}
        client.post("/train?wait=true", json=training).raise_for_status()
        for n_assets in (100, 1000) if quick else (10, 100, 1000, 10_000):
            took = []
            for number in range(WARM_BATCHES + BATCHES):
                body = _body(rows, n_assets, number)
                began = time.perf_counter()
                client.post("/detect/batch", content=body).raise_for_status()
                took.append(time.perf_counter() - began)
            singles = _singles(client, rows, n_assets)
            of_one = [1e6 * seconds / n_assets for seconds in took[WARM_BATCHES:]]
            yield Figure(
                f"a batch with one reading of each of {n_assets} assets, for each reading",
                "us",
                Spread.of(of_one),
                Spread.of([1e6 * median(singles)]),
                "one request for each",
                Spread.of([1e6 * median(singles) / one for one in of_one]),
                None,
                f"the whole batch {median(took[WARM_BATCHES:]):.3g} s, the first one, of assets "
                f"never seen, {took[0]:.3g} s",
            )
            if (goal := GOALS.get(n_assets)) is not None:
                yield within(
                    f"a batch with one reading of each of {n_assets} assets",
                    took[WARM_BATCHES:],
                    unit="s",
                    goal=goal,
                )
        yield _beside(client, rows, 1000 if quick else 10_000)


def _beside(client: httpx.Client, rows: samples.Floats, n_assets: int) -> Figure:
    """Measure single readings while batches of the fleet come without a pause."""
    quiet, ended = _singles(client, rows, 64), threading.Event()

    def send() -> None:
        with httpx.Client(base_url=client.base_url, timeout=60, trust_env=False) as other:
            number = 1000
            while not ended.is_set():
                headers = {"Content-Type": "application/json"}
                other.post(
                    "/detect/batch", content=_body(rows, n_assets, number), headers=headers
                ).raise_for_status()
                number += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        busy = _singles(client, rows, 64)
    finally:
        ended.set()
        thread.join()
    return within(
        f"p50 of single readings beside batches of {n_assets} assets",
        [1e3 * median(busy)],
        unit="ms",
        note=f"p99 {1e3 * sorted(busy)[int(0.99 * SINGLES)]:.3g} ms; without batches p50 "
        f"{1e3 * median(quiet):.3g} ms",
    )


def _started(settings: Settings, stack: ExitStack) -> httpx.Client:
    variables = {**os.environ, **settings.variables(*Settings.model_fields)}
    log = settings.state_dir / "log"
    process = stack.enter_context(
        running([sys.executable, "-m", "vigie.cli", "serve"], variables, log)
    )
    address = f"http://127.0.0.1:{settings.port}/api/v1/anomalies"
    await_health("vigie", process, f"{address}/health", log)
    headers = {"Content-Type": "application/json"}
    return stack.enter_context(
        httpx.Client(base_url=address, headers=headers, timeout=300, trust_env=False)
    )


def _body(rows: samples.Floats, n_assets: int, number: int) -> bytes:
    moment = (START + timedelta(minutes=number)).isoformat()
    readings = [
        {
            "asset_id": f"fleet-{n_assets}/pump-{asset}",
            "timestamp": moment,
            # The rows of each machine are consecutive ones.
            "features": _features(rows[(7 * asset + number) % len(rows)]),
        }
        for asset in range(n_assets)
    ]
    return json.dumps(readings).encode()


def _features(row: samples.Floats) -> dict[str, float]:
    return dict(zip(samples.FEATURE_NAMES, row.tolist(), strict=True))


def _singles(client: httpx.Client, rows: samples.Floats, n_assets: int) -> list[float]:
    """Send readings one by one, and return what each of them took, in seconds."""
    took = []
    for number in range(SINGLES):
        reading = {
            "asset_id": f"single-{number % n_assets}",
            "features": _features(rows[number % len(rows)]),
        }
        body = json.dumps(reading).encode()
        began = time.perf_counter()
        client.post("/detect", content=body).raise_for_status()
        took.append(time.perf_counter() - began)
    return took
