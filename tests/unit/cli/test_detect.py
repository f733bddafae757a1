"""What ``vigie detect`` says of a machine that moves slowly, jumps, or is hardly seen."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.signal import lfilter
from typer.testing import CliRunner, Result

from vigie.assessment.status import STATES
from vigie.cli import app
from vigie.cli.render.events import event_sheet
from vigie.cli.terminal import out
from vigie.events.event import Event
from vigie.events.gathering import Events, Rows
from vigie.models.anomaly_data import AssetState

NAMES = ["vibration", "temperature [degC]", "current"]
N_HEALTHY, N_ROWS, CHANGE = 1000, 420, 100
NO_TRACKING = {"MLFLOW_ENABLED": "false", "VIGIE_N_ESTIMATORS": "20", "COLUMNS": "200"}


def recording(n_rows: int, seed: int, rise: float = 0.0, step: float = 0.0) -> pd.DataFrame:
    """Return readings a minute apart; from row ``CHANGE`` on, the temperature leaves its usual."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n_rows, len(NAMES)))
    # A bearing that warms and cools slowly: a slow rise is no sudden change of it.
    noise[:, 1] = lfilter([0.2], [1.0, -0.98], noise[:, 1])
    table = pd.DataFrame(noise * [0.1, 1.0, 0.2] + [2.1, 58.0, 14.2], columns=NAMES)
    late = np.maximum(np.arange(n_rows) - CHANGE, 0)
    table[NAMES[1]] += rise * late + step * (late > 0)
    table.insert(0, "time", pd.date_range("2026-03-04", periods=n_rows, freq="min"))
    return table.round(dict.fromkeys(NAMES, 4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of the machine in ``models``, and recordings of it."""
    place = tmp_path_factory.mktemp("pump")
    recordings = {
        "healthy": recording(N_HEALTHY, 0),
        "slow": recording(N_ROWS, 1, rise=0.03),
        "jump": recording(N_ROWS, 2, step=9.0),
        "calm": recording(N_ROWS, 3),
    }
    for name, table in recordings.items():
        table.to_csv(place / f"{name}.csv", index=False)
    names = ("isolation_forest", "vector_autoregression")
    chosen = [word for name in names for word in ("--model", name)]
    trained = run("train", place / "healthy.csv", "--save", place / "models", *chosen)
    assert trained.exit_code == 0, trained.output
    return place


def run(*words: Any) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out, "width", 200)
        return CliRunner().invoke(app, list(map(str, words)), env=NO_TRACKING)


def detect(folder: Path, file: str, *words: Any) -> Result:
    return run("detect", folder / file, "--load", folder / "models", *words)


def found_in(folder: Path, file: str) -> dict[str, Any]:
    found = json.loads(detect(folder, file, "--format", "json").stdout)
    assert isinstance(found, dict)
    return found


def test_the_last_lines_count_every_kind_of_event_and_say_how_the_file_ends(folder):
    result = detect(folder, "slow.csv", "--fail-on", "drift")
    assert result.exit_code == 3
    counts, end = result.stdout.splitlines()[-2:]
    last = pd.read_csv(folder / "slow.csv")[NAMES[1]].iloc[-1]
    assert "1 drift; " in counts
    assert end.startswith(
        f"At the end of the file the machine is in drift: {NAMES[1]} has risen to {last:.4g} degC "
        "(trained 5"
    )
    assert (
        f"{NAMES[1]} has risen to {last:.4g} degC (trained " in result.stdout.split("Drift in")[1]
    )
    assert "Check the machine now; train again only if this is normal." in result.stdout
    calm = detect(folder, "calm.csv").stdout.splitlines()
    assert calm[-2].startswith("0 alarms; ")
    assert calm[-1] == "At the end of the file the machine is normal."


def test_json_says_how_the_file_ends(folder):
    table = pd.read_csv(folder / "slow.csv")
    [end] = found_in(folder, "slow.csv")["at_end"]
    assert (end["row"], end["state"]) == (N_ROWS, "drift")
    assert end["time"] == f"{table['time'].iloc[-1].replace(' ', 'T')}Z"
    first = end["sensors"][0]
    assert (first["name"], first["value"]) == (NAMES[1], table[NAMES[1]].iloc[-1])
    assert first["trained_low"] < 58.0 < first["trained_high"] < first["value"]


@pytest.mark.parametrize(("file", "state"), [("slow.csv", "drift"), ("jump.csv", "alarm")])
def test_an_event_shows_the_most_unusual_value_that_was_measured_in_it(folder, file, state):
    values = pd.read_csv(folder / file)[NAMES[1]]
    event = next(e for e in reversed(found_in(folder, file)["events"]) if e["state"] == state)
    sensor = event["sensors"][0]
    inside = values.iloc[event["first_row"] - 1 : event["last_row"]]
    assert (sensor["name"], sensor["value"]) == (NAMES[1], inside.max())
    assert values.iloc[sensor["row"] - 1] == inside.max()
    said = detect(folder, file).stdout
    assert f"{inside.max():.4g} degC (usual" in said
    assert f"peak at row {sensor['row']}" in said


@pytest.mark.parametrize(("p_value", "is_said"), [(7e-4, True), (1e-9, False)])
def test_odds_at_the_limit_of_the_training_rows_are_said_to_be_a_limit(p_value, is_said):
    states, p_values = np.full(9, STATES.index(AssetState.DRIFT)), np.full(9, p_value)
    at_floor = np.arange(9) > 6
    events = Events()
    events.add(Rows(0, states, at_floor, p_values, p_values, 0.01, is_at_floor=at_floor))
    shown = Console(width=100, file=io.StringIO())
    shown.print(event_sheet([(None, 0, events.told())]))
    assert ("or rarer" in shown.file.getvalue()) is is_said


def test_an_alarm_says_when_its_change_began(folder):
    found = found_in(folder, "jump.csv")
    [alarm] = [event for event in found["events"] if event["state"] == "alarm"]
    assert abs(alarm["began_row"] - 1 - CHANGE) <= 2
    assert alarm["began"] < alarm["from"]
    began = {row["began"] for row in found["rows"] if row["state"] == "alarm"}
    assert began == {alarm["began"]}
    clock = alarm["began"][11:19]
    result = detect(folder, "jump.csv")
    assert f"began about {clock}" in result.stdout


def test_rows_within_an_event_are_the_only_ones_that_it_names(folder):
    for file in ("slow.csv", "jump.csv", "calm.csv"):
        for event in found_in(folder, file)["events"]:
            for sensor in event["sensors"]:
                assert event["first_row"] <= sensor["row"] <= event["last_row"]


@pytest.mark.parametrize(("n_anomalies", "isolated"), [(12, True), (39, False)])
def test_a_stretch_of_anomalies_is_not_called_isolated(n_anomalies, isolated):
    event = Event(0, 42, 20, None, n_anomalies, 1e-3, None, [])
    shown = Console(width=100, file=io.StringIO())
    shown.print(event_sheet([(None, 0, [event])]))
    assert ("isolated" in shown.file.getvalue()) is isolated
    assert f"{n_anomalies} of 43 anomalous" in shown.file.getvalue()


def test_rows_too_few_for_a_state_are_said_to_be_too_few(folder):
    said = detect(folder, "calm.csv", "--rows", "1:3").stdout.splitlines()[-1]
    assert said.startswith("3 rows are too few to judge the machine: its state is unknown until ")


def test_a_model_of_windows_says_how_many_rows_it_needs(folder):
    said = detect(folder, "calm.csv", "--rows", "1:50", "--model", "vector_autoregression").stdout
    [line] = [line for line in said.splitlines() if line.startswith("No model could judge")]
    assert "vector_autoregression needs at least 2 rows in a row" in line
    assert "context" not in line


def test_a_file_without_rows_is_refused(folder):
    (folder / "header.csv").write_text(f"time,{','.join(NAMES)}\n")
    for output in ("table", "csv", "json"):
        result = detect(folder, "header.csv", "--format", output)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "has no rows" in str(result.exception)


def renamed(folder: Path, names: dict[str, str]) -> str:
    recording(30, 4).rename(columns=names).to_csv(folder / "renamed.csv", index=False)
    return "renamed.csv"


def test_a_column_that_is_missing_is_named_once_with_the_one_that_may_be_meant(folder):
    file = renamed(folder, {NAMES[1]: "Temperatur"})
    said = str(detect(folder, file).exception)
    assert said.count("are missing: temperature [degC], which every model needs") == 1
    assert f"Did you mean 'Temperatur' for '{NAMES[1]}'?" in said
    result = detect(folder, file, "--faulty", "impute")
    assert result.exit_code == 0
    assert (
        "isolation_forest, vector_autoregression continue without temperature [degC]"
        in result.stderr
    )


@pytest.mark.parametrize("words", [[], ["--faulty", "impute"]])
def test_a_file_with_no_column_of_the_models_is_of_another_machine(folder, words):
    said = str(
        detect(folder, renamed(folder, dict(zip(NAMES, "abc", strict=True))), *words).exception
    )
    assert "The models are of another machine" in said
    assert f"({', '.join(NAMES)})" in said
    assert "but a, b, c, time" in said
    assert "vigie models list" in said


def test_a_word_among_numbers_is_named(folder):
    table = recording(30, 5).astype(object)
    table.loc[3, "vibration"] = "broken"
    table.loc[4:6, "current"] = ""
    table.to_csv(folder / "words.csv", index=False)
    said = detect(folder, "words.csv").stderr
    assert "vibration: 'broken' in 1 row read as missing." in said
    assert "current:" not in said


def test_a_word_that_an_option_does_not_know_is_answered_with_those_it_knows(folder):
    result = detect(folder, "calm.csv", "--fail-on", "alert")
    assert result.exit_code == 2
    assert "'alert' is not one of 'anomaly', 'watch'" in result.stderr
    assert "Did you mean 'alarm'?" in result.stderr
    assert "Value error" not in result.stderr
    said = str(detect(folder, "calm.csv", "--model", "isolationforest").exception)
    assert said.startswith("--model: There is no detector 'isolationforest'.")
    assert "Did you mean isolation_forest?" in said


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        ("nowhere/line.png", "There is no folder"),
        ("line.csv", "no ending of a picture"),
        ("line", "no ending of a picture"),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused_before_a_row_is_judged(folder, picture, said):
    result = detect(folder, "calm.csv", "--picture", folder / picture)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in str(result.exception)


def test_a_picture_has_the_format_of_its_ending(folder):
    for ending, magic in ((".jpg", b"\xff\xd8"), (".svg", b"<?xml"), (".png", b"\x89PNG")):
        path = folder / f"line{ending}"
        assert detect(folder, "calm.csv", "--picture", path).exit_code == 0
        assert path.read_bytes().startswith(magic)
