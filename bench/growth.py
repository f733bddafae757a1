"""What time and memory cost as data, sensors, trees, assets and versions grow.

``measure`` yields one figure a curve: the slopes between neighbouring points where both axes are
logarithmic (1: twice as much costs twice as much), with the points themselves in its note. The
picture goes to docs/images/growth.png.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from figures import Figure, seconds, within

from vigie.config import Settings
from vigie.detectors.base import Floats
from vigie.detectors.catalogue import algorithms
from vigie.history.store import History, history_url
from vigie.local import mlflow_server
from vigie.registry import lookup
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.detector_service import new_service
from vigie.services.isolation_forest_service import IsolationForestService

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "growth.png"
N_FEATURES = 20
LONGEST_S = 60.0
"""A curve ends before the point that would take longer, if cost grew as size does."""
KEPT_ROWS = 50
COLOURS = {
    "isolation_forest": "#33415c",
    "one_class_svm": "#3a86c8",
    "vector_autoregression": "#e0a030",
    "lstm_autoencoder": "#d1495b",
}
ALONE = "#33415c"
"""Colour of a curve that is no detector's."""


@dataclass(frozen=True)
class Curve:
    """Points of one cost against one size.

    Attributes
    ----------
    panel : str
        What is measured, such as 'training, s'.
    against : str
        What grows, such as 'rows'.
    of : str
        Whose cost it is.
    sizes, costs : tuple of float
    """

    panel: str
    against: str
    of: str
    sizes: tuple[float, ...]
    costs: tuple[float, ...]

    @property
    def slopes(self) -> list[float]:
        """Slope from each point to the next on logarithmic axes."""
        return list(np.diff(np.log(self.costs)) / np.diff(np.log(self.sizes)))

    @property
    def bend(self) -> float | None:
        """The size from which on cost grows faster than half as fast as the size; or None."""
        steep = [size for size, slope in zip(self.sizes, self.slopes, strict=False) if slope > 0.5]
        return steep[0] if steep else None

    def as_figure(self) -> Figure:
        points = ", ".join(f"{size:g}: {cost:.3g}" for size, cost in self)
        bend = "flat throughout" if self.bend is None else f"rises from {self.bend:g} on"
        name = f"{self.of}, {self.panel} against {self.against}"
        return within(name, self.slopes, unit="slope", note=f"{bend}; {points}")

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return zip(self.sizes, self.costs, strict=True)


def measure(quick: bool) -> Iterator[Figure]:
    """Yield one figure a curve, and draw the picture."""
    curves = []
    for curve in _curves(quick):
        curves.append(curve)
        yield curve.as_figure()
    if not quick:
        _draw(curves)


def _curves(quick: bool) -> Iterator[Curve]:
    if quick:
        yield _scoring("isolation_forest", [1, 100, 10_000])
        return
    for name in algorithms():
        yield from _training(name, "rows", [300, 1000, 10_000, 100_000])
        yield from _training(name, "sensors", [2, 16, 128])
        yield _scoring(name, [10**k for k in range(6)])
    yield from _trees([10, 30, 100, 300, 1000, 3000])
    yield _assets([1, 10, 100, 1000, 10_000])
    yield _versions([1, 10, 100, 1000])


def _training(name: str, against: str, sizes: Sequence[int]) -> Iterator[Curve]:
    """Train in a process of its own each time, whose memory is nobody else's."""
    known: list[tuple[int, dict[str, float]]] = []
    for size in sizes:
        rows = against == "rows"
        if rows and known and known[-1][1]["seconds"] * size / known[-1][0] > LONGEST_S:
            break
        n, d = (size, N_FEATURES) if rows else (1000, size)
        command = [sys.executable, __file__, name, str(n), str(d)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        known.append((size, json.loads(answer.stdout)))
    reached = tuple(float(size) for size, _ in known)
    for panel, key in (("training, s", "seconds"), ("training, MB", "megabytes")):
        yield Curve(panel, against, name, reached, tuple(cost[key] for _, cost in known))


def _scoring(name: str, sizes: Sequence[int]) -> Curve:
    service = new_service(name, _untracked())
    service.train(_rows(2000))
    costs: list[float] = []
    for size in sizes:
        # Each point is timed six times over.
        if costs and 6 * costs[-1] / 1e3 * 10 > LONGEST_S:
            break
        costs.append(1e3 * _timed(service.predict_scores, _rows(size)))
    reached = tuple(map(float, sizes[: len(costs)]))
    return Curve("scoring, ms", "rows", name, reached, tuple(costs))


def _trees(sizes: Sequence[int]) -> Iterator[Curve]:
    services = {
        size: IsolationForestService(n_estimators=size, settings=_untracked()) for size in sizes
    }
    reached = tuple(map(float, sizes))
    training = tuple(seconds(lambda s=s: s.train(_rows(2000))) for s in services.values())
    yield Curve("training, s", "trees", "isolation_forest", reached, training)
    X = _rows(10_000)
    costs = _costs(sizes, lambda size: _timed(services[size].predict_scores, X))
    yield Curve("scoring 10 000 rows, ms", "trees", "isolation_forest", reached, costs)


def _assets(sizes: Sequence[int]) -> Curve:
    """Judge one reading by all models, with a history of ever more assets."""
    with tempfile.TemporaryDirectory() as state:
        settings = _untracked(state_dir=Path(state))
        service = AnomalyDetectionService(settings)
        service.train_all_models(_rows(1000))
        rows = _rows(KEPT_ROWS + 500)
        start = datetime(2026, 1, 5, tzinfo=UTC)

        def reading(row: int, asset: int = 0) -> dict[str, Any]:
            features = {f"feature_{i + 1}": float(v) for i, v in enumerate(rows[row])}
            time = (start + timedelta(seconds=row)).isoformat()
            return {"asset_id": f"asset-{asset}", "features": features, "timestamp": time}

        service.detect_anomalies_batch([reading(row) for row in range(KEPT_ROWS)])
        history = History(history_url(settings))
        last = start + timedelta(seconds=KEPT_ROWS)
        with history.turn("asset-0", None) as turn:
            kept = turn.around(last, last, KEPT_ROWS)
        costs, there, row = [], 1, KEPT_ROWS
        for size in sizes:
            for asset in range(there, size):
                with history.turn(f"asset-{asset}", None) as turn:
                    turn.append(replace(one, asset_id=f"asset-{asset}") for one in kept)
            there, times = max(there, size), []
            for _ in range(40):
                asked = reading(row, row % size)
                times.append(1e3 * seconds(lambda asked=asked: service.detect_anomaly(asked)))
                row += 1
            costs.append(median(times[5:]))
        history.close()
        service.close()
    return Curve(
        "one reading, ms", "assets", "three models, history", tuple(map(float, sizes)), tuple(costs)
    )


def _versions(sizes: Sequence[int]) -> Curve:
    """Ask the registry which version serves, among ever more of them."""
    with tempfile.TemporaryDirectory() as state:
        uri = "http://127.0.0.1:5077"
        settings = _untracked(mlflow_enabled=True, mlflow_tracking_uri=uri, state_dir=Path(state))
        with mlflow_server(settings):
            service = IsolationForestService(settings=settings)
            service.train(_rows(300))
            server = service.mlflow_service.server
            first = server.client.get_model_version(service.name, "1")
            costs, there = [], 1
            for size in sizes:
                for _ in range(there, size):
                    server.client.create_model_version(
                        service.name, first.source, first.run_id, first.tags, await_creation_for=0
                    )
                there = max(there, size)
                ask = [seconds(lambda: lookup.pick(server, service.name)) for _ in range(7)]
                costs.append(1e3 * median(ask))
    return Curve(
        "which version serves, ms", "versions", "registry", tuple(map(float, sizes)), tuple(costs)
    )


def _costs(sizes: Sequence[int], cost: Callable[[int], float]) -> tuple[float, ...]:
    return tuple(1e3 * cost(size) for size in sizes)


def _timed(function: Callable[[Any], Any], argument: Any) -> float:
    function(argument)
    return median(seconds(lambda: function(argument)) for _ in range(5))


def _rows(n: int, n_features: int = N_FEATURES) -> Floats:
    """Healthy rows of a machine whose load goes up and down, shape (n, n_features)."""
    random = np.random.default_rng(0)
    load = np.sin(np.arange(n) / 50.0)[:, None] * random.uniform(0.2, 2.0, n_features)
    rows: Floats = 10.0 + load + random.normal(size=(n, n_features))
    return rows


def _untracked(**changes: Any) -> Settings:
    return Settings.model_construct(**{"mlflow_enabled": False, **changes})


def _draw(curves: Sequence[Curve]) -> None:
    from matplotlib.figure import Figure as Picture

    panels = list(dict.fromkeys((curve.panel, curve.against) for curve in curves))
    picture = Picture(figsize=(11, 3.0 * -(-len(panels) // 3)), layout="constrained")
    axes = picture.subplots(-(-len(panels) // 3), 3, squeeze=False).ravel()
    entries: dict[str, Any] = {}
    for axis, (panel, against) in zip(axes, panels, strict=False):
        drawn = [curve for curve in curves if (curve.panel, curve.against) == (panel, against)]
        for curve in drawn:
            colour = COLOURS.get(curve.of, ALONE)
            [line] = axis.loglog(curve.sizes, curve.costs, "o-", color=colour, markersize=3)
            if len(drawn) > 1:
                entries[curve.of.replace("_", " ")] = line
        of = "" if len(drawn) > 1 else f" ({drawn[0].of.replace('_', ' ')})"
        axis.set_title(f"{panel}{of}", fontsize=10)
        axis.set_xlabel(against, fontsize=9)
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
        for scale in (axis.xaxis, axis.yaxis):
            _label_plainly(scale)
    for axis in axes[len(panels) :]:
        axis.remove()
    picture.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=4, frameon=False
    )
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(PICTURE, dpi=110)


def _label_plainly(scale: Any) -> None:
    """Label a logarithmic axis with numbers such as 0.1, 20 and 10 000."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = scale.get_view_interval()
    decades = np.log10(high / low)
    subs = range(1, 10) if decades < 0.5 else (1, 2, 5) if decades < 2.3 else (1,)
    scale.set_major_locator(LogLocator(subs=subs, numticks=12))
    scale.set_major_formatter(lambda value, _: f"{value:,.6g}".replace(",", " "))
    scale.set_minor_formatter(NullFormatter())


def _train_here(name: str, n: int, d: int) -> dict[str, float]:
    service = new_service(name, _untracked())
    service.train(_rows(300, d))
    taken = seconds(lambda: service.train(_rows(n, d)))
    # Not getrusage, which counts the peak of the process that this one was forked from.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return {"seconds": taken, "megabytes": int(peak.split()[1]) / 1024}


if __name__ == "__main__":
    print(json.dumps(_train_here(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
