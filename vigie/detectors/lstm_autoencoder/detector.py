"""LSTM autoencoder: the error with which a network of healthy sequences reconstructs a window.

References
----------
Malhotra et al. LSTM-based encoder-decoder for multi-sensor anomaly detection.
ICML anomaly detection workshop, 2016.
Jozefowicz, Zaremba, Sutskever. An empirical exploration of recurrent network architectures.
ICML, 2015.
Shamir, Zhang. Stochastic gradient descent for non-smooth optimization: convergence results and
optimal averaging schemes. ICML, 2013.
"""

from __future__ import annotations

import copy
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vigie.detectors.base import Epoch, Fitted, Floats, Progress, standardisation
from vigie.detectors.lstm_autoencoder import ALGORITHM
from vigie.detectors.lstm_autoencoder.fit import Learner
from vigie.errors import InvalidDataError

logger = logging.getLogger(__name__)

VALIDATION_SHARE = 0.1
"""Share of the windows held out for early stopping."""
MIN_VALIDATION, MAX_VALIDATION = 100, 512
"""Fewest validation windows, below which all are trained on, and most."""
MOST_STATES = 50_000_000
"""Hidden states in a step of the optimiser, which keeps several numbers of each: some gigabytes."""
MOST_LEARNT = 1600
"""Most windows of an epoch, drawn anew for each. Neighbouring windows share all rows but one, so
more of them cost time and gain little."""
PATIENCE = 1000
"""Steps, rounded up to whole epochs, in which the validation loss must fall ..."""
MIN_IMPROVEMENT = 0.01
"""... by this share, or the training ends."""
WARM_UP = 0.1, 100
"""Limits of the learning rate's warm-up: a share of the steps, and a number of steps."""
RECENT = 8.0
"""Exponent of the weighting in the average of the weights: the last 8 % of them make up half."""
EAGER_STEPS = 3
"""Steps on a GPU before the graph is captured, in which its libraries allocate and autotune."""

_global_state = threading.Lock()
_gpu = threading.Lock()
_training_now = 0
_threads_before = 0


def available_device() -> str:
    """Return the device that training uses, 'cpu' or 'cuda'."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class LSTMAutoencoder:
    """LSTM layers that encode a window as one state, and layers that decode it to the window.

    Parameters
    ----------
    encoder_layers, decoder_layers : tuple of int
        Hidden units of each layer, from input to output.
    sequence_length : int
        Rows in a window.
    batch_size : int
        Windows in a step of the optimiser (Adam).
    epochs : int
        Maximum passes over the windows; early stopping may end the training before.
    learning_rate : float
        Learning rate of the optimiser.
    random_state : int
        Seed.
    most_learnt : int, default 1600
        Most windows of an epoch.
    """

    encoder_layers: tuple[int, ...]
    decoder_layers: tuple[int, ...]
    sequence_length: int
    batch_size: int
    epochs: int
    learning_rate: float
    random_state: int
    most_learnt: int = MOST_LEARNT

    algorithm = ALGORITHM.name
    scores_comparable = True

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
        # Neighbouring averages are alike, so half as many windows in as many steps are enough.
        return replace(
            self, batch_size=-(-self.batch_size // 2), most_learnt=-(-self.most_learnt // 2)
        )

    def for_part(self, share: float) -> LSTMAutoencoder:
        # Errors are comparable only between networks trained for equally many steps. Smaller
        # batches are cheaper, more epochs less noisy: compensate half by each.
        root = math.sqrt(share)
        return replace(
            self,
            batch_size=max(round(self.batch_size * root), 1),
            epochs=round(self.epochs / root),
            most_learnt=round(self.most_learnt * share),
        )

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        rows = np.concatenate(segments)
        self._require_memory()
        network = self._new_network(rows.shape[1])
        network.learn_ranges(rows)
        device = available_device()
        scaled = ((torch.from_numpy(rows) - network.center) / network.scale).float()
        learn, validation = _starts([len(segment) for segment in segments], self.sequence_length)
        most_steps = self.epochs * self._steps_of_an_epoch(learn)
        with _one_thread(), _gpu if device == "cuda" else nullcontext():
            windows = Windows(scaled.to(device), self.sequence_length)
            descent_of = CudaGraphDescent if device == "cuda" else CompiledDescent
            descent = descent_of(network.to(device), windows, self.learning_rate, most_steps)
            losses, validation_losses = self._optimise(
                descent, learn.to(device), validation.to(device), progress
            )
        # Convert to double precision, so that the network and the kernel, which uses these
        # arrays, agree to the last digits.
        # Its weights are copied, since those of a compiled descent are transposed views, which an
        # export of the network would misread.
        network = network.cpu().double().eval().requires_grad_(False)
        network.load_state_dict(descent.average.state_dict())
        arrays = {name: value.numpy().T.copy() for name, value in network.state_dict().items()}
        return Fitted(
            network,
            arrays,
            loss_by_epoch=tuple(losses),
            validation_loss_by_epoch=tuple(validation_losses),
        )

    def set_threshold(self, estimator: Any, raw_threshold: float) -> None:
        if estimator is not None:
            estimator.threshold_ = raw_threshold

    def _require_memory(self) -> None:
        """Check that a step of the optimiser does not take all memory.

        Raises
        ------
        InvalidDataError
            If it would.
        """
        n_units = sum(self.encoder_layers) + sum(self.decoder_layers)
        n_windows = min(self.batch_size, self.most_learnt)
        if n_windows * self.sequence_length * n_units > MOST_STATES:
            raise InvalidDataError(
                f"{n_windows} sequences of {self.sequence_length} readings, in {n_units} hidden "
                "units each, would take too much memory.",
                field="batch_size",
                remedy="Give a smaller batch_size, shorter sequences, or smaller layers: the "
                f"product of the three may be {MOST_STATES} at most.",
            )

    def _steps_of_an_epoch(self, learn: Tensor) -> int:
        return -(-min(len(learn), self.most_learnt) // self.batch_size)

    def _new_network(self, n_features: int) -> Autoencoder:
        # Initialisation uses torch's global generator, so concurrent fits must not interleave.
        with _global_state, torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            return Autoencoder(n_features, self.encoder_layers, self.decoder_layers)

    def _optimise(
        self,
        descent: Descent | CompiledDescent,
        learn: Tensor,
        validation: Tensor,
        progress: Progress,
    ) -> tuple[list[float], list[float]]:
        """Train the average up to its best epoch.

        Returns
        -------
        losses, validation_losses : list of float
            Of each training epoch up to the best one, and of all epochs.
        """
        stopping = EarlyStopping(patience=-(-PATIENCE // self._steps_of_an_epoch(learn)))
        order = torch.Generator().manual_seed(self.random_state)
        losses: list[float] = []
        for epoch in range(1, self.epochs + 1):
            chosen = torch.randperm(len(learn), generator=order)[: self.most_learnt]
            losses.append(descent.learn(learn[chosen.to(learn.device)], self.batch_size))
            if not math.isfinite(losses[-1]):
                raise InvalidDataError(
                    f"The training diverged in epoch {epoch}.",
                    field="learning_rate",
                    remedy=f"Give a rate below {self.learning_rate:g}.",
                )
            done = Epoch(epoch, self.epochs, losses[-1])
            progress(f"epoch {epoch}/{self.epochs}", epoch / self.epochs, done)
            if len(validation) and stopping.should_stop(epoch, descent, validation):
                logger.info(
                    "Stopped early after epoch %d; epoch %d was best.", epoch, stopping.epoch
                )
                break
        if not len(validation):
            return losses, []
        descent.average.load_state_dict(stopping.weights)
        return losses[: stopping.epoch], stopping.losses


class Descent:
    """Adam with a constant learning rate and averaging of the weights.

    A constant rate needs no schedule with a known end, and the average is stable at any time while
    the weights themselves still oscillate. So early stopping is possible at any epoch.

    Parameters
    ----------
    network : Autoencoder
        Trained in place.
    windows : Windows
        Training and validation windows, on the same device.
    learning_rate : float
        Learning rate after the warm-up.
    most_steps : int
        Maximum number of steps.

    Attributes
    ----------
    average : Autoencoder
        The network with averaged weights.
    """

    def __init__(
        self, network: Autoencoder, windows: Windows, learning_rate: float, most_steps: int
    ):
        self.average = copy.deepcopy(network).requires_grad_(False)
        self._network, self._windows = network, windows
        self._weights: list[Tensor] = list(network.parameters())
        self._averaged: list[Tensor] = list(self.average.parameters())
        self._optimiser = torch.optim.Adam(self._weights, lr=learning_rate, fused=True)
        warm_up = _warm_up_steps(most_steps)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: min((step + 1) / warm_up, 1.0)
        )
        self._steps = 0

    def learn(self, starts: Tensor, batch_size: int) -> float:
        """Train for one epoch on the windows at ``starts``; return their mean loss."""
        total = torch.zeros((), device=starts.device)
        for batch in starts.split(batch_size):  # type: ignore[no-untyped-call]
            # Accumulate on the device: ``item`` would synchronise at every step.
            total += self._step(self._windows[batch]) * len(batch)
        return total.item() / len(starts)

    def loss(self, starts: Tensor) -> float:
        """Return the mean loss of the averaged network on the windows at ``starts``."""
        return float(self.average.loss(self._windows[starts]))

    def _step(self, sequences: Tensor) -> Tensor:
        loss = self._network.loss(sequences)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._weights, 1.0, foreach=True)
        self._optimiser.step()
        self._schedule.step()
        self._steps += 1
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged, self._weights, _newest_share(self._steps))
        return loss.detach()


class CudaGraphDescent(Descent):
    """``Descent`` on a GPU, with each step replayed as a CUDA graph.

    A step of so small a network is a hundred kernels of a few microseconds, and launching them
    one by one takes longer than the step on a CPU. A graph launches them at once.

    Parameters and attributes are those of ``Descent``.

    References
    ----------
    PyTorch documentation, CUDA semantics: CUDA Graphs.
    """

    def __init__(
        self, network: Autoencoder, windows: Windows, learning_rate: float, most_steps: int
    ):
        super().__init__(network, windows, learning_rate, most_steps)
        for layer in (*self.average.encoder, *self.average.decoder):
            layer.flatten_parameters()
        self._target_rate, self._warm_up_steps = learning_rate, _warm_up_steps(most_steps)
        # The graph reads the values that change from step to step from these tensors.
        device = windows.rows.device
        self._rate, self._share = torch.zeros((), device=device), torch.zeros((), device=device)
        self._optimiser = torch.optim.Adam(
            self._weights, lr=self._rate, fused=True, capturable=True
        )
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None

    def learn(self, starts: Tensor, batch_size: int) -> float:
        """Train for one epoch on the windows at ``starts``; return their mean loss."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            return super().learn(starts, batch_size)

    def _step(self, sequences: Tensor) -> Tensor:
        self._steps += 1
        self._rate.fill_(self._target_rate * min(self._steps / self._warm_up_steps, 1.0))
        self._share.fill_(_newest_share(self._steps))
        if self._steps <= EAGER_STEPS:
            return self._optimiser_step(sequences)
        if self._graph is None:
            self._sequences, self._graph = sequences.clone(), torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._loss = self._optimiser_step(self._sequences)
        if sequences.shape != self._sequences.shape:
            # The last batch of an epoch may be smaller.
            return self._optimiser_step(sequences)
        self._sequences.copy_(sequences)
        self._graph.replay()
        return self._loss

    def _optimiser_step(self, sequences: Tensor) -> Tensor:
        loss = self._network.loss(sequences)
        self._optimiser.zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._weights, 1.0, foreach=True)
        self._optimiser.step()
        with torch.no_grad():
            for average, weights in zip(self._averaged, self._weights, strict=True):
                average.lerp_(weights, self._share)
        return loss.detach()


class CompiledDescent:
    """``Descent`` in compiled code, in a third of the time on a CPU.

    Parameters and attributes are those of ``Descent``.
    """

    def __init__(
        self, network: Autoencoder, windows: Windows, learning_rate: float, most_steps: int
    ):
        layers = (*network.encoder, *network.decoder)
        self.average = copy.deepcopy(network).requires_grad_(False)
        # The weights of ``average`` are views of the learner's memory.
        self._learner = Learner(
            windows.rows.numpy(),
            windows.length,
            [(layer.input_size, layer.hidden_size) for layer in layers],
            len(network.encoder),
            np.concatenate([w.numpy().T.ravel() for w in self.average.parameters()]),
            learning_rate,
            _warm_up_steps(most_steps),
            RECENT,
        )
        start = 0
        for weights in self.average.parameters():
            part = self._learner.average[start : start + weights.numel()]
            weights.data = torch.from_numpy(part.reshape(weights.shape[::-1]).T)
            start += weights.numel()

    def learn(self, starts: Tensor, batch_size: int) -> float:
        """Train for one epoch on the windows at ``starts``; return their mean loss."""
        return self._learner.learn(starts.numpy(), batch_size)

    def loss(self, starts: Tensor) -> float:
        """Return the mean loss of the averaged network on the windows at ``starts``."""
        return self._learner.loss(np.ascontiguousarray(starts.numpy()))


def _warm_up_steps(most_steps: int) -> int:
    return max(1, min(round(WARM_UP[0] * most_steps), WARM_UP[1]))


def _newest_share(steps: int) -> float:
    """Return the share of the newest weights in the average after ``steps`` steps."""
    return min((1.0 + RECENT) / (steps + RECENT), 1.0)


@dataclass(frozen=True)
class Windows:
    """Windows of consecutive rows, gathered batch by batch.

    Parameters
    ----------
    rows : Tensor of shape (n_samples, n_features)
        Standardised rows.
    length : int
        Rows in a window.
    """

    rows: Tensor
    length: int

    def __getitem__(self, starts: Tensor) -> Tensor:
        """Return the windows that begin at these rows, (len(starts), length, n_features)."""
        steps = torch.arange(self.length, device=self.rows.device)
        return self.rows[starts[:, None] + steps]


class EarlyStopping:
    """Early stopping; keeps the weights of the epoch with the lowest validation loss.

    Parameters
    ----------
    patience : int
        Epochs in which the loss must fall by ``MIN_IMPROVEMENT``.
    """

    def __init__(self, patience: int):
        self.patience = patience
        self.epoch = 0
        self.weights: dict[str, Tensor] = {}
        self.losses: list[float] = []
        self._loss = self._reference_loss = math.inf
        self._reference_epoch = 0

    def should_stop(
        self, epoch: int, descent: Descent | CompiledDescent, validation: Tensor
    ) -> bool:
        """Evaluate the averaged network after an epoch; return whether to stop."""
        loss = descent.loss(validation)
        self.losses.append(loss)
        if loss < self._loss:
            self._loss, self.epoch = loss, epoch
            self.weights = copy.deepcopy(descent.average.state_dict())
        if loss < (1.0 - MIN_IMPROVEMENT) * self._reference_loss:
            self._reference_loss, self._reference_epoch = loss, epoch
        return epoch - self._reference_epoch >= self.patience


def _starts(lengths: Sequence[int], window: int) -> tuple[Tensor, Tensor]:
    """Return the first rows of the training windows and of the validation windows.

    The end of each segment is for validation, and no training window overlaps it.
    """
    every, learn, validation = [], [], []
    offset = 0
    for length in lengths:
        starts = torch.arange(offset, offset + max(length - window + 1, 0))
        n_learnt = len(starts) - round(VALIDATION_SHARE * len(starts))
        every.append(starts)
        learn.append(starts[: max(n_learnt - window + 1, 0)])
        validation.append(starts[n_learnt:])
        offset += length
    held_out = torch.cat(validation)
    if len(held_out) < MIN_VALIDATION:
        return torch.cat(every), held_out[:0]
    return torch.cat(learn), held_out[:: -(-len(held_out) // MAX_VALIDATION)]


class Autoencoder(nn.Module):
    """The network; maps windows in the sensors' own units to their reconstruction errors."""

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

    def loss(self, sequences: Tensor) -> Tensor:
        """Return the mean squared reconstruction error of standardised sequences."""
        return torch.mean((self.restore(sequences) - sequences) ** 2)

    def learn_ranges(self, rows: Floats) -> None:
        """Set centre, scale and bounding box from rows of shape (n_samples, n_features)."""
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
        """Reconstruct standardised sequences of shape (n_windows, window, n_features)."""
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
    return nn.ModuleList(_layer(into, out) for into, out in zip(inputs, sizes, strict=True))


def _layer(n_inputs: int, size: int) -> nn.LSTM:
    """Return an LSTM layer with a forget bias of 1, which needs a third of the training steps."""
    layer = nn.LSTM(n_inputs, size, batch_first=True)
    for name, values in layer.named_parameters():
        with torch.no_grad():
            for gate in values.chunk(4):
                if name.startswith("weight_ih"):
                    nn.init.xavier_uniform_(gate)
                elif name.startswith("weight_hh"):
                    nn.init.orthogonal_(gate)
                else:
                    nn.init.zeros_(gate)
    # The second of the four gates is the forget gate.
    nn.init.ones_(layer.get_parameter("bias_ih_l0").detach()[size : 2 * size])
    return layer


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread: concurrent fits use the other cores better."""
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
