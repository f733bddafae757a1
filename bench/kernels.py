"""Scoring, the kernels alone and through a service, against the libraries that fitted the models.

Peers are the very estimators inside where a kernel is measured, and the same library with the same
hyper-parameters, fitted to the same rows, where a service is.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import Figure, compare, within
from pyod.models.iforest import IForest
from pyod.models.ocsvm import OCSVM

from app.config import Settings
from app.detectors.base import untold
from app.detectors.isolation_forest import IsolationForest
from app.detectors.kernels import raw_scores, warm_up
from app.detectors.lstm_autoencoder import LSTMAutoencoder
from app.services.detector_service import DetectorService
from app.services.isolation_forest_service import IsolationForestService
from app.services.one_class_svm_service import OneClassSVMService

N_FEATURES = 20
FORESTS = {"PyOD's default, 100 trees of 256": (100, 256), "Vigie's, 200 trees of 512": (200, 512)}
SHARES = {"nu 0.1": 0.1, "Vigie's nu 0.5": 0.5}
WINDOW = 10
FIRST_SCORE = """
import time
started = time.perf_counter()
import sys
from pathlib import Path
from app.detectors.trained import TrainedModel
model = TrainedModel.load(Path(sys.argv[1]))
model.predict_scores([[0.0] * model.n_features])
print(time.perf_counter() - started)
"""


def measure(quick: bool) -> Iterator[Figure]:
    """Yield a figure for each algorithm, number of rows, kernel and service."""
    warm_up()
    runs, few = (3, 2) if quick else (7, 5)
    rows = np.random.default_rng(0).normal(size=(10_000, N_FEATURES))
    learnt = rows[:3000] if quick else rows
    yield from _forests(learnt, runs, few)
    yield from _svms(learnt, rows, runs, few)
    yield from _lstm(rows, runs)
    yield _first_score(rows[:2000], 2 if quick else 5)


def _forests(rows: np.ndarray, runs: int, few: int) -> Iterator[Figure]:
    many = np.random.default_rng(1).normal(size=(100_000, N_FEATURES))
    for name, (n_trees, n_samples) in FORESTS.items():
        fitted = IsolationForest(n_trees, n_samples, 0.01, 0).fit([rows], untold)
        estimator: Any = fitted.estimator
        # What the forest itself is given: the kernel is measured with all that stands before it.
        ready = estimator[:-1].transform(many)
        inside, arrays = estimator[-1], fitted.arrays
        service = _trained(
            IsolationForestService, rows, n_estimators=n_trees, max_samples=n_samples
        )
        peer = IForest(n_estimators=n_trees, max_samples=n_samples).fit(rows)
        what = f"Isolation Forest ({name})"
        yield compare(
            f"{what}, one row, kernel",
            lambda arrays=arrays: raw_scores("isolation_forest", arrays, {}, many[:1]),
            lambda inside=inside, ready=ready: inside.decision_function(ready[:1]),
            peer_name="PyOD", goal=500, runs=runs, repeat=(500, 5), unit="us",
        )  # fmt: skip
        yield compare(
            f"{what}, one row, service",
            lambda service=service: service.predict_scores(many[:1]),
            lambda peer=peer: peer.decision_function(many[:1]),
            peer_name="PyOD", goal=150, runs=runs, repeat=(300, 5), unit="us",
        )  # fmt: skip
        yield compare(
            f"{what}, 100 000 rows, kernel",
            lambda arrays=arrays: raw_scores("isolation_forest", arrays, {}, many),
            lambda inside=inside, ready=ready: inside.decision_function(ready),
            peer_name="PyOD", goal=4, runs=few,
        )  # fmt: skip
        yield compare(
            f"{what}, 100 000 rows, service",
            lambda service=service: service.predict_scores(many),
            lambda peer=peer: peer.decision_function(many),
            peer_name="PyOD", goal=4, runs=few,
        )  # fmt: skip


def _svms(learnt: np.ndarray, rows: np.ndarray, runs: int, few: int) -> Iterator[Figure]:
    for name, nu in SHARES.items():
        gamma = 1.0 / N_FEATURES
        service = _trained(OneClassSVMService, learnt, nu=nu, gamma=gamma)
        model = service.served.model  # type: ignore[union-attr]
        inside: Any = model.estimator
        scaled = inside[:-1].transform(rows)
        peer = OCSVM(nu=nu, gamma=gamma).fit(learnt)
        what = f"One-Class SVM ({name}, {len(model.arrays['dual_coef'])} support vectors)"
        yield compare(
            f"{what}, one row, kernel",
            lambda model=model: model.raw_scores(rows[:1]),
            lambda inside=inside, scaled=scaled: inside[-1].decision_function(scaled[:1]),
            peer_name="PyOD", goal=20, runs=runs, repeat=(300, 30), unit="us",
        )  # fmt: skip
        yield compare(
            f"{what}, one row, service",
            lambda service=service: service.predict_scores(rows[:1]),
            lambda peer=peer: peer.decision_function(rows[:1]),
            peer_name="PyOD", goal=10, runs=runs, repeat=(300, 30), unit="us",
        )  # fmt: skip
        yield compare(
            f"{what}, 10 000 rows, kernel",
            lambda model=model: model.raw_scores(rows),
            lambda inside=inside, scaled=scaled: inside[-1].decision_function(scaled),
            peer_name="PyOD", goal=15, runs=few,
        )  # fmt: skip
        yield compare(
            f"{what}, 10 000 rows, service",
            lambda service=service: service.predict_scores(rows),
            lambda peer=peer: peer.decision_function(rows),
            peer_name="PyOD", goal=15, runs=few,
        )  # fmt: skip


def _lstm(rows: np.ndarray, runs: int) -> Iterator[Figure]:
    settings = Settings(_env_file=None)
    layers = settings.encoder_layers, settings.decoder_layers
    detector = LSTMAutoencoder(*layers, WINDOW, 128, 1, 0.01, 0)
    fitted = detector.fit([rows[:500]], untold)
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


def _first_score(rows: np.ndarray, runs: int) -> Figure:
    model = _trained(IsolationForestService, rows).served.model  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        times = [
            float(subprocess.check_output([sys.executable, "-c", FIRST_SCORE, folder]))
            for _ in range(runs)
        ]
    return within("First score of a new process, from a cached model", times, unit="s", goal=1)


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
