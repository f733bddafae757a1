"""The pictures of a training that a person would look at first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.detectors.base import Floats
from app.detectors.trained import TrainedModel

MOST_OUTLIERS, MOST_SENSORS, MOST_ROWS = 200, 40, 5000
DPI = 90
INK, ACCENT, ALERT = "#33415c", "#3a86c8", "#d1495b"


def write_figures(model: TrainedModel, X: Floats, scores: Floats, folder: Path) -> None:
    """Write the figures of a training as PNG files.

    Parameters
    ----------
    model : TrainedModel
        The model just trained.
    X : ndarray of shape (n_samples, n_features)
        Its training rows.
    scores : ndarray of shape (n_samples,)
        Their scores.
    folder : Path
        Made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _score_distribution(model, scores).savefig(folder / "score_distribution.png", dpi=DPI)
    _sensor_spread(model, X[:: _stride(len(X))]).savefig(folder / "sensor_spread.png", dpi=DPI)
    n_outliers = min(int((scores > model.threshold).sum()), MOST_OUTLIERS)
    if n_outliers:
        outliers = model.examples(X)[np.argsort(-scores)[:n_outliers]]
        _drivers(model, model.explain(outliers).shares).savefig(
            folder / "outlier_sensors.png", dpi=DPI
        )
    if model.loss_by_epoch:
        _loss(model).savefig(folder / "loss.png", dpi=DPI)
    if model.window > 1:
        _reconstruction_error(model, X).savefig(folder / "reconstruction_error.png", dpi=DPI)


def _stride(n_rows: int) -> int:
    """Return how many rows to go on by, so that no more are drawn than can be seen."""
    return -(-n_rows // MOST_ROWS)


def _figure(title: str, x: str, y: str, height: float = 3.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _figure_by_sensor(title: str, x: str, n_sensors: int) -> tuple[Figure, Axes]:
    """Leave a line for each sensor, the first on top."""
    figure, axes = _figure(title, x, "", height=1.4 + 0.32 * min(n_sensors, MOST_SENSORS))
    axes.invert_yaxis()
    return figure, axes


def _score_distribution(model: TrainedModel, scores: Floats) -> Figure:
    figure, axes = _figure(
        f"{model.algorithm}: scores of {len(scores)} training rows", "score", "rows"
    )
    axes.hist(scores, bins=50, range=(0, 1), color=ACCENT)
    axes.axvline(model.threshold, color=ALERT, label=f"threshold {model.threshold:g}")
    axes.legend(frameon=False)
    return figure


def _sensor_spread(model: TrainedModel, X: Floats) -> Figure:
    """Box plots in units of each sensor's own usual range, so that they fit on one axis."""
    figure, axes = _figure_by_sensor(
        f"{model.algorithm}: spread of each sensor in training",
        "distance from the median, in widths of the middle 99 %",
        model.n_features,
    )
    shown = slice(0, MOST_SENSORS)
    width = np.where(model.high > model.low, model.high - model.low, 1.0)
    spread = ((X - model.usual) / width)[:, shown]
    axes.boxplot(
        spread,
        orientation="horizontal",
        tick_labels=list(model.feature_names[shown]),
        flierprops={"marker": ".", "markersize": 2, "markeredgecolor": INK},
        medianprops={"color": ALERT},
    )
    return figure


def _drivers(model: TrainedModel, shares: Floats) -> Figure:
    figure, axes = _figure_by_sensor(
        f"{model.algorithm}: sensors behind the {len(shares)} most unusual training rows",
        "mean share of the surprise",
        model.n_features,
    )
    mean = shares.mean(axis=0)
    first = np.argsort(-mean)[:MOST_SENSORS]
    axes.barh([model.feature_names[i] for i in first], mean[first], color=ACCENT)
    return figure


def _loss(model: TrainedModel) -> Figure:
    figure, axes = _figure(f"{model.algorithm}: training loss", "epoch", "mean squared error")
    axes.plot(range(1, len(model.loss_by_epoch) + 1), model.loss_by_epoch, color=ACCENT)
    axes.set_ylim(bottom=0)
    return figure


def _reconstruction_error(model: TrainedModel, X: Floats) -> Figure:
    figure, axes = _figure(
        f"{model.algorithm}: reconstruction error over the training rows", "row", "error"
    )
    rows = np.arange(0, len(X), _stride(len(X)))
    limit = model.calibration.raw_threshold(1.0 - model.threshold)
    axes.plot(rows, model.raw_scores(model.examples(X)[rows]), color=ACCENT, linewidth=0.8)
    axes.axhline(limit, color=ALERT, label=f"error at the threshold: {limit:.3g}")
    axes.legend(frameon=False)
    return figure
