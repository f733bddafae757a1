"""A file of one day is read as the file was that the models were trained on."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from vigie.cli import app

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
