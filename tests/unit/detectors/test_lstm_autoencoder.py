"""How the network learns, and when it stops."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from vigie.detectors.base import no_progress
from vigie.detectors.lstm_autoencoder.detector import LSTMAutoencoder, Windows, _starts
from vigie.detectors.scoring import raw_scores

WINDOW = 5
NETWORK = LSTMAutoencoder((6,), (6,), WINDOW, 128, 12, 0.02, random_state=1)


def noise(n: int, seed: int = 0) -> np.ndarray:
    """Rows of which there is little to learn, shape (n, 2)."""
    return np.random.default_rng(seed).normal(size=(n, 2))


def wave(n: int) -> np.ndarray:
    """Rows of which there is much to learn, shape (n, 2)."""
    return np.sin(np.arange(n)[:, None] / [3.0, 5.0])


def windows_of(rows: np.ndarray) -> np.ndarray:
    """All windows of consecutive rows, shape (n - WINDOW + 1, WINDOW, n_features)."""
    return np.lib.stride_tricks.sliding_window_view(rows, WINDOW, axis=0).transpose(0, 2, 1)


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


@pytest.mark.parametrize(
    ("arrays_only", "patience"),
    # PyTorch takes some milliseconds a step, so it is to lose its patience sooner.
    [
        pytest.param(True, 1000, id="compiled"),
        pytest.param(False, 200, id="by PyTorch", marks=pytest.mark.slow),
    ],
)
def test_a_training_ends_when_more_epochs_gain_nothing(arrays_only, patience, caplog, monkeypatch):
    monkeypatch.setattr("vigie.detectors.lstm_autoencoder.detector.PATIENCE", patience)
    told: list[str] = []
    long = replace(
        NETWORK,
        sequence_length=2,
        epochs=100,
        batch_size=16,
        learning_rate=0.2,
        arrays_only=arrays_only,
    )
    with caplog.at_level(logging.INFO, logger="vigie.detectors.lstm_autoencoder"):
        fitted = long.fit([noise(1200)], lambda step, share: told.append(step))
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
def test_a_network_that_nobody_opens_learns_what_pytorch_teaches(encoder, decoder, batch_size):
    rows = np.hstack([wave(1500), noise(1500)])
    taught = replace(
        NETWORK, encoder_layers=encoder, decoder_layers=decoder, batch_size=batch_size, epochs=2
    )
    by_torch = taught.fit([rows[:700], rows[700:]], no_progress)
    compiled = replace(taught, arrays_only=True).fit([rows[:700], rows[700:]], no_progress)
    assert compiled.estimator is None
    assert compiled.loss_by_epoch == pytest.approx(by_torch.loss_by_epoch, rel=1e-3)
    assert compiled.arrays.keys() == by_torch.arrays.keys()
    scores = [
        raw_scores("lstm_autoencoder", fitted.arrays, taught.params, windows_of(rows))
        for fitted in (by_torch, compiled)
    ]
    np.testing.assert_allclose(*scores, rtol=1e-2)


@pytest.mark.parametrize("share", [0.8, 0.5])
def test_a_fit_to_a_part_learns_in_as_many_steps(share):
    part = replace(NETWORK, epochs=20, batch_size=64).for_part(share)
    steps = part.epochs * share * 10_000 / part.batch_size
    assert steps == pytest.approx(20 * 10_000 / 64, rel=0.03)
