"""How long forests and supports take to fit, and what a support of some rows loses in quality."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from figures import Figure, Spread, compare, seconds, within
from pyod.models.iforest import IForest
from sklearn.metrics import roc_auc_score

from vigie.config import Settings
from vigie.detectors.base import Floats, no_progress
from vigie.detectors.isolation_forest.detector import IsolationForest
from vigie.detectors.one_class_svm.detector import OneClassSVM
from vigie.detectors.scoring import raw_scores
from vigie.services.one_class_svm_service import OneClassSVMService

ROWS, COLUMNS = 100_000, 20
FORESTS = ((100, 256), (200, 512))
"""Trees and rows of each: PyOD's defaults, and ours."""
MOST_ROWS = Settings.model_fields["svm_rows"].default
MOST_EXACT = 20_000
"""Rows of a public set that the exact solver is given; more would take it minutes."""


def measure(quick: bool) -> Iterator[Figure]:
    """Fit both models of single rows to 100 000 rows."""
    X = np.random.default_rng(0).normal(size=(ROWS, COLUMNS))
    for runs, (trees, rows) in zip((1,) if quick else (7, 5), FORESTS, strict=not quick):
        yield compare(
            f"Isolation Forest, fit {ROWS} x {COLUMNS}, {trees} trees of {rows} rows",
            lambda: IsolationForest(trees, rows, 0.1, 42).fit([X], no_progress),  # noqa: B023
            lambda: IForest(trees, rows, random_state=42).fit(X),  # noqa: B023
            peer_name="PyOD",
            goal=4.0,
            runs=runs,
        )
    yield _svm_against_exact(X, quick)
    yield from _auroc_lost(Settings().data, quick)
    if quick:
        return
    service = OneClassSVMService(settings=Settings.model_construct(mlflow_enabled=False))
    yield within(
        f"One-Class SVM, train {ROWS} x {COLUMNS} through the service",
        [seconds(lambda: service.train(X)) for _ in range(3)],
        unit="s",
        note="calibration and the model of averages included, tracking off",
    )


def _svm(rows: int | str, seed: int = 0) -> OneClassSVM:
    return OneClassSVM(0.5, "rbf", "local", 0.1, rows=rows, random_state=seed)


def _svm_against_exact(X: Floats, quick: bool) -> Figure:
    sizes = (1250, 2500, 5000) if quick else (2500, 5000, 10_000, 20_000)
    exact = [seconds(lambda: _svm("all").fit([X[:size]], no_progress)) for size in sizes]  # noqa: B023
    exponent, constant = np.polyfit(np.log(sizes), np.log(exact), 1)
    extrapolated = float(np.exp(constant + exponent * np.log(ROWS)))
    ours = [
        seconds(lambda: _svm(MOST_ROWS).fit([X], no_progress)) for _ in range(3 if quick else 7)
    ]
    return Figure(
        f"One-Class SVM, fit {ROWS} x {COLUMNS}",
        "s",
        Spread.of(ours),
        Spread.of([extrapolated]),
        "exact, extrapolated",
        Spread.of([extrapolated / own for own in ours]),
        goal=50.0,
        note=f"exact: {exact[-1]:.2g} s at {sizes[-1]} rows, growing by n^{exponent:.2f} "
        f"from {sizes[0]}; ours: {MOST_ROWS} rows spread over all",
    )


def _auroc_lost(data: Path | None, quick: bool) -> Iterator[Figure]:
    """Rank the rows of public sets by a support of some rows and by one of all rows."""
    sets = {}
    for path in sorted(data.glob("adbench/*.npz")) if data else ():
        with np.load(path, allow_pickle=True) as archive:
            sets[path.stem] = archive["X"].astype(float, order="C"), archive["y"] != 0
    if not sets:
        print("ADBench is skipped: there is no adbench in the folder that VIGIE_DATA names.")
        return
    names = sorted(sets, key=lambda name: len(sets[name][0]))
    if quick:
        names = [name for name in names if len(sets[name][0]) > MOST_ROWS][:2]
    by_seed = []
    for seed in range(1 if quick else 3):
        by_seed.append({name: _lost(*sets[name], seed) for name in names})
    losses = np.array([list(lost.values()) for lost in by_seed])
    worst = names[losses.mean(axis=0).argmax()]
    yield within(
        f"One-Class SVM, AUROC lost against the exact solution, mean of {len(names)} sets",
        losses.mean(axis=1).tolist(),
        unit="AUROC",
        goal=0.01,
        note=f"most on {worst}: {losses.mean(axis=0).max():.3f}; "
        f"{sum(len(sets[name][0]) > MOST_ROWS for name in names)} sets have more than "
        f"{MOST_ROWS} rows, the exact solver had at most {MOST_EXACT}",
    )


def _lost(X: Floats, faulty: Floats, seed: int) -> float:
    if len(X) <= MOST_ROWS:
        return 0.0
    found = []
    for rows in (MOST_EXACT, MOST_ROWS):
        svm = _svm(rows, seed)
        scores = raw_scores(svm.algorithm, svm.fit([X], no_progress).arrays, svm.params, X)
        found.append(roc_auc_score(faulty, scores))
    return float(found[0] - found[1])
