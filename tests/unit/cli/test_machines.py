"""Models of its own for each machine of a file: trained, saved, and judged by them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from vigie import samples
from vigie.cli import app
from vigie.cli.terminal import err, out
from vigie.registry.scopes import slug

NO_TRACKING = {"MLFLOW_ENABLED": "false", "VIGIE_N_ESTIMATORS": "20"}
LARGE, SMALL, NEW = "line 2/pump 1", "pump-3", "pump-4"
N_ROWS, FAULT = 300, 260


def recording(machine: str, seed: int, factor: float, *, fault: bool = False) -> pd.DataFrame:
    """Return readings of a machine, each sensor times a factor; its last rows may be a fault."""
    sample = samples.healthy(N_ROWS, seed=seed)
    table = pd.DataFrame(sample.data, columns=sample.feature_names) * factor
    if fault:
        table.iloc[FAULT:, 0] *= 1.6
    table.insert(0, "time", sample.timestamps)
    table.insert(1, "machine", machine)
    return table


def write(path: Path, *recordings: pd.DataFrame) -> Path:
    """Write recordings into one file, their rows mixed as in time."""
    pd.concat(recordings).sort_values("time", kind="stable").to_csv(path, index=False)
    return path


def run(*words: Any, **environment: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        for console in (out, err):
            patch.setattr(console, "width", 200)
        return CliRunner().invoke(app, list(map(str, words)), env=NO_TRACKING | environment)


def train(file: Path, *words: Any, **environment: str) -> Result:
    named = ("--by", "machine", "--model", "isolation_forest")
    return run("train", file, *named, *words, **environment)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of two machines in ``models``, and files of them."""
    folder = tmp_path_factory.mktemp("plant")
    large, small = recording(LARGE, 1, 3.0), recording(SMALL, 2, 1.0)
    write(folder / "healthy.csv", large, small)
    write(folder / "today.csv", recording(LARGE, 3, 3.0), recording(SMALL, 4, 1.0, fault=True))
    trained = train(folder / "healthy.csv", "--save", folder / "models")
    assert trained.exit_code == 0, trained.output
    return folder


def test_each_machine_is_judged_by_its_own_models(plant):
    judged = run("detect", plant / "today.csv", "--by", "machine", "--load", plant / "models")
    assert judged.exit_code == 0, judged.output
    alarms = [line for line in judged.stdout.splitlines() if "alarm" in line and "│" in line]
    assert len(alarms) == 1
    assert SMALL in alarms[0]
    # By the models of the other machine, each reading of either would be far off.
    assert f"{LARGE} is normal" in judged.stdout


def test_a_model_that_one_machine_lacks_is_empty_in_its_rows(plant, tmp_path):
    more = train(plant / "healthy.csv", "--asset", SMALL, "--model", "vector_autoregression",
                 "--save", tmp_path / SMALL)  # fmt: skip
    assert more.exit_code == 0, more.output
    (tmp_path / slug(LARGE)).symlink_to(plant / "models" / slug(LARGE))
    judged = run("detect", plant / "today.csv", "--by", "machine", "--load", tmp_path,
                 "--format", "csv")  # fmt: skip
    assert judged.exit_code == 0, judged.output
    rows = list(csv.DictReader(io.StringIO(judged.stdout)))
    assert len(rows) == 2 * N_ROWS
    assert {row["vector_autoregression"] for row in rows if row["asset"] == LARGE} == {""}
    assert all(row["isolation_forest"] for row in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), f"The file has 2 machines. Name one to train on: {LARGE}, {SMALL}; or give a folder"),
        (("--save", "models", "--promote"), "--promote"),
        (("--asset", "pump-9", "--save", "models"), "but no 'pump-9'"),
    ],
)
def test_a_training_of_several_machines_needs_a_folder_for_their_models(plant, words, said):
    refused = train(plant / "healthy.csv", *words, MLFLOW_ENABLED="true")
    assert said in str(refused.exception)
    assert not Path("models").exists()


def test_a_machine_with_too_few_rows_does_not_stop_the_others(tmp_path):
    file = write(tmp_path / "some.csv", recording(LARGE, 1, 3.0), recording(NEW, 2, 1.0)[:1])
    trained = train(file, "--save", tmp_path / "models")
    assert trained.exit_code == 1
    assert f"{NEW}: data: 1 row is too few." in trained.stderr
    assert f"Not trained: {NEW}." in trained.stderr
    assert [path.name for path in (tmp_path / "models").iterdir()] == [slug(LARGE)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), f"has models of single machines: {slug(LARGE)}, {SMALL}"),
        (("--by", "machine"), f"has no model of machine {NEW!r}, only of {slug(LARGE)}, {SMALL}"),
    ],
)
def test_a_machine_without_models_is_named(plant, tmp_path, words, said):
    file = write(tmp_path / "new.csv", recording(NEW, 5, 1.0), recording(SMALL, 6, 1.0))
    if not words:
        file = write(tmp_path / "one.csv", recording(SMALL, 6, 1.0).drop(columns="machine"))
    refused = run("detect", file, "--load", plant / "models", *words)
    assert said in str(refused.exception)


def test_machines_whose_names_differ_in_a_character_that_no_file_has_keep_apart():
    names = ["pump 3", "pump_3", "pump/3", "Pump-3", "..", "", "泵", "p" * 70, "p" * 71]
    slugs = [slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert all(name.strip(".") and "/" not in name and len(name) < 80 for name in slugs)
