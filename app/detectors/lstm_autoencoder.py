"""LSTM autoencoder: how badly a network that knows healthy sequences restores this one.

References
----------
Malhotra et al. LSTM-based encoder-decoder for multi-sensor anomaly detection.
ICML anomaly detection workshop, 2016.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.detectors.base import Fitted, Floats, Progress, standardisation
from app.errors import InvalidDataError

_global_state = threading.Lock()
_training_now = 0
_threads_before = 0


def available_device() -> str:
    """Return the device that a training would use, such as 'cpu' or 'cuda'."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class LSTMAutoencoder:
    """A stack of LSTM layers down to one state, and a stack back up to the sequence.

    Parameters
    ----------
    encoder_layers, decoder_layers : tuple of int
        Hidden units of each layer, in the order in which the data pass them.
    sequence_length : int
        Rows in a window.
    batch_size, epochs, learning_rate : int, int, float
        Of the optimiser (Adam).
    random_state : int
        Seed.
    """

    encoder_layers: tuple[int, ...]
    decoder_layers: tuple[int, ...]
    sequence_length: int
    batch_size: int
    epochs: int
    learning_rate: float
    random_state: int

    algorithm = "lstm_autoencoder"
    comparable = True

    @property
    def window(self) -> int:
        return self.sequence_length

    @property
    def params(self) -> dict[str, Any]:
        return {
            "encoder_layers": list(self.encoder_layers),
            "decoder_layers": list(self.decoder_layers),
            "sequence_length": self.sequence_length,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "random_state": self.random_state,
        }

    def for_averages(self, n_rows: int) -> LSTMAutoencoder:
        return self

    def for_part(self, share: float) -> LSTMAutoencoder:
        return replace(self, epochs=round(self.epochs / share))

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        device = available_device()
        rows = np.concatenate(segments)
        network = self._new_network(rows.shape[1])
        network.learn_ranges(rows)
        with _one_thread():
            losses = self._optimise(network.to(device), self._windows(segments, network), progress)
        # Double precision from here on: the weights stay as they were learnt, and the network
        # and the arrays taken from it agree to the last digits.
        network = network.cpu().double().eval().requires_grad_(False)
        arrays = {name: value.numpy().T.copy() for name, value in network.state_dict().items()}
        return Fitted(network, arrays, loss_by_epoch=tuple(losses))

    def set_threshold(self, estimator: Any, raw_threshold: float) -> None:
        estimator.threshold_ = raw_threshold

    def _new_network(self, n_features: int) -> Autoencoder:
        # First weights come from torch's global generator, so two fits side by side take turns.
        with _global_state, torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            return Autoencoder(n_features, self.encoder_layers, self.decoder_layers)

    def _windows(self, segments: Sequence[Floats], network: Autoencoder) -> Tensor:
        """Return all sequences as one view-backed tensor (n_windows, window, n_features)."""
        views = []
        for segment in segments:
            if len(segment) >= self.sequence_length:
                rows = torch.from_numpy(np.ascontiguousarray(segment))
                scaled = ((rows - network.center) / network.scale).float()
                views.append(scaled.unfold(0, self.sequence_length, 1).transpose(1, 2))
        return torch.cat(views)

    def _optimise(self, network: Autoencoder, windows: Tensor, progress: Progress) -> list[float]:
        device = network.head.weight.device
        optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        steps = self.epochs * -(-len(windows) // self.batch_size)
        # A rate that falls to nothing lets a short training end at rest instead of mid-swing.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=self.learning_rate, total_steps=steps
        )
        order = torch.Generator().manual_seed(self.random_state)
        losses = []
        for epoch in range(self.epochs):
            total = 0.0
            for batch in torch.randperm(len(windows), generator=order).split(self.batch_size):  # type: ignore[no-untyped-call]
                sequences = windows[batch].to(device)
                loss = torch.mean((network.restore(sequences) - sequences) ** 2)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                total += loss.item() * len(batch)
            losses.append(total / len(windows))
            if not math.isfinite(losses[-1]):
                raise InvalidDataError(
                    f"The training diverged in epoch {epoch + 1}.",
                    field="learning_rate",
                    remedy=f"Give a smaller one than {self.learning_rate:g}.",
                )
            progress(f"epoch {epoch + 1}/{self.epochs}", (epoch + 1) / self.epochs)
        return losses


class Autoencoder(nn.Module):
    """The network; called with windows in the sensors' own units, it returns their errors."""

    center: Tensor
    scale: Tensor
    lowest: Tensor
    highest: Tensor
    threshold_: float = float("nan")

    def __init__(
        self, n_features: int, encoder_layers: Sequence[int], decoder_layers: Sequence[int]
    ):
        super().__init__()
        self.encoder = _stack(n_features, encoder_layers)
        self.decoder = _stack(encoder_layers[-1], decoder_layers)
        self.head = nn.Linear(decoder_layers[-1], n_features)
        for name in ("center", "scale", "lowest", "highest"):
            self.register_buffer(name, torch.zeros(n_features, dtype=torch.float64))

    def learn_ranges(self, rows: Floats) -> None:
        """Take centre, scale and box from rows of shape (n_samples, n_features)."""
        center, scale = standardisation(rows)
        ranges = {
            "center": center,
            "scale": scale,
            "lowest": (rows.min(axis=0) - center) / scale,
            "highest": (rows.max(axis=0) - center) / scale,
        }
        for name, values in ranges.items():
            self.get_buffer(name).copy_(torch.from_numpy(values))

    def restore(self, sequences: Tensor) -> Tensor:
        """Restore standardised sequences of shape (n_windows, window, n_features)."""
        states = sequences
        for layer in self.encoder:
            states, _ = layer(states)
        states = states[:, -1:].expand(-1, sequences.shape[1], -1)
        for layer in self.decoder:
            states, _ = layer(states)
        restored: Tensor = self.head(states)
        return restored

    def forward(self, windows: Tensor) -> Tensor:
        """Return the error of each window, shape (n_windows,), as the kernel does."""
        scaled = (windows - self.center) / self.scale
        errors = ((self.restore(scaled) - scaled) ** 2).mean(dim=(1, 2))
        last = scaled[:, -1]
        beyond = torch.maximum(self.lowest - last, last - self.highest).amax(dim=1)
        return errors + beyond.clamp(min=0.0) ** 2 / windows.shape[1]


def _stack(n_inputs: int, sizes: Sequence[int]) -> nn.ModuleList:
    inputs = [n_inputs, *sizes[:-1]]
    return nn.ModuleList(
        nn.LSTM(into, out, batch_first=True) for into, out in zip(inputs, sizes, strict=True)
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep one small network to one core: fits side by side use the others better."""
    global _training_now, _threads_before
    with _global_state:
        if _training_now == 0:
            _threads_before = torch.get_num_threads()
        _training_now += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _global_state:
            _training_now -= 1
            if _training_now == 0:
                torch.set_num_threads(_threads_before)
