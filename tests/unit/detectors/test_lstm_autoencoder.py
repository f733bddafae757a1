"""How the network learns, and when it stops."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from vigie.detectors.base import no_progress
from vigie.detectors.lstm_autoencoder.detector import (
    Autoencoder,
    CompiledDescent,
    Descent,
    LSTMAutoencoder,
    Windows,
    _starts,
)

WINDOW = 5
NETWORK = LSTMAutoencoder((6,), (6,), WINDOW, 128, 12, 0.02, random_state=1)


def noise(n: int, seed: int = 0) -> np.ndarray:
    """Rows of which there is little to learn, shape (n, 2)."""
    return np.random.default_rng(seed).normal(size=(n, 2))


def wave(n: int) -> np.ndarray:
    """Rows of which there is much to learn, shape (n, 2)."""
    return np.sin(np.arange(n)[:, None] / [3.0, 5.0])


def test_windows_are_gathered_from_their_rows_without_a_copy_of_them():
    rows = torch.arange(60.0).reshape(20, 3)
    windows = Windows(rows, WINDOW)
    assert windows.rows is rows
    torch.testing.assert_close(windows[torch.tensor([7, 0])], torch.stack([rows[7:12], rows[:5]]))


@pytest.mark.parametrize("lengths", [[3000], [900, 2100], [3, 2997], [20, 30]])
def test_no_window_reaches_from_one_segment_into_the_next(lengths):
    edges = np.cumsum(lengths)
    for starts in _starts(lengths, WINDOW):
        first = np.searchsorted(edges, starts.numpy(), side="right")
        last = np.searchsorted(edges, starts.numpy() + WINDOW - 1, side="right")
        np.testing.assert_array_equal(first, last)


def test_what_tells_when_to_stop_shares_no_row_with_what_is_learnt_from():
    learn, kept_back = _starts([1500, 2500], WINDOW)
    steps = torch.arange(WINDOW)
    seen, unseen = (
        set((starts[:, None] + steps).flatten().tolist()) for starts in (learn, kept_back)
    )
    assert not seen & unseen
    assert len(kept_back) == pytest.approx(400, abs=5)


def test_few_rows_are_all_learnt_from():
    learn, kept_back = _starts([400], WINDOW)
    assert (len(learn), len(kept_back)) == (396, 0)
    fitted = NETWORK.fit([noise(400)], no_progress)
    assert len(fitted.loss_by_epoch) == NETWORK.epochs


def test_a_training_ends_when_more_epochs_gain_nothing(caplog):
    told: list[str] = []
    long = replace(NETWORK, sequence_length=2, epochs=100, batch_size=16, learning_rate=0.2)
    with caplog.at_level(logging.INFO, logger="vigie.detectors.lstm_autoencoder"):
        fitted = long.fit([noise(1200)], lambda step, share, epoch=None: told.append(step))
    assert len(fitted.loss_by_epoch) <= len(told) < 100
    assert f"epoch {len(fitted.loss_by_epoch)} was best" in caplog.text


@pytest.mark.slow
def test_a_network_that_goes_on_learning_is_not_stopped():
    fitted = NETWORK.fit([wave(2000)], no_progress)
    assert len(fitted.loss_by_epoch) == NETWORK.epochs
    assert fitted.loss_by_epoch[-1] < 0.5 * fitted.loss_by_epoch[0]


@pytest.mark.parametrize(
    ("encoder", "decoder", "batch_size"), [((6,), (6,), 128), ((7, 5, 3), (4, 9), 33)]
)
def test_compiled_steps_teach_what_those_of_pytorch_teach(encoder, decoder, batch_size):
    rows = torch.from_numpy(np.hstack([wave(1500), noise(1500)])).float()
    windows, starts = Windows(rows, WINDOW), torch.randperm(1500 - WINDOW + 1)
    torch.manual_seed(1)
    network = Autoencoder(rows.shape[1], encoder, decoder)
    # PyTorch trains the network that it is given.
    descents = [of(copy.deepcopy(network), windows, 0.02, 50) for of in (Descent, CompiledDescent)]
    by_torch, compiled = ([one.learn(starts, batch_size) for _ in range(2)] for one in descents)
    assert compiled == pytest.approx(by_torch, rel=1e-3)
    assert descents[1].loss(starts) == pytest.approx(descents[0].loss(starts), rel=1e-3)
    restored = [one.average.restore(windows[starts]) for one in descents]
    torch.testing.assert_close(*restored, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("share", [0.8, 0.5])
def test_a_fit_to_a_part_learns_in_as_many_steps(share):
    part = replace(NETWORK, epochs=20, batch_size=64).for_part(share)
    steps = part.epochs * share * 10_000 / part.batch_size
    assert steps == pytest.approx(20 * 10_000 / 64, rel=0.03)
