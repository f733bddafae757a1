"""The LSTM autoencoder where PyTorch sees a GPU: `pytest tests/unit/detectors/test_gpu.py`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from vigie.detectors import lstm_autoencoder
from vigie.detectors.base import no_progress
from vigie.detectors.lstm_autoencoder.detector import LSTMAutoencoder
from vigie.detectors.scoring import raw_scores

if not torch.cuda.is_available():
    pytest.skip("skipped: PyTorch sees no GPU here", allow_module_level=True)

DETECTOR = LSTMAutoencoder((16, 8), (8, 16), 10, 64, 8, 1e-3, 0)


def _rows(n: int) -> np.ndarray:
    wave = np.sin(np.arange(n)[:, None] * [0.2, 0.31, 0.07])
    return wave + 0.1 * np.random.default_rng(0).normal(size=wave.shape)


ROWS, UNSEEN = np.split(_rows(8000), [6000])
WINDOWS = np.moveaxis(np.lib.stride_tricks.sliding_window_view(UNSEEN, 10, axis=0), -1, 1)


def _scores(fitted) -> np.ndarray:
    return raw_scores(DETECTOR.algorithm, fitted.arrays, DETECTOR.params, WINDOWS)


def test_a_network_learns_as_much_as_without_a_gpu(monkeypatch):
    there = DETECTOR.fit([ROWS], no_progress)
    monkeypatch.setattr(lstm_autoencoder, "available_device", lambda: "cpu")
    here = DETECTOR.fit([ROWS], no_progress)
    np.testing.assert_allclose(there.loss_by_epoch, here.loss_by_epoch, rtol=0.05)
    assert np.corrcoef(_scores(there), _scores(here))[0, 1] > 0.95


def test_a_network_from_a_gpu_agrees_with_its_serving_form():
    fitted = DETECTOR.fit([ROWS], no_progress)
    with torch.inference_mode():
        expected = fitted.estimator(torch.from_numpy(WINDOWS.copy())).numpy()
    np.testing.assert_allclose(_scores(fitted), expected, rtol=1e-9)


def test_fits_side_by_side_learn_what_each_learns_alone():
    detectors = [replace(DETECTOR, random_state=seed) for seed in range(4)]
    alone = [_scores(one.fit([ROWS], no_progress)) for one in detectors]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: _scores(one.fit([ROWS], no_progress)), detectors))
    np.testing.assert_allclose(together, alone, rtol=0.05)
