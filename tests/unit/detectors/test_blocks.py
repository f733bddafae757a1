"""Held-out blocks: where a mode of operation makes them blind, and where they are right."""

from __future__ import annotations

import numpy as np
import pytest

from vigie.detectors import training
from vigie.detectors.calibration.blocks import are_blind, blocks, pieces
from vigie.detectors.data.matrices import Table
from vigie.detectors.isolation_forest.detector import IsolationForest

N = 2000


def recording(kind: str, seed: int) -> np.ndarray:
    """Rows of five sensors of a machine that is run in some way, shape (2000, 5)."""
    rng = np.random.default_rng(seed)
    rows, t = rng.standard_normal((N, 5)), np.arange(N)[:, None]
    levels = 6.0 * rng.standard_normal((3, 5))
    match kind:
        case "modes that alternate":
            return rows + levels[rng.integers(0, 3, N // 50).repeat(50)]
        case "a mode in a block of its own":
            return rows + levels[np.repeat([0, 1, 0, 0, 2], 400)]
        case "a wild stretch":
            rows[900:1100] += 12.0
        case "drift":
            return rows + 2.0 * t / N
        case "season":
            return rows + 3.0 * np.sin(2.0 * np.pi * t / 300.0)
        case "half a season":
            return rows + 3.0 * np.sin(np.pi * t / N)
        case "outliers":
            rows[rng.integers(0, N, 20)] *= 20.0
        case "constant":
            return np.ones((N, 5))
    return rows


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["a mode in a block of its own", "a wild stretch"])
def test_a_stretch_that_no_other_block_knows_is_seen(kind, seed):
    assert are_blind(recording(kind, seed), 5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "kind",
    ["steady", "modes that alternate", "drift", "season", "half a season", "outliers", "constant"],
)
def test_other_recordings_are_calibrated_on_blocks(kind, seed):
    assert not are_blind(recording(kind, seed), 5)


@pytest.mark.parametrize("parts", [blocks(103, 5), pieces(403, 5)])
def test_each_row_is_held_out_once(parts):
    held_out = np.concatenate([np.arange(*stretch) for part in parts for stretch in part])
    assert sorted(held_out.tolist()) == list(range(len(held_out)))
    assert len(held_out) in (103, 403)


def test_a_training_says_what_it_was_calibrated_on_and_still_finds_a_fault(caplog):
    rows = recording("a mode in a block of its own", 0)
    model = training.train(
        IsolationForest(50, "auto", 0.01, 0),
        Table(rows, tuple("abcde")),
        threshold=0.99,
        folds=5,
        time_ordered=True,
        random_state=0,
    )
    assert model.params["calibrated_on"] == "pieces"
    assert "fills a block of the calibration" in caplog.text
    faulty = recording("a mode in a block of its own", 0)[:400]
    faulty[:, 2] += 15.0
    assert model.predict(faulty).mean() > 0.9
