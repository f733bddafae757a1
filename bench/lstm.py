"""Training of the LSTM autoencoder, with the loop that every tutorial shows beside it.

That loop learns from copied windows through ``Dataset`` and ``DataLoader``, shuffled, in batches
of 32, by Adam at 1e-3. After its steps, the loss on windows that neither has seen is what ours
must reach. Looking at that loss is outside the clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from figures import Figure, Spread, seconds, within
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vigie.config import Settings
from vigie.detectors.base import Floats
from vigie.detectors.lstm_autoencoder.detector import (
    Autoencoder,
    CompiledDescent,
    LSTMAutoencoder,
    Windows,
)
from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService

UNSEEN = 2000
LOOK_EVERY = 25
TEXTBOOK = "textbook loop"


def measure(quick: bool) -> Iterator[Figure]:
    """Yield time to one loss for narrow and wide rows, memory of windows, and a whole training."""
    n_rows, most_steps, turns = (20_000, 300, 1) if quick else (100_000, 3125, 3)
    for n_features in (8,) if quick else (8, 20):
        yield _time_to_one_loss(n_rows, n_features, most_steps, turns)
    yield _memory(n_rows, 20)
    if not quick:
        service = LSTMAutoencoderService(settings=Settings(mlflow_enabled=False))
        train = partial(service.train, machine_rows(10_000, 20))
        taken = seconds(train)
        epochs = len(service.served.model.loss_by_epoch)
        note = f"calibration and trend included; {epochs} of {service.epochs} epochs kept"
        yield within("LSTM, training 10 000 x 20 in the service", [taken], unit="s", note=note)


def machine_rows(n_rows: int, n_features: int) -> Floats:
    """Return rows of a machine with two rhythms and two slow states, (n_rows, n_features)."""
    rng = np.random.default_rng(0)
    at = np.arange(n_rows)
    wandering = np.cumsum(0.15 + 0.02 * rng.normal(size=n_rows))
    states = np.empty((n_rows, 4))
    states[:, 0] = np.sin(wandering)
    states[:, 1] = np.sin(2 * np.pi * at / 37)
    slow = np.zeros(2)
    for row, push in enumerate(0.2 * rng.normal(size=(n_rows, 2))):
        slow = states[row, 2:] = 0.95 * slow + push
    noise = 0.3 * rng.normal(size=(n_rows, n_features))
    return states @ rng.normal(size=(4, n_features)) + noise


def _time_to_one_loss(n_rows: int, n_features: int, most_steps: int, turns: int) -> Figure:
    rows = torch.from_numpy(machine_rows(n_rows + UNSEEN, n_features)).float()
    rows = (rows - rows.mean(dim=0)) / rows.std(dim=0)
    detector = LSTMAutoencoderService(settings=Settings(mlflow_enabled=False)).new_detector()
    windows = Windows(rows, detector.window)
    starts = torch.arange(len(rows) - detector.window + 1)
    learn, unseen = starts[: n_rows - detector.window + 1], windows[starts[n_rows:]]
    ours, theirs, losses = [], [], []
    for turn in range(turns):
        peer = Textbook(_network(detector, n_features, turn), windows[learn])
        theirs.append(seconds(partial(peer.learn, most_steps)))
        losses.append(_loss(peer.network, unseen))
        ours.append(_until(losses[-1], detector, windows, learn, unseen, turn))
    return Figure(
        f"LSTM, time to the loss of the {TEXTBOOK}, {n_rows} x {n_features}",
        "s",
        Spread.of(ours),
        Spread.of(theirs),
        TEXTBOOK,
        Spread.of([their / our for our, their in zip(ours, theirs, strict=True)]),
        goal=3.0,
        note=f"loss {Spread.of(losses)} of unseen windows, which it has after {most_steps} steps; "
        f"one thread against {torch.get_num_threads()}",
    )


class Textbook:
    """The loop of the tutorials."""

    def __init__(self, network: Autoencoder, windows: Tensor):
        # As torch starts a layer, where ours starts it otherwise.
        for layer in (*network.encoder, *network.decoder):
            layer.reset_parameters()
        self.network = network
        self._loader = DataLoader(TensorDataset(windows), batch_size=32, shuffle=True)
        self._optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
        self._criterion = nn.MSELoss()

    def learn(self, most_steps: int) -> None:
        steps, total = 0, 0.0
        while True:
            for (sequences,) in self._loader:
                loss = self._criterion(self.network.restore(sequences), sequences)
                self._optimiser.zero_grad()
                loss.backward()
                self._optimiser.step()
                total += loss.item()
                steps += 1
                if steps == most_steps:
                    return


def _until(
    loss: float,
    detector: LSTMAutoencoder,
    windows: Windows,
    learn: Tensor,
    unseen: Tensor,
    seed: int,
) -> float:
    """Return the seconds in which our own steps reach a loss."""
    network = _network(detector, unseen.shape[2], seed)
    steps_an_epoch = -(-len(learn) // detector.batch_size)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        most_steps = detector.epochs * steps_an_epoch
        descent = CompiledDescent(network, windows, detector.learning_rate, most_steps)
        taken = 0.0
        for _ in range(detector.epochs):
            shuffled = learn[torch.randperm(len(learn))]
            for some in shuffled.split(LOOK_EVERY * detector.batch_size):
                taken += seconds(partial(descent.learn, some, detector.batch_size))
                if _loss(descent.average, unseen) <= loss:
                    return taken
    finally:
        torch.set_num_threads(threads)
    return float("inf")


def _network(detector: LSTMAutoencoder, n_features: int, seed: int) -> Autoencoder:
    torch.manual_seed(seed)
    return Autoencoder(n_features, detector.encoder_layers, detector.decoder_layers)


def _loss(network: Autoencoder, windows: Tensor) -> float:
    with torch.no_grad():
        return network.loss(windows).item()


def _memory(n_rows: int, n_features: int) -> Figure:
    windows = Windows(torch.zeros(n_rows, n_features), Settings().sequence_length)
    starts = torch.arange(n_rows - windows.length + 1)
    held = (windows.rows.nbytes + starts.nbytes) / 2**20
    copied = windows[starts].nbytes / 2**20
    return Figure(
        f"LSTM, memory of the windows of {n_rows} x {n_features}",
        "MiB",
        Spread.of([held]),
        Spread.of([copied]),
        "copied windows",
        Spread.of([copied / held]),
    )
