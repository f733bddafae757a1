"""The demo: start, train, promote, and replay a recording with a fault."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from vigie import samples
from vigie.assessment.assessment import Measured
from vigie.assessment.status import STATES
from vigie.assessment.timeline import as_datetime64, as_times
from vigie.cli.render.events import event_sheet
from vigie.cli.up import print_addresses
from vigie.config import Settings
from vigie.detectors.base import Floats
from vigie.errors import VigieError
from vigie.events.gathering import TOLD, Began, Events, Rows
from vigie.local import free_ports, mlflow_server, service
from vigie.models.anomaly_data import AnomalyDetectionResult, AssetState
from vigie.services.mlflow_service import MLflowService
from vigie.tables.reading import read_table

logger = logging.getLogger(__name__)

SKAB_FILE = "skab/valve1/13.csv"
SKAB_HEALTHY_ROWS = 400
BATCH_ROWS = 100
PATIENCE_S = 120.0
"""How long the trainings wait for MLflow, which runs on the same, possibly slow, machine."""
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
    data: Path | None,
    out: Console,
    err: Console,
    progress: Callable[[], AbstractContextManager[Callable[[str, float], None]]],
    *,
    keep: bool = False,
) -> None:
    """Run the demo on an MLflow server and a service of its own.

    Parameters
    ----------
    data : Path or None
        Folder of public data sets.
    out, err : Console
        For the result, which is the same on every run, and for everything else.
    progress : callable
        Shows the progress of a block.
    keep : bool
        Keep MLflow and the service running until Ctrl-C.
    """
    scene = choose_scene(data)
    started = time.perf_counter()
    with _place_of_its_own() as settings, progress() as report:
        report("starting MLflow and the service", 0.0)
        with mlflow_server(settings), service(settings) as address:
            api = httpx.Client(base_url=f"{address}/api/v1/anomalies", timeout=300, trust_env=False)
            report("training four detectors", 0.35)
            versions = _train(api, scene)
            report("promoting the new versions", 0.8)
            _promote(api, settings, versions)
            report("replaying the recording", 0.85)
            results = _replay(api, scene)
            report("done", 1.0)
            _show(out, scene, results, versions)
            err.print(f"Total time: {time.perf_counter() - started:.0f} s.", highlight=False)
            if keep:
                print_addresses(settings, address)
                err.print("Ctrl-C ends the demo, and deletes its models.")
                signal.pause()
    err.print(
        "The demo has ended, and its models are deleted. `vigie demo --keep` leaves them running; "
        "`vigie up` starts a service for your own.",
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _place_of_its_own() -> Iterator[Settings]:
    """Give the demo a folder, ports and an environment of its own.

    Neither the user's variables nor `.env` reach it or its child processes, so it never trains or
    promotes in the user's registry. Its ports are not the default ones, where other commands of
    the user would take its registry for their own.

    Yields
    ------
    Settings
        Those of the demo. The folder is deleted at the end, unless the demo fails.
    """
    before, working_directory = dict(os.environ), Path.cwd()
    folder = Path(tempfile.mkdtemp(prefix="vigie-demo-"))
    mlflow_port, port = free_ports(2)
    is_kept = False
    try:
        for name in before:
            if name.startswith(("MLFLOW_", "VIGIE_")):
                del os.environ[name]
        os.environ |= {
            "MLFLOW_TRACKING_URI": f"http://localhost:{mlflow_port}",
            "VIGIE_PORT": str(port),
            "VIGIE_STATE_DIR": str(folder),
            "VIGIE_TRACKING_PATIENCE_S": str(PATIENCE_S),
            "VIGIE_REGISTRY_POLL_S": "0.5",
            # Libraries leave files there too.
            "TMPDIR": str(folder),
        }
        # Settings are read from `.env` in the working directory too.
        os.chdir(folder)
        yield Settings()
    except typer.Exit:
        # Ctrl-C.
        raise
    except Exception:
        is_kept = True
        logger.error("The demo failed. Its files are kept in %s.", folder)
        raise
    finally:
        os.chdir(working_directory)
        os.environ.clear()
        os.environ |= before
        if not is_kept:
            shutil.rmtree(folder)


def choose_scene(data: Path | None) -> Scene:
    """Return a real recording if the folder has it, otherwise a simulated one."""
    recording = data / SKAB_FILE if data else None
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
    models = _answer(api.post("/train?wait=true", json=body))["models"]
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
        "The service does not serve the promoted versions.",
        remedy=f"See its log: {settings.state_dir / 'vigie.log'}.",
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
) -> None:
    first_row = len(scene.healthy) if len(scene.healthy) == SKAB_HEALTHY_ROWS else 0
    rows = _rows(scene, [AnomalyDetectionResult.model_validate(result) for result in results])
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
        f"{in_alarm[healthy].mean():.0%} of the other {int(healthy.sum())} rows.",
        highlight=False,
    )


def _rows(scene: Scene, results: Sequence[AnomalyDetectionResult]) -> Rows:
    assets = [result.asset for result in results]
    times = as_times([result.timestamp for result in results])
    trained = {sensor.name: sensor for result in results for sensor in result.sensors}
    of_all = [trained.get(name) for name in scene.feature_names]
    usual, low, high = (
        np.array([np.nan if sensor is None else getattr(sensor, fact) for sensor in of_all])
        for fact in ("usual", "low", "high")
    )

    def measured(rows: NDArray[np.intp]) -> Measured:
        values = scene.replay[rows]
        facts = (np.broadcast_to(fact, values.shape) for fact in (usual, low, high))
        return Measured(tuple(scene.feature_names), values, *facts)

    def began(row: int) -> Began | None:
        if (moment := assets[row].began) is None:
            return None
        return int(np.searchsorted(times, as_datetime64(moment))), as_datetime64(moment)

    return Rows(
        first=0,
        states=np.array([STATES.index(asset.state) for asset in assets]),
        is_anomaly=np.array([result.is_anomaly for result in results]),
        asset_p_values=1.0 - np.array([asset.evidence for asset in assets], dtype=float),
        p_values=1.0 - np.array([result.final_score for result in results], dtype=float),
        contamination=1.0 - results[0].threshold,
        times=times,
        measured=measured,
        began=began,
        reasons={
            **dict.fromkeys(TOLD, lambda rows: {row: assets[row].sensors for row in rows.tolist()}),
            None: lambda rows: {row: results[row].sensors for row in rows.tolist()},
        },
    )


def _answer(response: httpx.Response) -> Any:
    if response.is_error:
        raise VigieError(f"{response.request.url} answered: {response.json()['detail']}")
    return response.json()
