"""How well Vigie detects, on public data and with its peers beside it.

Fills docs/benchmarks/detection.md.

python bench/quality.py [--quick] [--only skab|adbench|cmapss|edge|faults|tep]
                        [--results FILE] [--again]

Vigie runs with its default settings, whatever the environment says: that only tells where the
data are (``VIGIE_DATA``) and where figures are kept. What the same code has measured before is
not measured again. The words of the document are written by hand; its tables stand between
comments with a name, and those that there are figures for are replaced.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from charts import CHARTS, held_out_limit
from faulty_machines import (
    ALL_FAULTS,
    DRIFTS,
    MEMORY,
    ROWS_BEFORE,
    TRAIN_ROWS,
    Machine,
    drifting,
    faults_of,
)
from figures import filled, machine
from numpy.typing import NDArray
from pyod.models.iforest import IForest
from pyod.models.ocsvm import OCSVM
from rich.console import Console
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import vigie
from vigie.assessment.assessment import Assessment
from vigie.assessment.engine import alone, since
from vigie.assessment.status import STATES
from vigie.backtest import Confusion, backtest
from vigie.config import Settings
from vigie.detectors.base import Floats
from vigie.detectors.catalogue import checked_names
from vigie.errors import VigieError
from vigie.models.anomaly_data import AssetState
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.isolation_forest_service import IsolationForestService
from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService
from vigie.services.one_class_svm_service import OneClassSVMService
from vigie.services.vector_autoregression_service import VectorAutoregressionService
from vigie.tables.reading import read_table

DOCUMENT = Path(__file__).resolve().parents[1] / "docs/benchmarks/detection.md"
TRAINING_SETTINGS = {
    *("contamination", "calibration_folds", "trend_window", "n_estimators", "max_samples", "nu"),
    *("kernel", "gamma", "encoder_layers", "decoder_layers", "sequence_length", "batch_size"),
    *("epochs", "learning_rate", "max_gap_s"),
}

SKAB_TRAIN_ROWS = 400
RATES = (0.01, 0.05)
BOARD = (
    ("Conv-AE", 0.78, 13.6, 28.0),
    ("MSET", 0.78, 39.7, 14.1),
    ("T²+Q (PCA)", 0.76, 26.6, 24.9),
    ("LSTM-AE", 0.74, 30.0, 25.9),
    ("T²", 0.66, None, None),
    ("LSTM-VAE", 0.56, None, None),
    ("vanilla AE", 0.39, None, None),
    ("Isolation Forest", 0.29, 2.6, 82.9),
)
"""F1, FAR and MAR in per cent, as published with SKAB; None where they are not at hand."""
BEST_F1 = 0.78
GOALS = {"isolation_forest": 0.78, "one_class_svm": 0.80, "lstm_autoencoder": 0.78}

SEEDS = (0, 1, 2)
MOST_FOR_SVM = 10_000
"""Rows that a One-Class SVM is fitted on, ours or PyOD's, for its cost is quadratic."""
SPLITS = ("unsupervised", "one-class")

WIDTHS, LENGTHS = (2, 8, 30), (100, 1000, 10_000)
LSTM_LENGTH = 1000
DISTANCES = (5.0, 10.0, 50.0, 1000.0)
N_DIRECTIONS = 200
WAYS = ("along a sensor", "any direction")

CMAPSS_COLUMNS = [
    *("unit", "cycle", "setting_1", "setting_2", "setting_3"),
    *(f"sensor_{number}" for number in range(1, 22)),
]
HEALTHY_SHARE = 0.3
MOST_FALSE = 0.01
LASTING = (0.5, 0.9)
"""Share of the remaining cycles that an alarm must be followed by, to count."""
SMOOTHED = 20

FAULT_SEEDS = (20, 21, 22)
WITHOUT_LSTM, WITH_LSTM = "without the LSTM autoencoder", "all four models"
"""Models that are trained; the LSTM autoencoder takes most of the time."""
STUCK = "stuck"
ALARM, BAD_DATA = STATES.index(AssetState.ALARM), STATES.index(AssetState.BAD_DATA)
DRIFT = STATES.index(AssetState.DRIFT)
TEP_FAULTS = range(1, 8)
TEP_BEFORE = 160
HARDLY_SEEN = 3
"""The fault that is known as hardly detectable."""

FOREST, SVM = IsolationForestService.name, OneClassSVMService.name
LSTM = LSTMAutoencoderService.name
VAR = VectorAutoregressionService.name
MODELS = {
    FOREST: "Isolation Forest",
    SVM: "One-Class SVM",
    VAR: "vector autoregression",
    LSTM: "LSTM autoencoder",
}
VERDICTS = {
    "asset": "**Vigie, asset**",
    **{key: f"Vigie, {name} alone" for key, name in MODELS.items()},
    "reading": "Vigie, single readings",
    "pyod_iforest": "PyOD `IForest()`",
    "pyod_ocsvm": "PyOD `OCSVM()`",
}
FLEET = VERDICTS | {
    "pyod_iforest_smoothed": f"PyOD `IForest()`, mean of {SMOOTHED} scores",
    "pyod_ocsvm_smoothed": f"PyOD `OCSVM()`, standardised, mean of {SMOOTHED} scores",
    "default": "**Vigie, state `alarm` as it comes**",
    "moved": "Vigie, `alarm`, `drift` or `unknown_operating_point` as it comes",
}

Cell = dict[str, Any]
console = Console(stderr=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, and fill the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="one part instead of all")
    parser.add_argument("--quick", action="store_true", help="a small sample, shown, not written")
    parser.add_argument("--results", type=Path, help="where figures are kept, as JSON")
    parser.add_argument("--again", action="store_true", help="measure what is known already, too")
    given = parser.parse_args(arguments)
    # What training says of small tables is meant for those who train on them in earnest.
    logging.getLogger("vigie").setLevel(logging.ERROR)
    here = Settings()
    name = "quality-quick.json" if given.quick else "quality.json"
    results = Results(given.results or here.state_dir / name, again=given.again)
    for part in [given.only] if given.only else PARTS:
        PARTS[part][0](here.data, results, given.quick)
    blocks = {
        name: block
        for part, (_, tell) in PARTS.items()
        if results.cells(part)
        for name, block in tell(results).items()
    }
    if given.quick:
        out = Console(highlight=False, soft_wrap=True)
        for name, block in blocks.items():
            out.print(f"{name}\n\n{block}\n", markup=False)
        return
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, block in blocks.items():
        text = filled(text, name, block)
    DOCUMENT.write_text(text, encoding="utf-8")
    console.print(f"{DOCUMENT.name} is written.")


class Results:
    """Figures by part and cell, in a file that is written after each of them.

    Parameters
    ----------
    path : Path
        JSON file; made if it does not exist.
    again : bool
        Measure what the file holds already, too.
    """

    def __init__(self, path: Path, *, again: bool):
        self.path = path
        self._again = again
        self._known: dict[str, dict[str, Any]] = {}
        if path.is_file():
            self._known = json.loads(path.read_text(encoding="utf-8"))

    def cell(self, part: str, key: str, measure: Callable[[], Cell]) -> None:
        """Measure one cell, unless this code has measured it before."""
        cells = self._known.setdefault(part, {})
        if not self._again and key in cells and cells[key]["code"] == _code():
            return
        console.print(f"{part} {key}")
        cells[key] = {"code": _code(), "machine": machine(), "found": measure()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self._known, indent=1), encoding="utf-8")

    def cells(self, part: str, below: str = "") -> dict[str, Cell]:
        """Return what was found, by the rest of each key."""
        return {
            key.removeprefix(below): cell["found"]
            for key, cell in self._known.get(part, {}).items()
            if key.startswith(below)
        }

    def measured(self, part: str) -> str:
        """Return where a part was measured, and with which peers, as a last line of its block."""
        cells = self._known[part].values()
        if any(cell["code"] != _code() for cell in cells):
            console.print(f"{part}: some figures come from other code. Measure this part again.")
        machines = "; ".join(dict.fromkeys(cell["machine"] for cell in cells))
        return f"\n\nMeasured on {machines}."


def plain(**changes: Any) -> Settings:
    """Return the default settings, whatever the environment says, without tracking."""
    return Settings.model_construct(mlflow_enabled=False, **changes)


# SKAB: a pump bench


def measure_skab(data: Path | None, results: Results, quick: bool) -> None:
    """Judge the recordings of the pump bench: one fault in each, and none at all."""
    recordings = sorted(_files(data, "skab/valve1/*.csv"), key=lambda path: int(path.stem))
    healthy = _files(data, "skab/anomaly-free/anomaly-free.csv")
    if not recordings or not healthy:
        _skip("SKAB", "skab")
        return
    for path in recordings[:2] if quick else recordings:
        results.cell("skab", f"valve1/{path.stem}", partial(_valve, path))
    for rate in RATES[:1] if quick else RATES:
        results.cell("skab", f"healthy/{rate}", partial(_healthy, healthy[0], rate, quick))


def tell_skab(results: Results) -> dict[str, str]:
    """Return the tables on the pump bench."""
    recordings, rates = results.cells("skab", "valve1/"), results.cells("skab", "healthy/")
    measured = results.measured("skab")
    told = {}
    if recordings:
        told["skab valve1"] = _tell_valve(list(recordings.values())) + measured
    if rates:
        told["skab anomaly-free"] = _tell_healthy(rates) + measured
    return told


def _valve(path: Path) -> Cell:
    table = read_table(path)
    sensors = table.frame.drop(columns=["datetime", "anomaly", "changepoint"])
    labels = table.frame["anomaly"].to_numpy()
    return _verdicts(sensors, labels, SKAB_TRAIN_ROWS, plain(), table.times)


def _healthy(path: Path, rate: float, quick: bool) -> Cell:
    table = read_table(path, rows=slice(1000 if quick else None))
    sensors, labels = table.frame.drop(columns=["datetime"]), np.zeros(len(table.frame))
    settings = plain(contamination=rate)
    return _verdicts(sensors, labels, len(labels) // 2, settings, table.times, rate)


def _verdicts(
    sensors: pd.DataFrame,
    labels: NDArray[Any],
    train_rows: int,
    settings: Settings,
    times: NDArray[np.datetime64] | None,
    rate_of_peers: float = 0.1,
) -> Cell:
    """Return the figures of every verdict, all counted in the same way."""
    found = backtest(sensors, labels, train_rows, settings, times)
    said = {"asset": found.alarm, **found.models, "reading": found.reading}
    rows = sensors.to_numpy(dtype=float)
    peers = {
        "pyod_iforest": IForest(contamination=rate_of_peers, random_state=settings.random_state),
        "pyod_ocsvm": OCSVM(contamination=rate_of_peers),
    }
    for name, peer in peers.items():
        said[name] = peer.fit(rows[:train_rows]).predict(rows[train_rows:]) == 1
    figures = {
        name: replace(found, states=np.where(flags, ALARM, 0)).figures()
        for name, flags in said.items()
    }
    return {name: figures[name]["asset"] for name in said} | {"judged_s": found.judged_s}


def _tell_valve(files: Sequence[Cell]) -> str:
    shown, pooled = [], {}
    for key, name in VERDICTS.items():
        figures = [file[key] for file in files]
        counts = sum((Confusion(**one["confusion"]) for one in figures), Confusion(0, 0, 0, 0))
        pooled[key] = (counts.f1 or 0.0, 100 * (counts.far or 0.0), 100 * (counts.mar or 0.0))
        delays = [delay for one in figures for delay in one["delay_s"] if delay is not None]
        f1, far, mar = pooled[key]
        shown.append(
            [
                *(f"{f1 - BEST_F1:+.2f}", name, f"{f1:.3f}", f"{far:.1f}", f"{mar:.1f}"),
                f"{sum(one['events_found'] for one in figures)} of {len(figures)}",
                f"{np.median(delays):.0f} s" if delays else "–",
                str(sum(delay == 0 for delay in delays)),
                str(sum(one["false_alarms"] for one in figures)),
            ]
        )
    for name, *figures in BOARD:
        f1, far, mar = (None if value is None else float(value) for value in figures)
        rates = ["–" if rate is None else f"{rate:.1f}" for rate in (far, mar)]
        shown.append([f"{f1 - BEST_F1:+.2f}", f"board: {name}", f"{f1:.2f}", *rates, *["–"] * 4])
    f1, far, _ = pooled["asset"]
    goals = [_goal("asset: F1 ≥ 0.84 with FAR ≤ 25 %", f1 >= 0.84 and far <= 25, f"{f1:.3f}")]
    for key, least in GOALS.items():
        f1 = pooled[key][0]
        goals.append(_goal(f"{MODELS[key]} alone: F1 ≥ {least:.2f}", f1 >= least, f"{f1:.3f}"))
    header = ["F1 less the board's best", "verdict", "F1", "FAR %", "MAR %", "faults found"]
    header += ["median delay", "alarm stood already", "false alarms"]
    return _block(_table(header, shown), goals)


def _tell_healthy(rates: Mapping[str, Cell]) -> str:
    shown, goals = [], []
    for rate, found in rates.items():
        asked, hours = float(rate), found["judged_s"] / 3600
        for key, name in VERDICTS.items():
            far, alarms = found[key]["far"], found[key]["alarms"]
            shown.append(
                [
                    *(f"{far / asked:.2f}", f"{asked:.0%}", name, f"{100 * far:.2f} %"),
                    *(str(alarms), f"{alarms / hours:.1f}"),
                ]
            )
        ratio = found["asset"]["far"] / asked
        text = f"asset, {asked:.0%} asked for: at most 1.5 times as much"
        goals.append(_goal(text, ratio <= 1.5, f"{ratio:.2f} times"))
    header = ["found / asked", "asked for", "verdict", "rows in alarm", "alarms", "alarms an hour"]
    return _block(_table(header, shown), goals)


# ADBench: classical tables without order


def measure_adbench(data: Path | None, results: Results, quick: bool) -> None:
    """Rank the rows of classical sets by both models of single rows, ours and PyOD's."""
    archives = sorted(_files(data, "adbench/*.npz"), key=lambda path: path.stat().st_size)
    if not archives:
        _skip("ADBench", "adbench")
        return
    for seed in SEEDS[:1] if quick else SEEDS:
        for path in archives[:3] if quick else archives:
            results.cell("adbench", f"{path.stem}/{seed}", partial(_adbench, path, seed))


def tell_adbench(results: Results) -> dict[str, str]:
    """Return the tables on the classical sets."""
    cells = results.cells("adbench")
    by_set: dict[str, list[Cell]] = {}
    for key, cell in cells.items():
        by_set.setdefault(key.partition("/")[0], []).append(cell)
    outside = {key: np.mean([cell["outside"] for cell in by_set[key]]) for key in by_set}
    order = sorted(by_set, key=lambda key: -outside[key])
    contests = [(name, split) for name in (FOREST, SVM) for split in SPLITS]

    def auroc(key: str, name: str, split: str) -> Floats:
        found = [cell[split][name] for cell in by_set[key]]
        return np.array([[one["ours"], one["pyod"]] for one in found]).mean(axis=0)

    groups = {
        "all": order,
        "most anomalies outside": [key for key in order if outside[key] >= 0.5],
        "most anomalies inside": [key for key in order if outside[key] < 0.5],
    }
    means, goals = [], []
    for name, split in contests:
        for group, members in groups.items():
            if not members:
                continue
            ours, pyod = np.array([auroc(key, name, split) for key in members]).T
            difference = ours.mean() - pyod.mean()
            means.append(
                [
                    *(f"{difference:+.4f}", MODELS[name], split, f"{group} ({len(members)})"),
                    *(f"{ours.mean():.4f}", f"{pyod.mean():.4f}"),
                    f"{(ours >= pyod).sum()} of {len(members)}",
                ]
            )
            if group == "all":
                text = f"{MODELS[name]}, {split}: not below PyOD on average"
                goals.append(_goal(text, difference >= 0, f"{difference:+.4f}"))
    scores = [cell[split][name] for cell in cells.values() for name, split in contests]
    largest = max(abs(one["ours"] - one["raw"]) for one in scores)
    text = "AUROC by score equals AUROC by raw score to 0.001, on every set and seed"
    goals.append(_goal(text, largest <= 0.001, f"largest difference {largest:.1g}"))
    rows = []
    for key in order:
        both = [auroc(key, name, split) for name, split in contests]
        rows.append(
            [
                key.partition("_")[2],
                f"{by_set[key][0]['rows']} × {by_set[key][0]['columns']}",
                f"{100 * outside[key]:.0f} %",
                *(f"{ours - pyod:+.3f} ({ours:.3f})" for ours, pyod in both),
            ]
        )
    header = ["difference", "model", "setting", "sets", "Vigie", "PyOD", "not below PyOD"]
    names = [f"{MODELS[name]}, {split}" for name, split in contests]
    sets = _table(["set", "rows × columns", "anomalies outside", *names], rows)
    return {
        "adbench": _block(_table(header, means), goals) + results.measured("adbench"),
        "adbench sets": sets,
    }


def _adbench(path: Path, seed: int) -> Cell:
    with np.load(path) as archive:
        X, faulty = archive["X"].astype(float), archive["y"] != 0
    random = np.random.default_rng(seed)
    everything, normal = np.arange(len(X)), random.permutation(np.flatnonzero(~faulty))
    half = normal[: len(normal) // 2]
    rest = np.setdiff1d(everything, half)
    settings = plain(random_state=seed, time_ordered=False)
    found: Cell = {"rows": len(X), "columns": X.shape[1], "outside": _outside(X, half, faulty)}
    for split, train, test in zip(SPLITS, (everything, half), (everything, rest), strict=True):
        few = random.permutation(train)[:MOST_FOR_SVM] if len(train) > MOST_FOR_SVM else train
        contests = {
            FOREST: (IsolationForestService(settings=settings), IForest(random_state=seed), train),
            SVM: (OneClassSVMService(settings=settings), OCSVM(), few),
        }
        found[split] = {}
        for name, (service, peer, rows) in contests.items():
            service.train(X[rows])
            scores = {
                "ours": service.predict_scores(X[test]),
                "raw": service.served.model.raw_scores(X[test]),
                "pyod": peer.fit(X[rows]).decision_function(X[test]),
            }
            found[split][name] = {
                who: float(roc_auc_score(faulty[test], given)) for who, given in scores.items()
            }
    return found


def _outside(X: Floats, train: NDArray[np.intp], faulty: NDArray[np.bool_]) -> float:
    """Return the share of the faulty rows outside the ranges of the training rows."""
    low, high = X[train].min(axis=0), X[train].max(axis=0)
    return float(((low > X) | (high < X)).any(axis=1)[faulty].mean())


# The edge: readings beyond everything in training


def measure_edge(data: Path | None, results: Results, quick: bool) -> None:
    """Look outward from the training rows, for whether readings far outside stand out."""
    for n_sensors in WIDTHS[:1] if quick else WIDTHS:
        for n_rows in LENGTHS[:2] if quick else LENGTHS:
            results.cell("edge", f"{n_sensors}/{n_rows}", partial(_edge, n_sensors, n_rows))


def tell_edge(results: Results) -> dict[str, str]:
    """Return the table on readings beyond all training rows."""
    cells = results.cells("edge")
    rows = []
    for key in sorted(cells, key=lambda key: [int(part) for part in key.split("/")]):
        shares = [cells[key][who][way] for who in (FOREST, "pyod_iforest") for way in WAYS]
        shown = [" / ".join(f"{100 * share:.0f}" for share in by.values()) for by in shares]
        rows.append([*key.split("/"), *shown])
    goals = []
    for name in (FOREST, SVM, LSTM):
        shares = {
            f"{key.replace('/', ' sensors, ')} rows, {way}, {distance} deviations": share
            for key, cell in cells.items()
            for way, by in cell.get(name, {}).items()
            for distance, share in by.items()
        }
        worst = min(shares, key=shares.__getitem__, default="")
        fell = f"{100 * shares[worst]:.0f} % with {worst}" if worst else "not asked"
        reached = bool(shares) and shares[worst] == 1.0
        text = f"{MODELS[name]}: every such reading scores higher than every training row"
        goals.append(_goal(text, reached, "100 % everywhere" if reached else fell))
    who = [f"{who}, {way}" for who in ("Vigie", "PyOD") for way in WAYS]
    table = _table(["sensors", "training rows", *who], rows)
    return {"edge": _block(table, goals) + results.measured("edge")}


def _edge(n_sensors: int, n_rows: int) -> Cell:
    random = np.random.default_rng(0)
    X = random.standard_normal((n_rows, n_sensors))
    along = np.concatenate([np.eye(n_sensors), -np.eye(n_sensors)])
    any_way = random.standard_normal((N_DIRECTIONS, n_sensors))
    any_way /= np.linalg.norm(any_way, axis=1, keepdims=True)
    settings = plain(random_state=0, time_ordered=False)
    scorers = {"pyod_iforest": IForest(random_state=0).fit(X).decision_function}
    services = [IsolationForestService(settings=settings), OneClassSVMService(settings=settings)]
    if n_rows == LSTM_LENGTH:
        services.append(LSTMAutoencoderService(settings=settings))
    for service in services:
        service.train(X)
        scorers[service.name] = service.predict_scores
    found: Cell = {}
    for name, score in scorers.items():
        # A window ends with the reading; what comes before it is as in training.
        past = X[-settings.sequence_length + 1 :] if name == LSTM else X[:0]
        highest = score(X).max()
        found[name] = {way: {} for way in WAYS}
        for way, directions in zip(WAYS, (along, any_way), strict=True):
            for distance in DISTANCES:
                far = _far(X, directions, distance)
                scores = np.array([score(np.vstack([past, row]))[-1] for row in far])
                found[name][way][f"{distance:g}"] = float((scores > highest).mean())
    return found


def _far(X: Floats, directions: Floats, distance: float) -> Floats:
    """Return readings as many training deviations beyond where each way leaves the box of X."""
    center, spread = X.mean(axis=0), X.std(axis=0)
    low, high = (X.min(axis=0) - center) / spread, (X.max(axis=0) - center) / spread
    with np.errstate(divide="ignore"):
        walls = np.where(directions > 0, high, low) / directions
    leaves = np.where(directions == 0, np.inf, walls).min(axis=1)
    return center + spread * directions * (leaves + distance)[:, None]


# C-MAPSS: engines that run to failure


def measure_cmapss(data: Path | None, results: Results, quick: bool) -> None:
    """Follow engines of a fleet until they fail, by what the other half was like when young."""
    paths = _files(data, "cmapss/train_FD001.txt")
    if not paths:
        _skip("C-MAPSS", "cmapss/train_FD001.txt")
        return
    table = pd.read_csv(paths[0], sep=r"\s+", header=None, names=CMAPSS_COLUMNS)
    table = table[table["unit"] <= 10] if quick else table
    for fold in (0, 1):
        results.cell("cmapss", f"fold {fold}", partial(_fleet, table, fold))


def tell_cmapss(results: Results) -> dict[str, str]:
    """Return the table on the engines."""
    folds = list(results.cells("cmapss").values())
    early = sum(fold["early"] for fold in folds)

    def leads(method: str, lasting: float) -> Floats:
        found = [fold["methods"][method]["leads"][f"{lasting:g}"] for fold in folds]
        return np.concatenate(found)

    rows = []
    for method, name in FLEET.items():
        half, nearly_all = (leads(method, lasting) for lasting in LASTING)
        gains = [
            np.median(leads(method, lasting)) - np.median(leads("pyod_iforest", lasting))
            for lasting in LASTING
        ]
        false = sum(fold["methods"][method]["false"] for fold in folds) / early
        rows.append(
            [
                *(f"{gains[0]:+.0f}", f"{gains[1]:+.0f}", name, f"{np.median(half):.0f}"),
                *(f"{np.percentile(half, 10):.0f}", f"{(half > 0).mean():.0%}"),
                *(f"{np.median(nearly_all):.0f}", f"{(nearly_all > 0).mean():.0%}"),
                f"{100 * false:.2f} %",
            ]
        )
    header = ["cycles more than `IForest()`, half", "nine tenths", "method"]
    header += ["median lead, half", "lead of 9 in 10 engines", "caught"]
    header += ["median lead, nine tenths", "caught", "rows in alarm while young"]
    return {"cmapss": _block(_table(header, rows), []) + results.measured("cmapss")}


def _fleet(table: pd.DataFrame, fold: int) -> Cell:
    columns = [name for name in CMAPSS_COLUMNS[2:] if table[name].nunique() > 1]
    engines = {int(unit): life[columns] for unit, life in table.groupby("unit")}
    young = [life[: _early(life)] for unit, life in engines.items() if unit % 2 != fold]
    lives = [life.reset_index(drop=True) for unit, life in engines.items() if unit % 2 == fold]
    early = [_early(life) for life in lives]
    unusual = _judged_by_vigie(pd.concat(young, ignore_index=True), lives)
    alarms = {name: [state > 0 for state in unusual.pop(name)] for name in ("default", "moved")}
    unusual |= _judged_by_pyod(pd.concat(young).to_numpy(), [life.to_numpy() for life in lives])
    for method, values in unusual.items():
        limit = _limit(np.concatenate([v[:n] for v, n in zip(values, early, strict=True)]))
        alarms[method] = [v > limit for v in values]
    methods = {
        method: {
            "false": int(sum(a[:n].sum() for a, n in zip(said, early, strict=True))),
            "leads": {
                f"{lasting:g}": [_lead(a, n, lasting) for a, n in zip(said, early, strict=True)]
                for lasting in LASTING
            },
        }
        for method, said in alarms.items()
    }
    return {"methods": methods, "early": sum(early), "columns": len(columns)}


def _judged_by_vigie(young: pd.DataFrame, lives: Sequence[pd.DataFrame]) -> dict[str, list[Floats]]:
    """Return how unusual each cycle of each life was, by verdict, and the state of the asset."""
    service = AnomalyDetectionService(plain())
    for name, outcome in service.train_all_models(young).items():
        if outcome["status"] != "trained":
            raise VigieError(f"{name} was not trained: {outcome['error']}")
    keys = ("asset", *MODELS, "reading", "default", "moved")
    found: dict[str, list[Floats]] = {key: [] for key in keys}
    for life in lives:
        judged = service.detect_table(life)
        p_values = {"asset": judged.asset_p_values, "reading": judged.p_values}
        p_values |= {name: alone(judged, name).asset_p_values for name in MODELS}
        for key, p_value in p_values.items():
            # Where nothing can be said yet, there is no alarm.
            found[key].append(np.nan_to_num(-np.log10(p_value), nan=-np.inf))
        found["default"].append(judged.in_alarm.astype(float))
        found["moved"].append((judged.statuses.states >= DRIFT).astype(float))
    return found


def _judged_by_pyod(young: Floats, lives: Sequence[Floats]) -> dict[str, list[Floats]]:
    """Return the scores of PyOD's defaults, and of what is soon done about them by hand."""
    scaler = StandardScaler().fit(young)
    found: dict[str, list[Floats]] = {}
    for name, new in (("pyod_iforest", partial(IForest, random_state=42)), ("pyod_ocsvm", OCSVM)):
        as_it_is, scaled = new().fit(young), new().fit(scaler.transform(young))
        found[name] = [as_it_is.decision_function(life) for life in lives]
        found[f"{name}_smoothed"] = [
            pd.Series(scaled.decision_function(scaler.transform(life)))
            .rolling(SMOOTHED, min_periods=1)
            .mean()
            .to_numpy()
            for life in lives
        ]
    return found


def _early(life: pd.DataFrame) -> int:
    return int(np.floor(HEALTHY_SHARE * len(life)))


def _limit(values: Floats) -> float:
    """Return the lowest limit that at most ``MOST_FALSE`` of the values exceed."""
    return float(np.sort(values)[::-1][int(MOST_FALSE * len(values))])


def _lead(alarm: NDArray[np.bool_], early: int, lasting: float) -> int:
    """Return the cycles from the first alarm that lasts to the end of life; 0 without one."""
    last = len(alarm) - 1
    for cycle in early + np.flatnonzero(alarm[early:last]):
        if alarm[cycle + 1 :].mean() >= lasting:
            return int(last - cycle)
    return 0


# Machines of our own, with known faults


def measure_faults(_: Path | None, results: Results, quick: bool) -> None:
    """Put faults of known size on machines that are run in known ways, and let some drift."""
    for models in (WITHOUT_LSTM,) if quick else (WITHOUT_LSTM, WITH_LSTM):
        for seed in FAULT_SEEDS[:1] if quick else FAULT_SEEDS:
            for pattern in list(MEMORY)[::6] if quick else MEMORY:
                measure = partial(_faulty, pattern, seed, models)
                results.cell("faults", f"{models}/faults/{pattern}/{seed}", measure)
    for seed in FAULT_SEEDS[:1] if quick else FAULT_SEEDS:
        for kind in DRIFTS[:1] if quick else DRIFTS:
            measure = partial(_drifting, kind, seed, WITHOUT_LSTM)
            results.cell("faults", f"{WITHOUT_LSTM}/drift/{kind}/{seed}", measure)


def tell_faults(results: Results) -> dict[str, str]:
    """Return the tables on the machines with known faults, and on those that drift."""
    by_models = {
        models: results.cells("faults", f"{models}/faults/") for models in (WITH_LSTM, WITHOUT_LSTM)
    }
    models = max(by_models, key=lambda models: len(by_models[models]))
    drifts = results.cells("faults", f"{WITHOUT_LSTM}/drift/")
    measured, told = results.measured("faults"), {}
    if cells := by_models[models]:
        caption = _models_and_seeds(models, cells) + measured
        told["faults"] = _tell_as_it_comes(cells) + caption
        told["faults kinds"] = _tell_kinds(cells)
        told["faults peers"] = _tell_peers(cells) + caption
    if all(by_models.values()):
        caption = _models_and_seeds(WITH_LSTM, by_models[WITH_LSTM])
        told["faults lstm"] = _tell_lstm(*by_models.values()) + caption
    if drifts:
        told["faults drift"] = _tell_drifts(drifts) + _models_and_seeds(WITHOUT_LSTM, drifts)
    return told


def _faulty(pattern: str, seed: int, models: str) -> Cell:
    made = Machine(pattern, seed)
    healthy = made.healthy()
    judge = _trained(healthy[:TRAIN_ROWS], models)
    charts = {name: fit(healthy[:TRAIN_ROWS]) for name, fit in CHARTS.items()}
    whole = since(judge(healthy), TRAIN_ROWS)
    limits = {"asset": _surprise(whole).max()}
    limits |= {name: score(healthy)[TRAIN_ROWS:].max() for name, score in charts.items()}
    found: Cell = {"healthy": _healthy_figures(whole), "faults": {}}
    for fault in faults_of(pattern):
        rows = made.faulty(fault)
        judged = judge(rows)
        alarms = {"as it comes": judged.in_alarm, "asset": _surprise(judged) > limits["asset"]}
        alarms |= {name: score(rows) > limits[name] for name, score in charts.items()}
        found["faults"][fault] = {
            "delays": {name: _delay(alarm) for name, alarm in alarms.items()},
            "stood": bool(judged.in_alarm[ROWS_BEFORE - 1]),
            "drift": bool((judged.statuses.states[ROWS_BEFORE:] == DRIFT).any()),
            "bad_data": bool((judged.statuses.states[ROWS_BEFORE:] == BAD_DATA).any()),
            "frozen": bool(judged.frozen[ROWS_BEFORE:].any()),
        }
    return found


def _drifting(kind: str, seed: int, models: str) -> Cell:
    rows = drifting(kind, seed)
    return _healthy_figures(since(_trained(rows[:TRAIN_ROWS], models)(rows), TRAIN_ROWS))


def _trained(rows: Floats, models: str) -> Callable[[Floats], Assessment]:
    """Train on healthy rows, and return what assesses a recording."""
    names = [name for name in checked_names(None) if models == WITH_LSTM or name != LSTM]
    columns = [f"sensor_{number}" for number in range(1, rows.shape[1] + 1)]
    service = AnomalyDetectionService(plain())
    outcomes = service.train_all_models(pd.DataFrame(rows, columns=columns), model_names=names)
    for name, outcome in outcomes.items():
        if outcome["status"] != "trained":
            raise VigieError(f"{name} was not trained: {outcome['error']}")
    return lambda those: service.detect_table(pd.DataFrame(those, columns=columns))


def _surprise(judged: Assessment) -> Floats:
    """Return minus log10 of the p-values of the asset; where there is none, minus infinity."""
    return np.nan_to_num(-np.log10(judged.asset_p_values), nan=-np.inf, posinf=np.inf)


def _healthy_figures(judged: Assessment) -> Cell:
    """Return the share of rows in each state, and the alarms."""
    states = judged.statuses.states
    began = np.diff(judged.in_alarm.astype(int), prepend=0) == 1
    shares = {str(state): float((states == code).mean()) for code, state in enumerate(STATES)}
    return {"states": shares, "alarms": int(began.sum()), "rows": len(states)}


def _delay(alarm: NDArray[np.bool_]) -> int | None:
    """Return the rows from the fault to the first alarm that begins after it, None without one."""
    began = alarm[ROWS_BEFORE:] & ~alarm[ROWS_BEFORE - 1 : -1]
    return int(np.argmax(began)) if began.any() else None


def _models_and_seeds(models: str, keys: Iterable[str]) -> str:
    seeds = ", ".join(sorted({key.rpartition("/")[2] for key in keys}))
    return f"\n\nVigie with its defaults, {models}; seeds {seeds}."


def _by_name(cells: Mapping[str, Cell]) -> dict[str, list[Cell]]:
    """Return the cells of all seeds, by pattern or kind of drift."""
    by_name: dict[str, list[Cell]] = {}
    for key, cell in cells.items():
        by_name.setdefault(key.rpartition("/")[0], []).append(cell)
    return by_name


def _delays(cells: Sequence[Cell], method: str, faults: Sequence[str] | None = None) -> Floats:
    """Return the delay of each fault, infinite if it was missed; all but stuck ones by default."""
    asked = faults or [fault for fault in ALL_FAULTS if fault != STUCK]
    delays = [
        cell["faults"][fault]["delays"][method]
        for cell in cells
        for fault in asked
        if fault in cell["faults"]
    ]
    return np.array([np.inf if delay is None else delay for delay in delays])


def _found(delays: Floats) -> float:
    return 100.0 * float(np.isfinite(delays).mean())


def _median(delays: Floats) -> str:
    median = float(np.median(delays))
    return f"{median:.0f}" if np.isfinite(median) else "–"


def _in_alarm(cells: Sequence[Cell]) -> tuple[Floats, float]:
    """Return the per cent of healthy rows in alarm of each machine, and alarms per 1000 rows."""
    shares = [100.0 * cell["states"][AssetState.ALARM] for cell in cells]
    alarms, rows = (sum(cell[name] for cell in cells) for name in ("alarms", "rows"))
    return np.array(shares), 1000.0 * alarms / rows


def _tell_as_it_comes(cells: Mapping[str, Cell]) -> str:
    shown, everywhere = [], list(cells.values())
    for name, group in [*_by_name(cells).items(), ("all", everywhere)]:
        delays = _delays(group, "as it comes")
        shares, alarms = _in_alarm([cell["healthy"] for cell in group])
        stuck = [cell["faults"][STUCK] for cell in group]
        said = [sum(np.isfinite(_delays(group, "as it comes", [STUCK])))]
        said += [sum(one[what] for one in stuck) for what in ("bad_data", "frozen")]
        stood = sum(one["stood"] for cell in group for one in cell["faults"].values())
        missed = [
            one["drift"]
            for cell in group
            for fault, one in cell["faults"].items()
            if fault != STUCK and one["delays"]["as it comes"] is None
        ]
        shown.append(
            [
                *(name, f"{_found(delays):.1f} %", _median(delays)),
                *(f"{missed.count(True)} of {len(missed)}", str(stood)),
                f"{' / '.join(map(str, said))} of {len(stuck)}",
                *(f"{shares.mean():.2f} %", f"{shares.max():.2f} %", f"{alarms:.2f}"),
            ]
        )
    # The last group is that of all machines.
    found, median, worst = _found(delays), float(np.median(delays)), float(shares.max())
    goals = [
        _goal("found: at least 95 %", found >= 95, f"{found:.1f} %"),
        _goal("median delay: at most 20 rows", median <= 20, f"{_median(delays)} rows"),
        _goal(
            "healthy rows in alarm: at most 2 % of the worst machine", worst <= 2, f"{worst:.2f} %"
        ),
        _goal("healthy: at most 0.3 alarms per 1000 rows", alarms <= 0.3, f"{alarms:.2f}"),
    ]
    header = ["operation", "found", "median delay, rows", "of the missed, called `drift`"]
    header += ["alarm stood already"]
    header += ["stuck: alarm / state `bad_data` / sensor called frozen"]
    header += ["healthy rows in alarm", "of the worst machine", "alarms per 1000 healthy rows"]
    return _block(_table(header, shown), goals)


def _tell_kinds(cells: Mapping[str, Cell]) -> str:
    by_pattern, everywhere = _by_name(cells), list(cells.values())
    best = _best_peer(everywhere)

    def both(group: Sequence[Cell], fault: str, method: str = "as it comes") -> str:
        delays = _delays(group, method, [fault])
        return f"{_found(delays):.0f} ({_median(delays)})" if len(delays) else ""

    rows = [
        [
            *(fault, *(both(group, fault) for group in by_pattern.values())),
            *(both(everywhere, fault, method) for method in ("as it comes", "asset", best)),
        ]
        for fault in ALL_FAULTS
        if any(fault in cell["faults"] for cell in everywhere)
    ]
    header = ["fault", *by_pattern, "all", "all, at equal false alarms"]
    return _table([*header, f"the same, {best}"], rows)


def _best_peer(cells: Sequence[Cell]) -> str:
    """Return the peer that finds most at equal false alarms, the quickest of those."""
    return min(CHARTS, key=lambda name: (-_found(d := _delays(cells, name)), float(np.median(d))))


def _tell_peers(cells: Mapping[str, Cell]) -> str:
    by_pattern, everywhere = _by_name(cells), list(cells.values())
    best = _found(_delays(everywhere, _best_peer(everywhere)))
    shown = []
    for method in ("asset", *CHARTS):
        delays = _delays(everywhere, method)
        name = "**Vigie, asset**" if method == "asset" else method
        shown.append(
            [
                *(f"{_found(delays) - best:+.1f}", name, f"{_found(delays):.1f} %"),
                _median(delays),
                *(
                    f"{_found(d := _delays(group, method)):.0f} ({_median(d)})"
                    for group in by_pattern.values()
                ),
            ]
        )
    delays = _delays(everywhere, "asset")
    found, median = _found(delays), float(np.median(delays))
    goals = [
        _goal("asset: at least 98 % found", found >= 98, f"{found:.1f} %"),
        _goal("asset: median delay at most 14 rows", median <= 14, f"{_median(delays)} rows"),
    ]
    header = ["found less the best peer's", "method", "found", "median delay, rows", *by_pattern]
    return _block(_table(header, shown), goals)


def _tell_lstm(cells: Mapping[str, Cell], without: Mapping[str, Cell]) -> str:
    """Return the same machines judged with the LSTM autoencoder and without it."""
    same = {key: without[key] for key in cells if key in without}
    both = [_by_name({key: cells[key] for key in same}), _by_name(same)]
    for groups in both:
        groups["all"] = [cell for group in groups.values() for cell in group]
    shown = []
    for name in both[0]:
        delays = [_delays(groups[name], "as it comes") for groups in both]
        equal = [_delays(groups[name], "asset") for groups in both]
        healthy = [_in_alarm([cell["healthy"] for cell in groups[name]]) for groups in both]
        found = [_found(those) for those in delays]
        shown.append(
            [
                *(f"{found[0] - found[1]:+.1f}", name),
                *(f"{one:.1f} % ({_median(d)})" for one, d in zip(found, delays, strict=True)),
                *(f"{_found(those):.1f} % ({_median(those)})" for those in equal),
                " / ".join(f"{shares.mean():.2f} %" for shares, _ in healthy),
            ]
        )
    header = ["difference", "operation", "found with", "found without"]
    header += ["at equal false alarms, with", "without", "healthy rows in alarm, with / without"]
    return _block(_table(header, shown), [])


def _tell_drifts(cells: Mapping[str, Cell]) -> str:
    shown = []
    for name, group in _by_name(cells).items():
        shares, alarms = _in_alarm(group)
        means = {
            state: 100.0 * np.mean([cell["states"][state] for cell in group])
            for state in map(str, STATES)
        }
        shown.append(
            [
                name,
                *(f"{means[state]:.1f} %" for state in ("normal", "watch", "drift", "alarm")),
                *(f"{shares.max():.1f} %", f"{alarms:.2f}"),
            ]
        )
    header = ["healthy machine", "normal", "watch", "drift", "alarm", "alarm, the worst machine"]
    return _block(_table([*header, "alarms per 1000 rows"], shown), [])


# Tennessee Eastman: a simulated chemical plant


def measure_tep(data: Path | None, results: Results, quick: bool) -> None:
    """Follow a simulated plant into each of seven faults, by what it was like when healthy."""
    archives = _files(data, "tep/tep.npz")
    if not archives:
        _skip("Tennessee Eastman", "tep/tep.npz")
        return
    results.cell("tep", WITHOUT_LSTM, partial(_plant, archives[0], WITHOUT_LSTM))
    if not quick:
        results.cell("tep", WITH_LSTM, partial(_plant, archives[0], WITH_LSTM))


def tell_tep(results: Results) -> dict[str, str]:
    """Return the table on the plant."""
    cells = results.cells("tep")
    found = cells.get(WITH_LSTM) or cells[WITHOUT_LSTM]
    methods = {"asset": "**Vigie, asset**", "moved": "Vigie, `alarm` or `drift`"}
    if WITH_LSTM in cells and WITHOUT_LSTM in cells:
        found["no lstm"] = cells[WITHOUT_LSTM]["asset"]
        methods["no lstm"] = f"Vigie, asset, {WITHOUT_LSTM}"
    methods |= {name: name for name in CHARTS}

    def mean(method: str, what: str) -> float:
        return 100.0 * float(np.mean(found[method][what]))

    best = {what: max(mean(name, what) for name in CHARTS) for what in ("faulty", "equal")}
    rows = []
    for key, name in methods.items():
        equal = mean(key, "equal") if "equal" in found[key] else None
        rows.append(
            [
                "–" if equal is None else f"{equal - best['equal']:+.1f}",
                *(f"{mean(key, 'faulty') - best['faulty']:+.1f}", name),
                *(f"{mean(key, what):.1f} %" for what in ("faulty", "before", "healthy")),
                "–" if equal is None else f"{equal:.1f} %",
                *(f"{100.0 * share:.0f}" for share in found[key]["faulty"]),
            ]
        )
    faulty, seen = mean("asset", "faulty"), np.delete(found["asset"]["faulty"], HARDLY_SEEN - 1)
    false = max(mean("asset", "before"), mean("asset", "healthy"))
    text = "asset: at least 88 % of the faulty rows, at most 1 % of the rows before and the healthy"
    told = (
        f"{faulty:.1f} % at {false:.1f} %; without fault {HARDLY_SEEN} {100.0 * seen.mean():.1f} %"
    )
    goals = [_goal(text, faulty >= 88 and false <= 1, told)]
    header = ["at equal false alarms, less the best peer's", "as it comes, less the best peer's"]
    header += ["method", "faulty rows in alarm", "rows before", "healthy file"]
    header += ["faulty rows, at equal false alarms"]
    header += [f"fault {fault}, %" for fault in TEP_FAULTS]
    models = WITH_LSTM if WITH_LSTM in cells else WITHOUT_LSTM
    caption = f"\n\nVigie with its defaults, {models}." + results.measured("tep")
    return {"tep": _block(_table(header, rows), goals) + caption}


def _plant(path: Path, models: str) -> Cell:
    with np.load(path) as archive:
        train, healthy = archive["d00"].astype(float), archive["d00_te"].astype(float)
        faulty = [archive[f"d{fault:02}_te"].astype(float) for fault in TEP_FAULTS]
    judge = _trained(train, models)
    judged = [judge(rows) for rows in (healthy, *faulty)]
    states = [one.statuses.states for one in judged]
    alarms = {"asset": [those == ALARM for those in states]}
    alarms["moved"] = [np.isin(those, (ALARM, DRIFT)) for those in states]
    scores = {"asset": [_surprise(one) for one in judged]}
    for name, fit in CHARTS.items():
        score, limit = fit(train), held_out_limit(fit, train)
        scores[name] = [score(rows) for rows in (healthy, *faulty)]
        alarms[name] = [those > limit for those in scores[name]]
    found: Cell = {}
    for name, (of_healthy, *of_faulty) in alarms.items():
        found[name] = {
            "faulty": [float(alarm[TEP_BEFORE:].mean()) for alarm in of_faulty],
            "before": [float(alarm[:TEP_BEFORE].mean()) for alarm in of_faulty],
            "healthy": float(of_healthy.mean()),
        }
    for name, (of_healthy, *of_faulty) in scores.items():
        limit = _limit(of_healthy)
        shares = [float((those[TEP_BEFORE:] > limit).mean()) for those in of_faulty]
        found[name]["equal"] = shares
    return found


# What all parts need


def _files(data: Path | None, pattern: str) -> list[Path]:
    return list(data.glob(pattern)) if data else []


def _skip(name: str, place: str) -> None:
    console.print(f"{name} is skipped: there is no {place} in the folder that VIGIE_DATA names.")


def _goal(text: str, reached: bool, found: str) -> str:
    return f"- {text}: {'reached' if reached else '**not reached**'} ({found})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _block(table: str, goals: Sequence[str]) -> str:
    return "\n\n".join([table, "\n".join(goals)] if goals else [table])


@cache
def _code() -> str:
    """Return a hash of what the figures depend on: code without comments, and defaults."""
    root = Path(vigie.__file__).parent
    mathematics = [
        path for room in ("detectors", "assessment") for path in (root / room).rglob("*.py")
    ]
    digest = hashlib.sha256(plain().model_dump_json(include=TRAINING_SETTINGS).encode())
    for path in [*sorted(mathematics), root / "backtest.py"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(body := getattr(node, "body", None), list):
                node.body = [item for item in body if not _is_text(item)]  # type: ignore[attr-defined]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


PARTS = {
    "skab": (measure_skab, tell_skab),
    "adbench": (measure_adbench, tell_adbench),
    "edge": (measure_edge, tell_edge),
    "cmapss": (measure_cmapss, tell_cmapss),
    "faults": (measure_faults, tell_faults),
    "tep": (measure_tep, tell_tep),
}


if __name__ == "__main__":
    main()
