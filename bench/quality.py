"""How well Vigie detects, on public data and with its peers beside it: fills docs/benchmarks.md.

python bench/quality.py [--quick] [--only skab|adbench|cmapss|edge] [--results FILE] [--again]

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from figures import filled, machine
from numpy.typing import NDArray
from pyod.models.iforest import IForest
from pyod.models.ocsvm import OCSVM
from rich.console import Console
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import vigie
from vigie.assessment.engine import alone
from vigie.backtest import Confusion, backtest
from vigie.cli.files import read_table, times_of
from vigie.config import Settings
from vigie.detectors.base import Floats
from vigie.errors import VigieError
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.isolation_forest_service import IsolationForestService
from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService
from vigie.services.one_class_svm_service import OneClassSVMService

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
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

FOREST, SVM = IsolationForestService.name, OneClassSVMService.name
LSTM = LSTMAutoencoderService.name
MODELS = {FOREST: "Isolation Forest", SVM: "One-Class SVM", LSTM: "LSTM autoencoder"}
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
    console.print(f"docs/{DOCUMENT.name} is written.")


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
    sensors = table.drop(columns=["datetime", "anomaly", "changepoint"])
    labels = table["anomaly"].to_numpy()
    return _verdicts(sensors, labels, SKAB_TRAIN_ROWS, plain(), times_of(table))


def _healthy(path: Path, rate: float, quick: bool) -> Cell:
    table = read_table(path).iloc[: 1000 if quick else None]
    sensors, labels = table.drop(columns=["datetime"]), np.zeros(len(table))
    settings = plain(contamination=rate)
    return _verdicts(sensors, labels, len(table) // 2, settings, times_of(table), rate)


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
    figures = {name: replace(found, alarm=flags).figures() for name, flags in said.items()}
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
    for name, label in MODELS.items():
        shares = {
            f"{key.replace('/', ' sensors, ')} rows, {way}, {distance} deviations": share
            for key, cell in cells.items()
            for way, by in cell.get(name, {}).items()
            for distance, share in by.items()
        }
        worst = min(shares, key=shares.__getitem__, default="")
        fell = f"{100 * shares[worst]:.0f} % with {worst}" if worst else "not asked"
        reached = bool(shares) and shares[worst] == 1.0
        text = f"{label}: every such reading scores higher than every training row"
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
    alarms = {"default": [state > 0 for state in unusual.pop("state")]}
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
    found: dict[str, list[Floats]] = {key: [] for key in ("asset", *MODELS, "reading", "state")}
    for life in lives:
        judged = service.detect_table(life)
        p_values = {"asset": judged.asset_p_values, "reading": judged.p_values}
        p_values |= {name: alone(judged, name).asset_p_values for name in MODELS}
        for key, p_value in p_values.items():
            # Where nothing can be said yet, there is no alarm.
            found[key].append(np.nan_to_num(-np.log10(p_value), nan=-np.inf))
        states = judged.in_alarm.tolist()
        found["state"].append(np.array(states, dtype=float))
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
}


if __name__ == "__main__":
    main()
