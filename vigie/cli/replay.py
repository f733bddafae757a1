"""The demo: everything started, trained, promoted, and a fault found in a recording."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
from rich.console import Console

from vigie import samples
from vigie.cli.files import read_table
from vigie.cli.render.events import event_sheet
from vigie.config import Settings
from vigie.detectors.base import Floats
from vigie.errors import VigieError
from vigie.events.gathering import Events, Rows
from vigie.local import mlflow_server, service
from vigie.models.anomaly_data import AnomalyDetectionResult, AssetState
from vigie.services.mlflow_service import MLflowService

SKAB_FILE = "skab/valve1/13.csv"
SKAB_HEALTHY_ROWS = 400
BATCH_ROWS = 100
FOLLOW_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Scene:
    """What the demo shows.

    Attributes
    ----------
    title, asset_id : str
        What is replayed, and the name of its machine.
    feature_names : sequence of str
        The sensors.
    units : dict of str to str
        Units, where they are known.
    healthy, replay : ndarray of shape (n, n_features)
        Rows to train on, and the rows after them.
    labels : ndarray of shape (n,)
        1 where the recording's authors say that the fault was there; never shown to a model.
    """

    title: str
    asset_id: str
    feature_names: Sequence[str]
    units: dict[str, str]
    healthy: Floats
    replay: Floats
    labels: Any


def run(
    settings: Settings,
    out: Console,
    progress: Callable[[], AbstractContextManager[Callable[[str, float], None]]],
    *,
    keep: bool = False,
) -> None:
    """Run the demo, and end what it has started unless asked to keep it."""
    scene = choose_scene(settings)
    settings = settings.model_copy(update={"mlflow_enabled": True})
    started = time.perf_counter()
    with progress() as tell:
        tell("MLflow and the service start", 0.0)
        with mlflow_server(settings) as mlflow, service(settings) as address:
            api = httpx.Client(base_url=f"{address}/api/v1/anomalies", timeout=300, trust_env=False)
            tell("three detectors are trained", 0.35)
            versions = _train(api, scene)
            tell("the new versions are promoted", 0.8)
            _promote(api, settings, versions)
            tell("the recording is replayed", 0.85)
            results = _replay(api, scene)
            tell("done", 1.0)
            _show(out, scene, results, versions, time.perf_counter() - started)
            if keep:
                out.print(f"\nOpen {address}/docs and {mlflow}. Ctrl-C ends both.", highlight=False)
                signal.pause()
    if not keep:
        out.print(
            f"\nEverything is stopped again. [bold]make run[/] starts it with these models: "
            f"service {address}/docs, MLflow {mlflow}.",
            highlight=False,
        )


def choose_scene(settings: Settings) -> Scene:
    """Return a real recording where there is one, else a simulated one."""
    recording = settings.data / SKAB_FILE if settings.data else None
    if recording is not None and recording.is_file():
        table = read_table(recording)
        labels = table.pop("anomaly").to_numpy()
        values = table.drop(columns=["datetime", "changepoint"])
        rows, n = values.to_numpy(float), SKAB_HEALTHY_ROWS
        return Scene(
            title=f"SKAB, a real pump bench whose inlet valve is closed ({SKAB_FILE})",
            asset_id="skab-bench",
            feature_names=list(values.columns),
            units={},
            healthy=rows[:n],
            replay=rows[n:],
            labels=labels[n:],
        )
    fault = samples.faulty("bearing_wear", seed=2)
    why = f"there is no {recording}" if recording else "VIGIE_DATA names no recordings"
    return Scene(
        title=f"a simulated pump bench whose bearing wears ({why})",
        asset_id="simulated-bench",
        feature_names=list(samples.FEATURE_NAMES),
        units={sensor.name: sensor.unit.replace("1", "") for sensor in samples.SENSORS},
        healthy=samples.healthy().data,
        replay=fault.data,
        labels=fault.labels,
    )


def _train(api: httpx.Client, scene: Scene) -> dict[str, int]:
    body = {"data": scene.healthy.tolist(), "feature_names": list(scene.feature_names)}
    models = _answer(api.post("/train", json=body))["models"]
    failed = [f"{name}: {model['error']}" for name, model in models.items() if model["error"]]
    if failed:
        raise VigieError("; ".join(failed))
    missing = [name for name, model in models.items() if model["version"] is None]
    if missing:
        raise VigieError(f"Not registered in MLflow: {', '.join(missing)}.")
    return {name: model["version"] for name, model in models.items()}


def _promote(api: httpx.Client, settings: Settings, versions: dict[str, int]) -> None:
    """Put the versions into Production, and wait until the service serves them from there."""
    tracking = MLflowService(settings)
    for name, version in versions.items():
        tracking.transition_model_stage(name, version, "Production")
    deadline = time.monotonic() + FOLLOW_TIMEOUT_S
    while time.monotonic() < deadline:
        models = _answer(api.get("/status"))["models"]
        if all(
            (models[name]["version"], models[name]["stage"]) == (version, "Production")
            for name, version in versions.items()
        ):
            return
        time.sleep(0.2)
    raise VigieError("The service did not follow the promotion.", remedy="See .vigie/vigie.log.")


def _replay(api: httpx.Client, scene: Scene) -> list[dict[str, Any]]:
    start = datetime(2026, 1, 5, 8, tzinfo=UTC)
    readings = [
        {
            "asset_id": scene.asset_id,
            "features": dict(zip(scene.feature_names, row, strict=True)),
            "timestamp": (start + timedelta(seconds=second)).isoformat(),
        }
        for second, row in enumerate(scene.replay.tolist())
    ]
    results = []
    for first in range(0, len(readings), BATCH_ROWS):
        results += _answer(api.post("/detect/batch", json=readings[first : first + BATCH_ROWS]))
    return results


def _show(
    out: Console,
    scene: Scene,
    results: Sequence[dict[str, Any]],
    versions: dict[str, int],
    seconds: float,
) -> None:
    first_row = len(scene.healthy) if len(scene.healthy) == SKAB_HEALTHY_ROWS else 0
    rows = _rows([AnomalyDetectionResult.model_validate(result) for result in results])
    found = Events()
    found.add(rows)
    served = ", ".join(f"{name} v{version}" for name, version in versions.items())
    out.print(f"\n[bold]Replayed:[/] {scene.title}", highlight=False)
    out.print(
        f"Trained on {len(scene.healthy)} healthy rows; judged by {served}, all in Production.",
        highlight=False,
    )
    out.print(event_sheet(found.told(), first=first_row, units=scene.units))
    faulty = np.flatnonzero(scene.labels)
    healthy = scene.labels == 0
    out.print(
        f"The fault was there in rows {first_row + faulty[0] + 1}–{first_row + faulty[-1] + 1}: "
        f"the alarm stood in {rows.in_alarm[~healthy].mean():.0%} of them, and in "
        f"{rows.in_alarm[healthy].mean():.0%} of the other {int(healthy.sum())} rows. "
        f" All in {seconds:.0f} s.",
        highlight=False,
    )


def _rows(results: Sequence[AnomalyDetectionResult]) -> Rows:
    assets = [result.asset for result in results]
    return Rows(
        first=0,
        in_alarm=np.array([asset.state is AssetState.ALARM for asset in assets]),
        is_anomaly=np.array([result.is_anomaly for result in results]),
        asset_p_values=1.0 - np.array([asset.evidence for asset in assets], dtype=float),
        p_values=1.0 - np.array([result.final_score for result in results], dtype=float),
        contamination=1.0 - results[0].threshold,
        drivers=lambda rows: {row: assets[row].sensors for row in rows.tolist()},
        reasons=lambda rows: {row: results[row].sensors for row in rows.tolist()},
    )


def _answer(response: httpx.Response) -> Any:
    if response.is_error:
        raise VigieError(f"{response.request.url} answered: {response.json()['detail']}")
    return response.json()
