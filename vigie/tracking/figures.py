"""The figures of a training, as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vigie.detectors.base import Floats
from vigie.detectors.power import LARGEST, SMALLEST
from vigie.detectors.trained import TrainedModel
from vigie.tracking.figure_data import FigureData, stride

MOST_SENSORS = 40
DPI = 90
INK, ACCENT, ALERT = "#33415c", "#3a86c8", "#d1495b"


def write_figures(model: TrainedModel, data: FigureData, folder: Path) -> None:
    """Write the figures of a training as PNG files.

    Parameters
    ----------
    model : TrainedModel
        The model just trained.
    data : FigureData
        Sampled from its training.
    folder : Path
        Created if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _score_distribution(model, data).savefig(folder / "score_distribution.png", dpi=DPI)
    _sensor_spread(model, data.rows).savefig(folder / "sensor_spread.png", dpi=DPI)
    if (steps := _detectable_step(model)) is not None:
        steps.savefig(folder / "detectable_step.png", dpi=DPI)
    if len(data.outliers):
        _drivers(model, model.explain(data.outliers).shares).savefig(
            folder / "outlier_sensors.png", dpi=DPI
        )
    if len(data.loss_by_epoch):
        _loss(model, data).savefig(folder / "loss.png", dpi=DPI)
    if model.reconstructs:
        _reconstruction_error(model, data).savefig(folder / "reconstruction_error.png", dpi=DPI)


def _figure(title: str, x: str, y: str, height: float = 3.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _figure_by_sensor(title: str, x: str, n_sensors: int) -> tuple[Figure, Axes]:
    """Return a figure with a line for each sensor, the first on top."""
    figure, axes = _figure(title, x, "", height=1.4 + 0.32 * min(n_sensors, MOST_SENSORS))
    axes.invert_yaxis()
    return figure, axes


def _score_distribution(model: TrainedModel, data: FigureData) -> Figure:
    figure, axes = _figure(
        f"{model.algorithm}: scores of {data.n_rows} training rows", "score", "rows"
    )
    axes.stairs(data.scores, np.linspace(0.0, 1.0, len(data.scores) + 1), fill=True,
                color=ACCENT)  # fmt: skip
    axes.axvline(model.threshold, color=ALERT, label=f"threshold {model.threshold:g}")
    axes.legend(frameon=False)
    return figure


def _sensor_spread(model: TrainedModel, X: Floats) -> Figure:
    """Draw box plots in units of each sensor's usual range, so that they fit on one axis."""
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


def _detectable_step(model: TrainedModel) -> Figure | None:
    """Draw the smallest steps in usual ranges, with their size in each sensor's own unit."""
    soon, later = model.smallest_step_20, model.smallest_step_200
    if soon is None or later is None or np.isnan(soon).all():
        return None
    widths = np.where(model.high > model.low, model.high - model.low, np.nan)
    measured = np.flatnonzero(~np.isnan(soon))
    if len(measured) > MOST_SENSORS:
        weakest = np.argsort(-soon[measured] / widths[measured], kind="stable")[:MOST_SENSORS]
        measured = np.sort(measured[weakest])
    figure, axes = _figure_by_sensor(
        f"{model.algorithm}: smallest lasting step that raises an alarm",
        "step, in widths of the middle 99 %; beside it in the unit of the sensor",
        len(measured),
    )
    axes.set(xscale="log", xlim=(SMALLEST / 2, LARGEST * 8), ylim=(len(measured) - 0.5, -0.5))
    for steps, shift, color, n_rows in ((soon, -0.2, ACCENT, 20), (later, 0.2, INK, 200)):
        places, found = np.arange(len(measured)) + shift, steps[measured]
        sizes = found / widths[measured]
        # A missing bar would look like the best one.
        axes.barh(places, np.where(np.isfinite(sizes), sizes, 0.0), 0.38,
                  color=color, label=f"within {n_rows} readings")  # fmt: skip
        for place, size, step in zip(places, sizes, found, strict=True):
            known = np.isfinite(size)
            said = (
                f" {step:.3g}" if known
                else f" not within {n_rows}" if np.isinf(size) else " not measured"
            )  # fmt: skip
            axes.text(size if known else SMALLEST / 2, place, said, va="center", fontsize=7,
                      color=INK if known else ALERT)  # fmt: skip
    axes.set_yticks(np.arange(len(measured)), [model.feature_names[i] for i in measured])
    axes.legend(frameon=False, fontsize=7, loc="lower right")
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


def _loss(model: TrainedModel, data: FigureData) -> Figure:
    figure, axes = _figure(f"{model.algorithm}: training loss", "epoch", "mean squared error")
    losses = data.loss_by_epoch
    axes.plot(range(1, len(losses) + 1), losses, color=ACCENT)
    axes.set_ylim(bottom=0)
    return figure


def _reconstruction_error(model: TrainedModel, data: FigureData) -> Figure:
    figure, axes = _figure(
        f"{model.algorithm}: reconstruction error over the training rows", "row", "error"
    )
    rows = np.arange(0, data.n_rows, stride(data.n_rows))
    limit = model.calibration.raw_threshold(1.0 - model.threshold)
    axes.plot(rows, model.raw_scores(data.windows), color=ACCENT, linewidth=0.8)
    axes.axhline(limit, color=ALERT, label=f"error at the threshold: {limit:.3g}")
    axes.legend(frameon=False)
    return figure
