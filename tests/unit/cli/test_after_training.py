"""What ``vigie train`` says of its rows, and what to do with its models."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from vigie import samples
from vigie.cli import app

N_ROWS = 300


def run(*words: Any) -> Result:
    done = CliRunner().invoke(app, list(map(str, words)), env={"MLFLOW_ENABLED": "false"})
    assert done.exit_code == 0, done.output
    return done


def write(path: Path, tag: str, *, seed: int = 1, gaps: bool = False) -> Path:
    """Write a file with one value a row, whose dates can be read in two ways."""
    sample = samples.healthy(N_ROWS, seed=seed)
    table = pd.DataFrame(sample.data, columns=sample.feature_names).iloc[:, :3].round(4)
    if gaps:
        table.iloc[5:15, 0], table.iloc[20:22, 1] = np.nan, np.nan
    table.insert(0, "time", pd.date_range("2026-01-05", periods=N_ROWS, freq="1min"))
    rows = table.melt("time", var_name=tag).sort_values("time", kind="stable")
    rows["time"] = rows["time"].dt.strftime("%d/%m/%Y %H:%M")
    rows.to_csv(path, index=False)
    return path


def trained(file: Path, folder: Path, *options: str) -> Result:
    return run("train", file, "--model", "vector_autoregression", "--save", folder, *options)


def test_the_next_command_has_the_options_of_this_file_and_works(tmp_path):
    options = ("--day-first", "--long", "sensor name:value")
    folder = tmp_path / "my models"
    done = trained(write(tmp_path / "healthy.csv", "sensor name"), folder, *options)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("  vigie detect")]
    program, *words = shlex.split(line)
    assert program == "vigie"
    assert words[1] == "FILE"
    words[1] = str(write(tmp_path / "today.csv", "sensor name", seed=2))
    assert "300 rows are anomalous" in run(*words).stdout


@pytest.mark.parametrize("command", ["train", "backtest"])
def test_missing_values_are_a_warning_with_what_is_done_and_no_log(tmp_path, command):
    file = write(tmp_path / "healthy.csv", "tag", gaps=True)
    if command == "train":
        done = trained(file, tmp_path / "models", "--day-first")
    else:
        done = run(command, file, "--day-first", "--model", "vector_autoregression")
    warnings = [line for line in done.stderr.splitlines() if "missing" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("Warning: Training data: 12 values of 2 sensors are missing")
    assert warnings[0].endswith("each takes the sensor's last good value before it.")
    assert "vigie.detectors" not in done.stderr
