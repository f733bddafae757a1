"""What MLflow adds to a training: the time in calls to the server, and the rest."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import figures
import numpy as np
from servers import mlflow_uri

from vigie import samples
from vigie.config import Settings
from vigie.detectors.catalogue import algorithms
from vigie.registry.server import Server
from vigie.services.detector_service import new_service
from vigie.tracking.recorder import Recorder

SMALL, LARGE = 1_000, 100_000
BLOCKING_MS = 100.0
LONG = ("lstm_autoencoder",)


def measure(quick: bool) -> Iterator[figures.Figure]:
    """Train with a real server, and take apart how long the caller waits for it."""
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as state:
        settings = Settings(
            mlflow_tracking_uri=mlflow_uri(),
            state_dir=Path(state),
            tracking_patience_s=60.0,
            epochs=3,
        )
        if quick:
            for name in (name for name in algorithms() if name not in LONG):
                yield from _overhead(name, SMALL, settings, 1)
            return
        for name in algorithms():
            yield from _overhead(name, SMALL, settings, 9)
        for name in algorithms():
            # The network's training is cut short, and still takes long.
            yield from _overhead(name, LARGE, settings, 1 if name in LONG else 5)


@dataclass
class Clock:
    """Where the time of a training goes, in seconds."""

    recording: float = 0.0
    calls: float = 0.0

    def around(self, part: str, method: Any) -> Any:
        """Return a method that notes its time as well."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                setattr(self, part, getattr(self, part) + time.perf_counter() - started)

        return timed


def _overhead(name: str, n_rows: int, settings: Settings, runs: int) -> Iterator[figures.Figure]:
    rows = np.resize(samples.healthy(min(n_rows, 20_000)).data, (n_rows, 8))
    upload, rest, share = [], [], []
    # The first training of a process also imports MLflow, while the model is being fitted, and the
    # first of a shape of network on a machine traces it.
    uncounted, first = 1 if n_rows == SMALL else 0, 0.0
    for run in range(uncounted + runs):
        service, clock = new_service(name, settings), Clock()
        call, record = Server.call, Recorder.record_training
        with (
            patch.object(Server, "call", clock.around("calls", call)),
            patch.object(Recorder, "record_training", clock.around("recording", record)),
        ):
            started = time.perf_counter()
            service.train(rows)
            whole, calls = time.perf_counter() - started, clock.calls
        service.mlflow_service.flush()
        first = first or (clock.recording - calls) * 1e3
        if run >= uncounted:
            upload.append(calls * 1e3)
            rest.append((clock.recording - calls) * 1e3)
            share.append(100 * clock.recording / (whole - clock.recording))
    what = f"{name}, {n_rows} rows"
    yield figures.within(f"tracking, {what}: upload", upload, unit="ms")
    yield figures.within(
        f"tracking, {what}: blocking beyond the upload",
        rest,
        unit="ms",
        goal=BLOCKING_MS if n_rows == SMALL else None,
        note=f"upload and rest add {figures.Spread.of(share)} % to the training"
        + (f"; the first time {first:.0f} ms" if uncounted else ""),
    )
