"""A file is read as the one was that the models were trained on: its dates, and its units."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from vigie.cli import app
from vigie.tables.units import in_other

START = dt.datetime(2025, 11, 3, 22)
DAY_FIRST, MONTH_FIRST = "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"
N_ROWS, ONE_DAY = 500, 100
MODEL = "vector_autoregression"


def write(path: Path, form: str, start: dt.datetime, n_rows: int) -> Path:
    values = np.random.default_rng(n_rows).normal(5.0, 1.0, (n_rows, 2)).round(3)
    times = [start + dt.timedelta(seconds=15 * i) for i in range(n_rows)]
    rows = [f"{time:{form}},{a},{b}" for time, (a, b) in zip(times, values, strict=True)]
    path.write_text("\n".join(["Time,a,b", *rows, ""]))
    return path


def run(*words: Any) -> Result:
    return CliRunner().invoke(app, list(map(str, words)), env={"MLFLOW_ENABLED": "false"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of two files whose dates are written in two ways."""
    made = tmp_path_factory.mktemp("dates")
    for name, form in (("day", DAY_FIRST), ("month", MONTH_FIRST)):
        healthy = write(made / f"{name}.csv", form, START, N_ROWS)
        done = run("train", healthy, "--model", MODEL, "--save", made / name)
        assert done.exit_code == 0, done.output
        write(made / f"{name}_today.csv", form, dt.datetime(2025, 11, 6, 6), ONE_DAY)
    return made


def first_time(done: Result) -> str:
    assert done.exit_code == 0, done.output
    return str(json.loads(done.stdout)["rows"][0]["time"])


@pytest.mark.parametrize("name", ["day", "month"])
def test_a_day_that_can_be_two_is_read_as_in_training(folder, name):
    today = folder / f"{name}_today.csv"
    done = run("detect", today, "--load", folder / name, "--format", "json")
    assert first_time(done).startswith("2025-11-06")
    assert "as in training" in done.stderr


def test_an_option_counts_first(folder):
    today = folder / "day_today.csv"
    done = run("detect", today, "--load", folder / "day", "--month-first", "--format", "json")
    assert first_time(done).startswith("2025-06-11")


def test_a_file_that_tells_its_own_order_is_read_by_it(folder, tmp_path):
    today = write(tmp_path / "today.csv", MONTH_FIRST, dt.datetime(2025, 11, 26, 6), ONE_DAY)
    done = run("detect", today, "--load", folder / "day", "--format", "json")
    assert first_time(done).startswith("2025-11-26")
    assert "other than in training" in done.stderr


def test_models_that_do_not_know_leave_the_question_open(folder, tmp_path):
    card = folder / "day" / MODEL / "card.json"
    old = tmp_path / "old" / MODEL
    old.mkdir(parents=True)
    facts = json.loads(card.read_text())
    del facts["day_first"]
    (old / "card.json").write_text(json.dumps(facts))
    (old / "arrays.safetensors").write_bytes((card.parent / "arrays.safetensors").read_bytes())
    done = run("detect", folder / "day_today.csv", "--load", tmp_path / "old")
    assert "can be 2025-11-06 or 2025-06-11" in str(done.exception)


def write_power(path: Path, cell: Callable[[float], str], n_rows: int, unit: str = "") -> Path:
    """Write a recording of a power in watts, as ``cell`` writes one, with a line of units."""
    power = np.random.default_rng(1).normal(900.0, 60.0, n_rows).round(1)
    times = [START + dt.timedelta(minutes=i) for i in range(n_rows)]
    lines = ["Time;power;load", *([f";{unit};%"] if unit else [])]
    lines += [
        f"{t:%Y-%m-%d %H:%M};{cell(p)};{p / 20:.2f}" for t, p in zip(times, power, strict=True)
    ]
    path.write_text("\n".join([*lines, ""]))
    return path


def in_watts(watts: float) -> str:
    return f"{watts} W"


def in_kilowatts(watts: float) -> str:
    return f"{watts / 1000:.4f} kW"


def as_a_dashboard_does(watts: float) -> str:
    return in_watts(watts) if watts < 1000 else in_kilowatts(watts)


@pytest.fixture(scope="module")
def of_power(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of a file whose power is in W and kW."""
    made = tmp_path_factory.mktemp("power")
    healthy = write_power(made / "healthy.csv", as_a_dashboard_does, N_ROWS)
    done = run("train", healthy, "--model", MODEL, "--save", made / "models")
    assert done.exit_code == 0, done.output
    return made


@pytest.mark.parametrize(
    ("cell", "unit"),
    [(in_kilowatts, ""), (lambda watts: f"{watts / 1000:.4f}", "kW"), (as_a_dashboard_does, "")],
)
def test_numbers_are_read_in_the_unit_of_training(of_power, tmp_path, cell, unit):
    watts = write_power(tmp_path / "watts.csv", in_watts, ONE_DAY)
    other = write_power(tmp_path / "other.csv", cell, ONE_DAY, unit)
    load = ("--load", of_power / "models", "--format", "json")
    expected, found = (run("detect", file, *load) for file in (watts, other))
    assert found.exit_code == 0, found.output
    scores = [
        np.array([row[MODEL] for row in json.loads(done.stdout)["rows"]], float)
        for done in (expected, found)
    ]
    assert np.isfinite(scores[0]).sum() > ONE_DAY // 2
    np.testing.assert_allclose(scores[1], scores[0], atol=2e-3)
    assert "power" in found.stderr
    assert "kW" in found.stderr
    assert "kW" not in expected.stderr


def test_a_unit_that_is_no_multiple_is_told(of_power, tmp_path):
    today = write_power(tmp_path / "today.csv", lambda watts: f"{watts / 745.7:.4f} hp", ONE_DAY)
    done = run("detect", today, "--load", of_power / "models")
    assert "power is in hp here, and was in W in training" in " ".join(done.stderr.split())


def test_another_spelling_of_a_unit_is_the_same():
    for unit, wanted in (("degC", "°C"), ("rpm", "1/min"), ("m³/h", "m3/h"), ("% RH", "%rF")):
        assert in_other("x", unit, wanted) == (1.0, "")
    assert in_other("x", "mbar", "bar")[0] == pytest.approx(1e-3)
    assert in_other("x", "", "bar") == (1.0, "")
    assert "as they stand" in in_other("x", "°F", "°C")[1]
