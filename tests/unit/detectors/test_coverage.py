"""A training on less than one cycle of what a machine repeats says so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from vigie.detectors.data.coverage import MOSTLY, slow_share
from vigie.detectors.data.matrices import Table
from vigie.detectors.one_class_svm.detector import OneClassSVM
from vigie.detectors.training import train


def machine(n: int, memory: float, seed: int) -> np.ndarray:
    """Rows of six sensors that follow three slow loads, shape (n, 6)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n + 500, 3))
    loads = lfilter([np.sqrt(1.0 - memory**2)], [1.0, -memory], noise, axis=0)
    return loads[500:] @ rng.normal(size=(3, 6)) + rng.normal(size=(n, 6))


def cycles(n: int, count: float, memory: float, seed: int) -> np.ndarray:
    """The same with a sine of three deviations in each sensor, ``count`` periods long."""
    X = machine(n, memory, seed)
    phases = np.random.default_rng(seed).uniform(0.0, 2.0 * np.pi, X.shape[1])
    return X + 3.0 * X.std(axis=0) * np.sin(
        2.0 * np.pi * count * np.arange(n)[:, None] / n + phases
    )


@pytest.mark.parametrize("memory", [0.0, 0.95, 0.99])
def test_most_half_cycles_and_hardly_a_healthy_machine_are_one_slow_curve(memory):
    n = 1500
    healthy = [slow_share(machine(n, memory, seed)) >= MOSTLY for seed in range(40)]
    season = [slow_share(cycles(n, 2.0, memory, seed)) >= MOSTLY for seed in range(40)]
    half = [slow_share(cycles(n, 0.5, memory, seed)) >= MOSTLY for seed in range(40)]
    most = [slow_share(cycles(n, 0.75, memory, seed)) >= MOSTLY for seed in range(40)]
    assert sum(healthy) <= 2
    assert sum(season) == 0
    assert sum(half) >= 36
    assert sum(most) == 40


def test_sensors_that_do_not_vary_do_not_count():
    X = cycles(400, 0.5, 0.0, seed=1)
    known = slow_share(X)
    assert known > 0.0
    assert slow_share(np.column_stack([X, np.full((400, 9), 7.5)])) == known
    assert slow_share(np.full((400, 3), 7.5)) == 0.0
    assert slow_share(1e95 * X) == known


def test_a_training_on_half_a_cycle_warns_once_and_one_on_two_does_not(caplog):
    def fit(X: np.ndarray, time_ordered: bool = True) -> int:
        caplog.clear()
        table = Table(X, tuple(f"s{i}" for i in range(6)))
        for nu in (0.1, 0.5):
            detector = OneClassSVM(nu, "rbf", "scale", 0.01)
            options = {"threshold": 0.99, "folds": 5, "random_state": 0}
            train(detector, table, time_ordered=time_ordered, **options)
        return caplog.text.count("Train on two such cycles or more")

    assert fit(cycles(600, 0.5, 0.0, seed=1)) == 1
    assert fit(cycles(600, 2.0, 0.0, seed=1)) == 0
    # Rows without an order may come sorted.
    assert fit(cycles(600, 0.5, 0.0, seed=1), time_ordered=False) == 0
