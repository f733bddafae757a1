"""What ``vigie detect`` says of a machine that moves slowly, jumps, or is hardly seen."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
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
from vigie.cli.render.verdict import moved_to
from vigie.cli.terminal import out
from vigie.events.event import Event
from vigie.events.gathering import Events, Rows
from vigie.models.anomaly_data import AssetState, SensorContribution

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


ODD = [
    "=cmd|'/c calc'!A1",
    "Speed [/min]",
    "Pressure [bar]",
    "[red]T\x1b[2J",
    "+a",
    "@b",
    "a\u202eb",
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose file and columns have names that do something elsewhere."""
    place = tmp_path_factory.mktemp("o[d]d")
    rows = np.random.default_rng(0).normal(size=(300, len(ODD)))
    pd.DataFrame(rows, columns=ODD).to_csv(place / "healthy[b]\x1b[2J.csv", index=False)
    rows[200:] += 9.0
    pd.DataFrame(rows, columns=ODD).to_csv(place / "today[b]\x1b[2J.csv", index=False)
    return place


def test_names_are_text_wherever_they_are_shown(odd):
    healthy, today = odd / "healthy[b]\x1b[2J.csv", odd / "today[b]\x1b[2J.csv"
    chosen = ("--model", "isolation_forest", "--save", odd / "models")
    shown = [
        run("inspect", healthy),
        run("train", healthy, *chosen),
        run("detect", today, "--load", odd / "models"),
        run("detect", odd / "no[x]\x1b[2J.csv", "--load", odd / "models"),
    ]
    assert [result.exit_code for result in shown] == [0, 0, 0, 1]
    for result in shown:
        assert all(line.isprintable() for line in result.output.splitlines()), result.output
    verdict = shown[2].output
    assert "Pressure [bar]" in verdict
    assert "Speed [/min]" in verdict

    table = run("detect", today, "--load", odd / "models", "--format", "csv").stdout
    assert all(line.isprintable() for line in table.splitlines())
    cells = {cell for row in csv.reader(table.splitlines()) for cell in row}
    assert not any(cell[:1] in "=+@" for cell in cells if cell)
    # No program is told of apostrophes that are not in the name.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIGIE_CSV_FOR_PEOPLE", "false")
        raw = run("detect", today, "--load", odd / "models", "--format", "csv").stdout
    assert "'=cmd" in table
    assert ",=cmd" in raw


@pytest.mark.parametrize(
    "words",
    [["--version"], ["--help"], ["inspect", "healthy.csv"],
     ["detect", "jump.csv", "--load", "models", "--format", "csv"]],
)  # fmt: skip
def test_output_that_cannot_be_written_is_told_in_words(folder, words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vigie.cli", *words],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=folder,
            env={**os.environ, **NO_TRACKING, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: The output cannot be written (No space")
    assert "Traceback" not in done.stderr


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
    event = next(e for e in reversed(found_in(folder, file)["events"]) if e["kind"] == state)
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
    [alarm] = [event for event in found["events"] if event["kind"] == "alarm"]
    assert abs(alarm["began_row"] - 1 - CHANGE) <= 2
    assert alarm["began"] < alarm["start"]
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


def written(folder: Path, name: str, table: pd.DataFrame) -> str:
    table.to_csv(folder / name, index=False)
    return name


def test_a_value_that_was_not_measured_is_told_as_assumed(folder):
    table = recording(N_ROWS, 3)
    table.loc[300, "current"] = np.nan
    table.loc[300, "vibration"] += 1.0
    table.loc[350, "vibration"] = 9e9
    table.loc[350, "current"] += 3.0
    file = written(folder, "missing.csv", table)
    said = detect(folder, file).stdout
    events = {event["first_row"]: event["sensors"] for event in found_in(folder, file)["events"]}
    for row, name, fault in ((301, "current", "missing"), (351, "vibration", "wrong_unit")):
        by_name = {sensor["name"]: sensor["imputed"] for sensor in events[row]}
        assert by_name == {other: fault if other == name else None for other in NAMES}
    told = [line for line in said.splitlines() if "assumed" in line]
    assert all("usual" not in line for line in told)


def test_a_missing_value_that_explains_an_anomaly_is_never_told_as_measured():
    """A reading that is odd only because one of its values is missing and taken for usual."""
    sensors = [
        SensorContribution(
            name=name, share=share, value=2.21, usual=2.2, low=1, high=3, direction="within",
            imputed=fault,
        )
        for name, share, fault in [
            ("current", 0.5, None), ("speed", 0.3, None), ("rms", 0.15, "missing")
        ]
    ]  # fmt: skip
    shown = Console(width=100, file=io.StringIO())
    event = Event(4, 4, 4, None, 1, 1e-3, None, sensors)
    shown.print(event_sheet([(None, 0, [event])], {"rms": "mm/s"}))
    said = shown.file.getvalue()
    assert "2.21 (usual 2.2)" in said
    assert "missing, assumed 2.21 mm/s" in said


@pytest.fixture(scope="module")
def paused(folder: Path) -> str:
    """A recording with a pause of half an hour after row 200."""
    table = recording(N_ROWS, 3)
    table.loc[200:, "time"] += pd.Timedelta("29min")
    return written(folder, "paused.csv", table)


def test_a_pause_is_told_with_its_place_and_the_usual_step(folder, paused):
    said = detect(folder, paused).stdout
    assert "A pause of 30 min after row 200 (rows usually come every 60 s)." in said
    assert "A pause" not in detect(folder, "calm.csv").stdout
    [pause] = found_in(folder, paused)["pauses"]
    assert (pause["after_row"], pause["duration_s"]) == (200, 1800.0)
    assert found_in(folder, "calm.csv")["pauses"] == []


def test_an_alarm_right_after_a_pause_is_told_with_the_setting_that_judges_rows_apart(folder):
    table = recording(N_ROWS, 2, step=9.0)
    table.loc[CHANGE:, "time"] += pd.Timedelta("29min")
    file = written(folder, "after.csv", table)
    said = detect(folder, file).stdout
    assert "alarm or a drift begins shortly after one. With VIGIE_MAX_GAP_S=600" in said
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIGIE_MAX_GAP_S", "600")
        again = detect(folder, file).stdout
    assert "A pause of 30 min after row 100 (rows usually come every 60 s)." in again
    assert "VIGIE_MAX_GAP_S" not in again


def test_rows_that_come_irregularly_have_no_pause(folder):
    table, rng = recording(N_ROWS, 3), np.random.default_rng(5)
    steps = np.where(rng.random(N_ROWS) < 0.2, 60.0, 1.0)
    table["time"] = pd.Timestamp("2026-03-04") + pd.to_timedelta(np.cumsum(steps), unit="s")
    assert "A pause" not in detect(folder, written(folder, "uneven.csv", table)).stdout


def lines_of(svg: Path) -> int:
    """Return of how many pieces the lines of a picture are."""
    curves = re.findall(
        r'<path d="(M[^"]*)"[^>]*stroke: #3a86c8; stroke-width: 0.9', svg.read_text(), re.S
    )
    return sum(curve.count("M") for curve in curves)


def test_the_lines_of_a_picture_break_at_a_pause(folder, paused):
    pieces = {}
    for file in ("calm.csv", paused):
        path = folder / "pause.svg"
        assert detect(folder, file, "--picture", path).exit_code == 0
        pieces[file] = lines_of(path)
    # One curve of the verdict, one for each sensor, and the one in the legend.
    assert pieces["calm.csv"] == 1 + len(NAMES) + 1
    assert pieces[paused] == 2 * (1 + len(NAMES)) + 1


def test_a_picture_marks_an_alarm_above_the_sensors_that_it_names_alone(folder):
    path = folder / "alarm.svg"
    detect(folder, "jump.csv", "--picture", path)
    bars = path.read_text().count("fill: #d1495b")
    [alarm] = [e for e in found_in(folder, "jump.csv")["events"] if e["kind"] == "alarm"]
    named = [s for n, s in enumerate(alarm["sensors"][:2]) if n == 0 or s["share"] >= 0.1]
    # One above the verdict, one in the legend.
    assert bars == 2 + len(named) < 2 + len(NAMES)


def ended(latest: float, farthest: float, n_sensors: int = 2) -> str:
    """Return how a file is told to end in an alarm of a sensor that is usually at 10 to 20."""

    def read(value: float) -> list[SensorContribution]:
        where = "above" if value > 20.0 else "within"
        facts = {"usual": 15.0, "low": 10.0, "high": 20.0, "share": 1 / n_sensors}
        return [
            SensorContribution(name=name, value=value, direction=where, **facts)
            for name in ("temp", "flow")[:n_sensors]
        ]

    event = Event(0, 9, 9, AssetState.ALARM, 9, 1e-4, None, read(farthest), latest=read(latest))
    return moved_to(event, {"temp": "degC"})


def test_an_alarm_within_the_trained_range_says_that_the_values_do_not_fit_together():
    assert ended(12.0, 13.0) == (
        "temp is at 12 degC, within its trained range (10 to 20), but unusual together with the "
        "other sensors"
    )
    assert "but unusual after the rows before" in ended(12.0, 13.0, n_sensors=1)
    assert "temp was at 25 and is at 12 degC (trained 10 to 20)" in ended(12.0, 25.0)
    assert "temp has risen to 25 degC (trained 10 to 20)" in ended(25.0, 25.0)


@pytest.mark.parametrize(("n_watched", "name"), [(9, "watch"), (4, "anomalies")])
def test_anomalies_at_which_the_machine_is_to_be_watched_are_a_watch(n_watched, name):
    states = np.full(18, STATES.index(AssetState.NORMAL))
    states[18 - n_watched :] = STATES.index(AssetState.WATCH)
    p_values, events = np.full(18, 1e-7), Events()
    events.add(Rows(0, states, np.full(18, True), p_values, p_values, 0.01))
    shown = Console(width=100, file=io.StringIO())
    shown.print(event_sheet([(None, 0, events.told())], limit=0.002))
    assert f"\u2502 {name} " in shown.file.getvalue()
    told = " ".join(shown.file.getvalue().split())
    assert "raise an alarm from 1 in 500; single rows, however rare, do not" in told


def test_a_stretch_of_anomalies_is_at_least_a_watch_and_says_why_it_is_no_alarm(folder):
    """Models of few rows, and a fault that leaves the averages where they are."""
    few = ["--rows", "1:300", "--model", "isolation_forest", "--save", folder / "few"]
    assert run("train", folder / "healthy.csv", *few).exit_code == 0
    table = recording(N_ROWS, 6)
    table.loc[200:259, "current"] += 2.5 * (-1.0) ** np.arange(60)
    file = folder / written(folder, "chatter.csv", table)
    result = run("detect", file, "--load", folder / "few", "--fail-on", "watch")
    assert result.exit_code == 3
    assert "\u2502 watch " in result.stdout
    assert "are a watch and no alarm: for that, 300 training rows are too few" in result.stdout


def test_a_missing_value_that_is_refused_is_told_by_its_row(folder):
    table = recording(N_ROWS, 3)
    table.loc[378, "vibration"] = np.nan
    file = written(folder, "refused.csv", table)
    said = str(detect(folder, file, "--faulty", "refuse").exception)
    assert said.startswith("row 379, vibration: The value is missing, ")
    assert "--faulty impute" in said
    assert "row 379, " in str(
        detect(folder, file, "--faulty", "refuse", "--rows", "300:").exception
    )
    table.loc[378, "vibration"] = 9e9
    file = written(folder, "refused.csv", table)
    said = str(detect(folder, file, "--faulty", "refuse").exception)
    assert said.startswith("row 379, vibration: 9e+09 is hundreds of times")
    assert "--faulty impute" in said


def test_a_line_of_units_is_no_news_to_a_model_that_was_trained(folder):
    table = recording(60, 3)
    units = pd.DataFrame([["", "mm/s", "degC", "A"]], columns=table.columns)
    file = written(folder, "units.csv", pd.concat([units, table.astype(str)]))
    assert "Line 2 holds units" in run("inspect", folder / file).stdout
    assert detect(folder, file).stderr == ""
