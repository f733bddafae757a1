"""What ``vigie train`` prints of the steps that its models would see."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vigie.cli import app, terminal
from vigie.cli.train import _print_smallest_steps

MANY = 20
UNITS = {"sensor_0": "bar"}
OF_MANY = np.arange(1.0, MANY + 1)


def model(soon: Any, later: Any) -> Any:
    """Return a stand-in for a model whose sensors have a usual range of 0 to 10."""
    n = 3 if soon is None else len(soon)
    return SimpleNamespace(
        context=None,
        feature_names=tuple(f"sensor_{i}" for i in range(n)),
        low=np.zeros(n),
        high=np.full(n, 10.0),
        smallest_step_20=soon,
        smallest_step_200=later,
    )


def printed(capsys: pytest.CaptureFixture[str], *models: Any) -> list[str]:
    _print_smallest_steps(models, UNITS)
    return capsys.readouterr().out.splitlines()


def row(lines: list[str], sensor: str) -> list[str]:
    [line] = [line for line in lines if f" {sensor} " in line]
    return [cell.strip() for cell in line.split("│")[2:-1]]


def test_the_best_model_counts_for_each_sensor(capsys):
    one = model(np.array([3.0, 0.12345, np.inf]), np.array([1.0, 0.1, np.nan]))
    other = model(np.array([2.0, np.nan, np.inf]), np.array([1.5, np.nan, np.inf]))
    lines = printed(capsys, one, other)
    assert row(lines, "sensor_0") == ["0 to 10 bar", "2 bar", "1 bar"]
    assert row(lines, "sensor_1") == ["0 to 10", "0.123", "0.1"]
    assert row(lines, "sensor_2") == ["0 to 10", "not seen", "not seen"]
    said = " ".join(" ".join(lines).split())
    assert "not seen: no change that was tried raises an alarm." in said
    assert "–:" not in said


def test_what_was_not_measured_within_200_is_a_dash(capsys):
    lines = printed(capsys, model(np.array([3.0, np.nan]), np.full(2, np.nan)))
    assert row(lines, "sensor_0") == ["0 to 10 bar", "3 bar", "–"]
    assert "–: too few training rows to measure it." in " ".join(" ".join(lines).split())
    assert not any("sensor_1" in line for line in lines)


def test_a_step_wider_than_the_usual_range_is_said_to_be_so(capsys):
    lines = printed(capsys, model(np.array([101.0]), np.array([9.5])))
    assert "101" not in " ".join(lines)
    cells = [line.split("│")[3].strip() for line in lines if "│" in line]
    assert " ".join(cells).strip() == "more than the whole usual range"
    assert any("9.5 bar" in line for line in lines)


def test_of_many_sensors_the_weakest_are_shown_with_a_count(capsys):
    steps = np.where(OF_MANY == 7, np.inf, np.where(OF_MANY == 9, np.nan, OF_MANY))
    lines = printed(capsys, model(steps, steps))
    assert [line.split("│")[1].strip() for line in lines if "sensor_" in line] == [
        *("sensor_6", "sensor_19", "sensor_18", "sensor_17", "sensor_16")
    ]
    said = " ".join(" ".join(lines).split())
    assert (
        "The 5 sensors that are seen worst, of 19 measured and 20 in all; 1 not seen within 20 "
        "readings."
    ) in said


def test_it_fits_in_80_columns(capsys):
    long = model(np.full(3, 123456.7), np.full(3, np.inf))
    long.feature_names = tuple(f"temperature_of_the_driving_end_bearing_{i}" for i in range(3))
    long.low, long.high = np.full(3, -123456.7), np.full(3, 123456.7)
    assert max(map(len, printed(capsys, long))) <= 80


@pytest.mark.parametrize("steps", [None, np.full(3, np.nan)])
def test_nothing_is_printed_if_nothing_was_measured(capsys, steps):
    assert printed(capsys, model(steps, steps)) == []
    assert printed(capsys) == []


def test_progress_is_a_line_now_and_then_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "LOG_EVERY_S", 0.01)
    with terminal.progress_bar() as progress:
        progress("lstm_autoencoder: epoch 7/20", 0.34)
        said = ""
        deadline = time.monotonic() + 10.0
        while "epoch 7/20" not in said and time.monotonic() < deadline:
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert " 34% lstm_autoencoder: epoch 7/20 (0 s)" in said


def test_a_fast_training_prints_no_progress(capsys):
    with terminal.progress_bar() as progress:
        progress("isolation_forest: fitted", 1.0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["train", "detect", "serve", "models promote"])
def test_no_type_follows_an_option_without_a_value(command):
    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert "<bool>" not in shown.output
    assert "--help" in shown.output
