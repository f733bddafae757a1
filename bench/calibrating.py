"""What the cross-conformal calibration adds to a training, counted in fits of the same model.

One fit to all rows, then a whole training without its trend: that fit, one to the rest of each
block, and the scores of all blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from figures import Figure, seconds, within
from lstm import machine_rows

from vigie.config import Settings
from vigie.detectors.base import Detector, no_progress
from vigie.detectors.catalogue import algorithms
from vigie.detectors.data.matrices import Table
from vigie.detectors.training import train
from vigie.services.detector_service import new_service

N_FEATURES = 20
MOST_ADDED = 2.0
LONG_S = 20.0
"""A fit that takes longer is measured once."""


def measure(quick: bool) -> Iterator[Figure]:
    """Yield a figure for each detector, for few rows and for many."""
    settings = Settings(mlflow_enabled=False)
    if quick:
        settings = settings.model_copy(update={"epochs": 5})
    for n_rows in (1000,) if quick else (1000, 100_000):
        for name in algorithms():
            detector = new_service(name, settings).new_detector()
            yield _added(detector, n_rows, settings, quick)


def _added(detector: Detector, n_rows: int, settings: Settings, quick: bool) -> Figure:
    rows = machine_rows(n_rows, N_FEATURES)
    table = Table(rows, tuple(f"sensor_{number}" for number in range(N_FEATURES)))
    fit = partial(detector.fit, [rows], no_progress)
    calibrated = partial(
        train,
        detector,
        table,
        threshold=1.0 - settings.contamination,
        folds=settings.calibration_folds,
        time_ordered=settings.time_ordered,
        random_state=settings.random_state,
    )
    once = seconds(fit)
    turns = 1 if once > LONG_S or (quick and once > 0.3) else 5
    pairs = [(seconds(calibrated), seconds(fit)) for _ in range(turns)]
    return within(
        f"{detector.algorithm}, calibration of {n_rows} x {N_FEATURES}",
        [whole / one - 1.0 for whole, one in pairs],
        unit="fits",
        goal=MOST_ADDED,
        note=f"one fit: {min(one for _, one in pairs):.3g} s",
    )
