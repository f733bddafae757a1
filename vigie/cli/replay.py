"""The demo: start, train, promote, and replay a recording with a fault."""

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
from vigie.assessment.status import STATES
from vigie.assessment.timeline import as_times
from vigie.cli.render.events import event_sheet
from vigie.config import Settings
from vigie.detectors.base import Floats
from vigie.errors import VigieError
from vigie.events.gathering import TOLD, Events, Rows
from vigie.local import mlflow_server, service
from vigie.models.anomaly_data import AnomalyDetectionResult, AssetState
from vigie.services.mlflow_service import MLflowService
from vigie.tables.reading import read_table

SKAB_FILE = "skab/valve1/13.csv"
SKAB_HEALTHY_ROWS = 400
BATCH_ROWS = 100
FOLLOW_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Scene:
    """The recording of the demo.

    Attributes
    ----------
    title, asset_id : str
        Title of the recording, and name of its machine.
    feature_names : sequence of str
        The sensors.
    units : dict of str to str
        Units of the sensors, if known.
    healthy, replay : ndarray of shape (n, n_features)
        Rows to train on, and the rows after them.
    labels : ndarray of shape (n,)
        1 in rows that the recording's authors label as faulty; no model sees them.
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
    """Run the demo; ``keep`` leaves MLflow and the service running until Ctrl-C."""
    scene = choose_scene(settings)
    settings = settings.model_copy(update={"mlflow_enabled": True})
    started = time.perf_counter()
    with progress() as report:
        report("starting MLflow and the service", 0.0)
        with mlflow_server(settings) as mlflow, service(settings) as address:
            api = httpx.Client(base_url=f"{address}/api/v1/anomalies", timeout=300, trust_env=False)
            report("training four detectors", 0.35)
            versions = _train(api, scene)
            report("promoting the new versions", 0.8)
            _promote(api, settings, versions)
            report("replaying the recording", 0.85)
            results = _replay(api, scene)
            report("done", 1.0)
            _show(out, scene, results, versions, time.perf_counter() - started)
            if keep:
                out.print(
                    f"\nOpen {address}/docs and {mlflow}. Ctrl-C stops both.", highlight=False
                )
                signal.pause()
    if not keep:
        out.print(
            f"\nMLflow and the service are stopped. [bold]make run[/] starts them with these "
            f"models: service {address}/docs, MLflow {mlflow}.",
            highlight=False,
        )


def choose_scene(settings: Settings) -> Scene:
    """Return a real recording if ``VIGIE_DATA`` has it, otherwise a simulated one."""
    recording = settings.data / SKAB_FILE if settings.data else None
    if recording is not None and recording.is_file():
        table = read_table(recording).frame
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
    reason = f"{recording} does not exist" if recording else "VIGIE_DATA is not set"
    return Scene(
        title=f"a simulated pump bench whose bearing wears ({reason})",
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
    """Move the versions to Production, and wait until the service serves them."""
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
    raise VigieError(
        "The service does not serve the promoted versions.", remedy="See .vigie/vigie.log."
    )


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
    events = Events()
    events.add(rows)
    served = ", ".join(f"{name} v{version}" for name, version in versions.items())
    out.print(f"\n[bold]Replayed:[/] {scene.title}", highlight=False)
    out.print(
        f"Trained on {len(scene.healthy)} healthy rows; assessed by {served}, all in Production.",
        highlight=False,
    )
    out.print(event_sheet([(None, first_row, events.told())], scene.units))
    faulty = np.flatnonzero(scene.labels)
    healthy, in_alarm = scene.labels == 0, rows.of_kind(AssetState.ALARM)
    out.print(
        f"The fault was in rows {first_row + faulty[0] + 1}–{first_row + faulty[-1] + 1}: "
        f"the alarm was active in {in_alarm[~healthy].mean():.0%} of them, and in "
        f"{in_alarm[healthy].mean():.0%} of the other {int(healthy.sum())} rows. "
        f"Total time: {seconds:.0f} s.",
        highlight=False,
    )


def _rows(results: Sequence[AnomalyDetectionResult]) -> Rows:
    assets = [result.asset for result in results]
    return Rows(
        first=0,
        # Without evidence, as before the history is there, the state is no event.
        states=np.array([STATES.index(a.state) if a.state in STATES else 0 for a in assets]),
        is_anomaly=np.array([result.is_anomaly for result in results]),
        asset_p_values=1.0 - np.array([asset.evidence for asset in assets], dtype=float),
        p_values=1.0 - np.array([result.final_score for result in results], dtype=float),
        contamination=1.0 - results[0].threshold,
        times=as_times([result.timestamp for result in results]),
        reasons={
            **dict.fromkeys(TOLD, lambda rows: {row: assets[row].sensors for row in rows.tolist()}),
            None: lambda rows: {row: results[row].sensors for row in rows.tolist()},
        },
    )


def _answer(response: httpx.Response) -> Any:
    if response.is_error:
        raise VigieError(f"{response.request.url} answered: {response.json()['detail']}")
    return response.json()
