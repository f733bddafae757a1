"""Scoring, the kernels alone and through a service, against the libraries that fitted the models.

Peers are the very estimators inside where a kernel is measured, and the same library with the same
hyper-parameters, fitted to the same rows, where a service is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import Figure, compare
from pyod.models.iforest import IForest
from pyod.models.ocsvm import OCSVM

from vigie.config import Settings
from vigie.detectors.base import no_progress
from vigie.detectors.catalogue import warm_up
from vigie.detectors.isolation_forest.detector import IsolationForest
from vigie.detectors.lstm_autoencoder.detector import LSTMAutoencoder
from vigie.detectors.scoring import raw_scores
from vigie.services.detector_service import DetectorService
from vigie.services.isolation_forest_service import IsolationForestService
from vigie.services.one_class_svm_service import OneClassSVMService

N_FEATURES = 20
FORESTS = {"PyOD's default, 100 trees of 256": (100, 256), "Vigie's, 200 trees of 512": (200, 512)}
SHARES = {"nu 0.1": 0.1, "Vigie's nu 0.5": 0.5}
WINDOW = 10

Rows = np.ndarray
Scored = Callable[[int], Any]


def measure(quick: bool) -> Iterator[Figure]:
    """Yield a figure for each algorithm, number of rows, kernel and service."""
    warm_up()
    runs, few = (3, 1) if quick else (7, 5)
    rows = np.random.default_rng(0).normal(size=(10_000, N_FEATURES))
    learnt = rows[:3000] if quick else rows
    many = np.random.default_rng(1).normal(size=(30_000 if quick else 100_000, N_FEATURES))
    only = slice(1, None) if quick else slice(None)
    for name, (n_trees, n_samples) in [*FORESTS.items()][only]:
        yield from _forest(name, n_trees, n_samples, learnt, many, runs, few)
    for name, nu in [*SHARES.items()][only]:
        yield from _svm(name, nu, learnt, rows, runs, few)
    yield from _lstm(rows, runs)


def _forest(
    name: str, n_trees: int, n_samples: int, learnt: Rows, rows: Rows, runs: int, few: int
) -> Iterator[Figure]:
    fitted = IsolationForest(n_trees, n_samples, 0.01, 0).fit([learnt], no_progress)
    estimator: Any = fitted.estimator
    # What the forest itself is given: the kernel is measured with all that stands before it.
    ready = estimator[:-1].transform(rows)
    service = _trained(IsolationForestService, learnt, n_estimators=n_trees, max_samples=n_samples)
    peer = IForest(n_estimators=n_trees, max_samples=n_samples).fit(learnt)
    yield from _kernel_and_service(
        f"Isolation Forest ({name})",
        len(rows),
        lambda n: raw_scores("isolation_forest", fitted.arrays, {}, rows[:n]),
        lambda n: estimator[-1].decision_function(ready[:n]),
        lambda n: service.predict_scores(rows[:n]),
        lambda n: peer.decision_function(rows[:n]),
        goals={"kernel": (500, 4), "service": (150, 4)}, repeat=(300, 5), runs=runs, few=few,
    )  # fmt: skip


def _svm(name: str, nu: float, learnt: Rows, rows: Rows, runs: int, few: int) -> Iterator[Figure]:
    gamma = 1.0 / N_FEATURES
    service = _trained(OneClassSVMService, learnt, nu=nu, gamma=gamma)
    model = service.served.model  # type: ignore[union-attr]
    estimator: Any = model.estimator
    ready = estimator[:-1].transform(rows)
    peer = OCSVM(nu=nu, gamma=gamma).fit(learnt)
    yield from _kernel_and_service(
        f"One-Class SVM ({name}, {len(model.arrays['dual_coef'])} support vectors)",
        len(rows),
        lambda n: model.raw_scores(rows[:n]),
        lambda n: estimator[-1].decision_function(ready[:n]),
        lambda n: service.predict_scores(rows[:n]),
        lambda n: peer.decision_function(rows[:n]),
        goals={"kernel": (20, 15), "service": (10, 15)}, repeat=(300, 30), runs=runs, few=few,
    )  # fmt: skip


def _kernel_and_service(
    what: str,
    n_rows: int,
    kernel: Scored,
    inside: Scored,
    service: Scored,
    whole: Scored,
    *,
    goals: dict[str, tuple[float, float]],
    repeat: tuple[int, int],
    runs: int,
    few: int,
) -> Iterator[Figure]:
    """Yield one row and many: the kernel against PyOD's estimator, the service against all of it.

    Parameters
    ----------
    what : str
        The algorithm.
    n_rows : int
        How many are many.
    kernel, inside, service, whole : callable
        Score the first ``n`` rows: two of ours, each followed by its peer.
    goals : dict of str to (float, float)
        Of one row and of many, by what is compared.
    repeat : tuple of int
        Calls of ours and of the peer in one turn, for one row.
    runs, few : int
        Turns for one row and for many.
    """
    for n, goal in ((1, 0), (n_rows, 1)):
        rows = "one row" if n == 1 else f"{n:,} rows".replace(",", " ")
        for part, ours, peer in (("kernel", kernel, inside), ("service", service, whole)):
            yield compare(
                f"{what}, {rows}, {part}",
                lambda ours=ours, n=n: ours(n),
                lambda peer=peer, n=n: peer(n),
                peer_name="PyOD",
                goal=goals[part][goal],
                runs=runs if n == 1 else few,
                repeat=repeat if n == 1 else (1, 1),
                unit="us" if n == 1 else "ms",
            )


def _lstm(rows: np.ndarray, runs: int) -> Iterator[Figure]:
    settings = Settings(_env_file=None)
    layers = settings.encoder_layers, settings.decoder_layers
    detector = LSTMAutoencoder(*layers, WINDOW, 128, 1, 0.01, 0)
    fitted = detector.fit([rows[:500]], no_progress)
    views = np.lib.stride_tricks.sliding_window_view(rows, WINDOW, axis=0)
    windows = np.moveaxis(views, -1, 1)
    network = detector._new_network(N_FEATURES)
    network.load_state_dict(fitted.estimator.state_dict())
    network = network.float().eval()
    single = torch.from_numpy(windows.astype(np.float32))

    def forward(n: int) -> torch.Tensor:
        with torch.inference_mode():
            return network(single[:n])

    one, many = forward(1).numpy(), forward(len(windows)).numpy()
    ours = raw_scores("lstm_autoencoder", fitted.arrays, detector.params, windows)
    apart = float(np.abs(ours / np.r_[one, many[1:]] - 1.0).max())
    for n, times in ((1, (200, 20)), (len(windows), (1, 1))):
        yield compare(
            f"LSTM autoencoder, {'one window' if n == 1 else f'{n} windows'}, kernel",
            lambda n=n: raw_scores("lstm_autoencoder", fitted.arrays, detector.params, windows[:n]),
            lambda n=n: forward(n),
            peer_name="PyTorch in single precision", goal=5 if n == 1 else None, runs=runs,
            repeat=times, unit="us" if n == 1 else "ms", note=f"at most {apart:.0e} apart",
        )  # fmt: skip


def _trained(service: type[DetectorService], rows: np.ndarray, **given: Any) -> DetectorService:
    # Calibration in two random parts: what is measured is scoring.
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            _env_file=None, mlflow_enabled=False, state_dir=Path(folder),
            calibration_folds=2, time_ordered=False,
        )  # fmt: skip
        trained = service(settings=settings, **given)
        trained.train(rows)
    return trained
