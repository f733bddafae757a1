"""A detector added by the recipe of the architecture: two files and one line, elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import mahalanobis
import pandas as pd
import pytest
from conftest import free_port

from vigie import samples
from vigie.config import Settings
from vigie.local import service

FILES = Path(mahalanobis.__file__).parent
LINE = "[vigie.detectors]\nmahalanobis = mahalanobis:ALGORITHM\n"


@pytest.fixture
def installed(tracked: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Install the other project: its two files on the path, and its one line."""
    project = tmp_path / "site" / "mahalanobis-1.0.dist-info"
    project.mkdir(parents=True)
    (project / "METADATA").write_text("Metadata-Version: 2.1\nName: mahalanobis\nVersion: 1.0\n")
    (project / "entry_points.txt").write_text(LINE)
    path = os.pathsep.join([str(project.parent), str(FILES)])
    monkeypatch.setenv("PYTHONPATH", path)
    return tracked


def vigie(*arguments: str) -> str:
    """Run the command line in a process of its own, and return what it prints."""
    command = [sys.executable, "-m", "vigie.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_trains_is_registered_opens_elsewhere_serves_and_is_checked(
    installed: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, worn = samples.healthy(300), samples.faulty("bearing_wear")
    file = tmp_path / "healthy.csv"
    pd.DataFrame(bench.data, columns=bench.feature_names).to_csv(file, index=False)
    monkeypatch.setenv("VIGIE_SHRINKAGE", "0.2")
    assert "mahalanobis" in vigie("train", str(file), "--model", "mahalanobis", "--promote")
    assert "mahalanobis" in vigie("models", "list")
    monkeypatch.setenv("VIGIE_PORT", str(free_port()))
    with (
        service(Settings()) as address,
        httpx.Client(base_url=f"{address}/api/v1/anomalies", trust_env=False, timeout=60) as api,
    ):
        status = api.get("/status").json()["models"]["mahalanobis"]
        assert (status["version"], status["stage"]) == (1, "Production")
        healthy, faulty = (
            api.post("/detect", json={"asset_id": "pump", "features": features}).json()
            for features in (
                dict(zip(bench.feature_names, rows[-1].tolist(), strict=True))
                for rows in (bench.data, worn.data)
            )
        )
        assert not healthy["models"]["mahalanobis"]["is_anomaly"]
        assert faulty["models"]["mahalanobis"]["is_anomaly"]
        assert faulty["sensors"][0]["name"] == "vibration_kurtosis"
        assert api.get("/metrics").json()["mahalanobis"][0]["run_name"] == "mahalanobis_300_samples"
        body = {
            "data": bench.data.tolist(),
            "feature_names": list(bench.feature_names),
            "model_names": ["mahalanobis"],
        }
        trained = api.post("/train?wait=true", json=body).json()
        assert trained["models"]["mahalanobis"]["version"] == 2, trained
    checked = subprocess.run(
        [sys.executable, "-m", "vigie.cli", "doctor"], capture_output=True, text=True, check=False
    ).stdout
    assert "Artifacts of mahalanobis version 1 readable? yes, 8 features." in checked


def test_a_line_that_leads_nowhere_is_named(installed: Settings, tmp_path: Path) -> None:
    (tmp_path / "site" / "mahalanobis-1.0.dist-info" / "entry_points.txt").write_text(
        "[vigie.detectors]\nmahalanobis = mahalanobis:NOTHING\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "vigie.cli", "models", "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "mahalanobis:NOTHING" in done.stderr
    assert "Traceback" not in done.stderr
