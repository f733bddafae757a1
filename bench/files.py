"""Long Parquet files: ``vigie detect`` as a process, beside the loop that a user would write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from figures import Figure, Spread, peak_kb, within
from pyarrow import parquet
from pyod.models.iforest import IForest
from servers import mlflow_uri

from vigie.config import Settings
from vigie.detectors.base import Floats
from vigie.detectors.isolation_forest.detector import AUTO_SAMPLES
from vigie.services.isolation_forest_service import IsolationForestService
from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService
from vigie.services.one_class_svm_service import OneClassSVMService

N_SENSORS = 20
NAMES = [f"sensor_{number:02d}" for number in range(1, N_SENSORS + 1)]
TRAIN_ROWS = 3_000
ROW_GROUP = 1 << 20
PEER_BATCH = 65_536
FOREST = "isolation_forest"
KINDS = (IsolationForestService, OneClassSVMService, LSTMAutoencoderService)


@dataclass(frozen=True)
class Spent:
    """What a process has cost: seconds on the wall and on all cores, and its peak memory in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def measure(quick: bool) -> Iterator[Figure]:
    """Yield the figures of files."""
    n_rows, n_fewer, runs = (300_000, 30_000, 1) if quick else (10_000_000, 1_000_000, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if shutil.disk_usage(folder).free < 3 * n_rows * (N_SENSORS + 1) * 8:
            raise SystemExit(f"{folder} has too little space for {n_rows:,} rows.")
        recording = folder / "recording.parquet"
        write(recording, n_rows)
        settings = Settings(mlflow_tracking_uri=mlflow_uri(), state_dir=folder / "state", epochs=3)
        healthy = rows_of(np.random.default_rng(0), TRAIN_ROWS)
        names = []
        for kind in KINDS[: 1 if quick else len(KINDS)]:
            kind(settings=settings).train(healthy, NAMES)
            names.append(kind.name)
        # The first one fetches the versions and compiles what is compiled once a machine.
        detect(recording, names, settings, rows="1:1000")
        yield from _forest(recording, healthy, settings, n_rows, n_fewer, runs, quick)
        if quick:
            return
        cost = detect(recording, names, settings, rows=f"1:{n_fewer}")
        yield within(
            f"`vigie detect`, {n_fewer:,} rows, all three models",
            [n_fewer / cost.wall_s],
            unit="rows/s",
            note=f"start-up included; no peer; {cost.cpu_s / cost.wall_s:.2f} cores busy, "
            f"at most {cost.peak_mb:.0f} MB",
        )


def rows_of(rng: np.random.Generator, n_rows: int) -> Floats:
    """Return healthy readings of 20 sensors that depend on five hidden quantities."""
    mixing = np.random.default_rng(1).normal(size=(5, N_SENSORS))
    hidden = rng.normal(size=(n_rows, 5))
    return hidden @ mixing + 0.3 * rng.normal(size=(n_rows, N_SENSORS))


def write(path: Path, n_rows: int) -> None:
    """Write a recording with a fault of 500 rows every 100 000, block by block."""
    rng = np.random.default_rng(2)
    fields = [("time", pa.timestamp("us")), *((name, pa.float64()) for name in NAMES)]
    start = np.datetime64("2026-01-05", "us")
    with parquet.ParquetWriter(path, pa.schema(fields)) as writer:
        for first in range(0, n_rows, ROW_GROUP):
            numbers = np.arange(first, min(first + ROW_GROUP, n_rows))
            rows = rows_of(rng, len(numbers))
            rows[numbers % 100_000 >= 99_500, 3] += 12.0
            times = start + numbers * np.timedelta64(1, "s")
            writer.write_table(pa.table([times, *rows.T], schema=pa.schema(fields)))


def detect(
    recording: Path, models: Sequence[str], settings: Settings, rows: str | None = None
) -> Spent:
    """Run ``vigie detect`` as a user would, and return what it has cost."""
    command = [sys.executable, "-m", "vigie.cli", "detect", str(recording)]
    command += [word for model in models for word in ("--model", model)]
    command += ["--rows", rows] if rows else []
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "VIGIE_STATE_DIR": str(settings.state_dir),
    }
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        peak = 0
        # The peak that the kernel reports in the end is that of whoever started it, if larger.
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            peak = max(peak, peak_kb(process.pid))
            time.sleep(0.02)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}.")
    return Spent(wall, usage.ru_utime + usage.ru_stime, peak / 1024)


def loop(recording: Path, estimators: Sequence[Any], n_rows: int) -> float:
    """Judge the first rows as a user would write it; return the seconds that took."""
    started, seen, odd = time.perf_counter(), 0, 0
    for batch in parquet.ParquetFile(recording).iter_batches(PEER_BATCH, columns=NAMES):
        X = batch.to_pandas().to_numpy()
        scores = [estimator.decision_function(X) for estimator in estimators]
        odd += int((np.max(scores, axis=0) > 0).sum())
        seen += len(X)
        if seen >= n_rows:
            break
    return (time.perf_counter() - started) * n_rows / seen


def _forest(
    recording: Path,
    healthy: Floats,
    settings: Settings,
    n_rows: int,
    peer_rows: int,
    runs: int,
    quick: bool,
) -> Iterator[Figure]:
    """Time ours and two peers in turns: as many and as large trees as ours, and PyOD's default."""
    alike = IForest(n_estimators=settings.n_estimators, max_samples=AUTO_SAMPLES).fit(healthy)
    usual = IForest().fit(healthy)
    start_up = detect(recording, [FOREST], settings, rows="1:1000").wall_s
    costs, peers, usuals = [], [], []
    for _ in range(runs):
        costs.append(detect(recording, [FOREST], settings))
        peers.append(peer_rows / loop(recording, [alike], peer_rows))
        usuals.append(peer_rows / loop(recording, [usual], peer_rows))
    # A short file would tell of little but the start of a process.
    ours = [n_rows / (cost.wall_s - start_up * quick) for cost in costs]
    fewer = peer_rows // 4
    linear = fewer / loop(recording, [alike], fewer)
    what = f"`vigie detect`, {n_rows:,} × {N_SENSORS} rows of Parquet, Isolation Forest alone"
    for peer_name, rates, goal in (
        ("pandas + PyOD in a loop, as many and as large trees", peers, 5.0),
        ("pandas + PyOD in a loop, PyOD's default: 100 trees of 256 rows", usuals, None),
    ):
        yield Figure(
            what,
            "rows/s",
            Spread.of(ours),
            Spread.of(rates),
            peer_name,
            Spread.of([mine / theirs for mine, theirs in zip(ours, rates, strict=True)]),
            goal,
            f"ours with trend, states of the asset, sensors, events and start-up "
            f"({'left out here' if quick else 'included'}: {start_up:.1f} s); the loop computes "
            f"scores alone, on {peer_rows:,} rows"
            + (f"; on {fewer:,} of them {linear:,.0f} rows/s" if goal else ""),
        )
    yield within(
        f"{what}: largest peak of memory", [c.peak_mb for c in costs], unit="MB", goal=1000.0
    )
    yield within(
        f"{what}: cores busy",
        [cost.cpu_s / cost.wall_s for cost in costs],
        unit=f"of {os.cpu_count()}",
        note="processor time by wall time, start-up included",
    )
