"""The figures of a training, as PNG files."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vigie.detectors.base import Floats
from vigie.detectors.power import LARGEST, SMALLEST
from vigie.detectors.trained import TrainedModel
from vigie.tables.names import with_unit
from vigie.tracking.axes import broken, literal, mark_times
from vigie.tracking.figure_data import FigureData, stride

MOST_SENSORS, MOST_PANELS = 40, 8
DPI, WIDTH = 110, 10.0
"""The width is in inches."""
LEAST_P = 1e-6
"""Beyond one in a million, only the order of p-values is kept."""
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
    _sensor_spread(model, data).savefig(folder / "sensor_spread.png", dpi=DPI)
    if len(data.highest):
        _training_rows(model, data).savefig(folder / "training_rows.png", dpi=DPI)
    if (steps := _detectable_step(model, data)) is not None:
        steps.savefig(folder / "detectable_step.png", dpi=DPI)
    if len(data.outliers):
        _drivers(model, model.explain(data.outliers).shares).savefig(
            folder / "outlier_sensors.png", dpi=DPI
        )
    if len(data.loss_by_epoch):
        _loss(model, data).savefig(folder / "loss.png", dpi=DPI)
    if model.reconstructs:
        _reconstruction_error(model, data).savefig(folder / "reconstruction_error.png", dpi=DPI)


def _title(figure: Figure, title: str) -> None:
    figure.suptitle(textwrap.fill(title, 80), fontsize=12)


def _figure(title: str, x: str, y: str, height: float = 4.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    _title(figure, title)
    axes.set(xlabel=textwrap.fill(x, 90), ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _figure_by_sensor(
    title: str, x: str, n_sensors: int, of_each: float = 0.38
) -> tuple[Figure, Axes]:
    """Return a figure with a line for each sensor, the first on top."""
    figure, axes = _figure(title, x, "", height=1.6 + of_each * min(n_sensors, MOST_SENSORS))
    axes.invert_yaxis()
    return figure, axes


def _score_distribution(model: TrainedModel, data: FigureData) -> Figure:
    """Draw the histogram of the scores and, where it is decided, their tail."""
    has_tail = len(data.ranks) > 0
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    panels = figure.subplots(1, 2 if has_tail else 1, squeeze=False).ravel().tolist()
    _title(figure, f"{model.algorithm}: scores of {data.n_rows:,} training rows")
    whole = panels[0]
    whole.stairs(data.scores, np.linspace(0.0, 1.0, len(data.scores) + 1), fill=True, color=ACCENT)
    whole.set(xlabel="score", ylabel="rows", xlim=(0.0, 1.01))
    whole.axvline(model.threshold, color=ALERT, label=f"threshold {model.threshold:g}")
    if has_tail:
        tail, odds = panels[1], 1.0 / np.maximum(1.0 - data.ranked, LEAST_P)
        tail.plot(odds, data.ranks, color=ACCENT, drawstyle="steps-post", label="training rows")
        ends = np.array([1.0, max(float(odds.max()), 10.0)])
        tail.plot(ends, data.n_rows / ends, color=INK, linestyle="--", label="expected if healthy")
        limit = 1.0 / (1.0 - model.threshold)
        tail.axvline(limit, color=ALERT, label=f"threshold, 1 in {limit:,.0f}")
        tail.set(xscale="log", yscale="log", xlabel="as unusual as 1 in so many healthy rows",
                 ylabel="rows at least as unusual", ylim=(0.8, 1.5 * data.n_rows))  # fmt: skip
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3,
                    fontsize=8)  # fmt: skip
    return figure


def _training_rows(model: TrainedModel, data: FigureData) -> Figure:
    """Draw how unusual the training rows are, and below it the sensors in their own units."""
    sensors = [i for i, name in enumerate(model.feature_names) if name not in model.words]
    shown = sensors[:MOST_PANELS]
    figure = Figure(figsize=(WIDTH, 3.2 + 0.95 * len(shown)), layout="constrained")
    grid = figure.subplots(
        1 + len(shown),
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [2] + [1] * len(shown)},
    )
    panels = grid.ravel().tolist()
    some = "" if len(shown) == len(sensors) else f" ({len(shown)} of {len(sensors)} sensors)"
    _title(figure, f"{model.algorithm}: the training rows and how unusual they are{some}")
    x = _places(data)
    odds = 1.0 / np.maximum(1.0 - data.highest, LEAST_P)
    panels[0].plot(
        broken(x, x), broken(odds, x), color=ACCENT, linewidth=0.8, label="training rows"
    )
    limit = 1.0 / (1.0 - model.threshold)
    panels[0].axhline(limit, color=ALERT, label=f"threshold, 1 in {limit:,.0f}")
    panels[0].set(yscale="log", ylabel="1 in so many\nhealthy rows")
    panels[0].yaxis.set_major_formatter(lambda odds, _: f"{odds:,.0f}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2,
                  frameon=False)  # fmt: skip
    for column, axes in zip(shown, panels[1:], strict=True):
        axes.plot(broken(x, x), broken(data.rows[:, column], x), color=ACCENT, linewidth=0.8)
        axes.set_title(_with_unit(model, data, column), loc="left", fontsize=9, pad=3)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.locator_params(axis="y", nbins=3)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    _label_places(panels[-1], data)
    return figure


def _sensor_spread(model: TrainedModel, data: FigureData) -> Figure:
    """Draw box plots in units of each sensor's usual range, so that they fit on one axis."""
    figure, axes = _figure_by_sensor(
        f"{model.algorithm}: spread of each sensor in training",
        "distance from the median, in widths of the central 99 %; beside the name: median "
        "(0.5 % to 99.5 %) in the sensor's unit",
        model.n_features,
        of_each=0.45,
    )
    shown = slice(0, MOST_SENSORS)
    width = np.where(model.high > model.low, model.high - model.low, 1.0)
    spread = ((data.rows - model.usual) / width)[:, shown]
    labels = [
        f"{literal(name)}\n{model.usual[i]:.4g} ({model.low[i]:.4g} to {model.high[i]:.4g}) "
        f"{_unit(data, i)}".rstrip()
        for i, name in enumerate(model.feature_names[shown])
    ]
    axes.boxplot(
        spread,
        orientation="horizontal",
        tick_labels=labels,
        flierprops={"marker": ".", "markersize": 2, "markeredgecolor": INK},
        medianprops={"color": ALERT},
    )
    axes.tick_params(axis="y", labelsize=8)
    return figure


def _detectable_step(model: TrainedModel, data: FigureData) -> Figure | None:
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
            axes.text(size if known else SMALLEST / 2, place, said, va="center", fontsize=8,
                      color=INK if known else ALERT)  # fmt: skip
    axes.set_yticks(
        np.arange(len(measured)), [_with_unit(model, data, i) for i in measured.tolist()]
    )
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    return figure


def _drivers(model: TrainedModel, shares: Floats) -> Figure:
    figure, axes = _figure_by_sensor(
        f"{model.algorithm}: sensors behind the {len(shares)} most unusual training rows",
        "mean share of the surprise, in %",
        model.n_features,
    )
    mean = 100.0 * shares.mean(axis=0)
    first = np.argsort(-mean)[:MOST_SENSORS]
    bars = axes.barh([literal(model.feature_names[i]) for i in first], mean[first], color=ACCENT)
    axes.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=8)
    return figure


def _loss(model: TrainedModel, data: FigureData) -> Figure:
    figure, axes = _figure(
        f"{model.algorithm}: loss by epoch", "epoch", "mean squared error, standard deviations²"
    )
    best = len(data.loss_by_epoch)
    named = {"training, up to the best epoch": data.loss_by_epoch,
             "validation": data.validation_loss_by_epoch}  # fmt: skip
    for (label, losses), color in zip(named.items(), (ACCENT, INK), strict=True):
        if len(losses):
            axes.plot(range(1, len(losses) + 1), losses, marker="o", markersize=3, color=color,
                      label=label)  # fmt: skip
    axes.axvline(best, color=ALERT, linestyle="--", label=f"best epoch, {best}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _reconstruction_error(model: TrainedModel, data: FigureData) -> Figure:
    figure, axes = _figure(
        f"{model.algorithm}: reconstruction error over the training rows",
        "",
        "mean squared error, standard deviations²",
    )
    limit = model.calibration.raw_threshold(1.0 - model.threshold)
    x = _places(data)
    axes.plot(broken(x, x), broken(model.raw_scores(data.windows), x), color=ACCENT, linewidth=0.8,
              label="window that ends with the row")  # fmt: skip
    axes.axhline(limit, color=ALERT, label=f"at the threshold: {limit:.3g}")
    _label_places(axes, data)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _places(data: FigureData) -> Floats:
    """Return where the sampled rows stand on the axis: days since 1970, or their numbers."""
    if len(data.days):
        return data.days
    return np.arange(1.0, data.n_rows + 1.0, stride(data.n_rows))


def _label_places(axes: Axes, data: FigureData) -> None:
    """Label the axis of the rows."""
    if len(data.days) and data.days[-1] > data.days[0]:
        mark_times(axes, most=8)
        axes.xaxis.get_offset_text().set_fontsize(8)
        axes.set(xlabel="time, UTC", xlim=(data.days[0], data.days[-1]))
    else:
        axes.set(xlabel="row", xlim=(1, max(data.n_rows, 2)))


def _with_unit(model: TrainedModel, data: FigureData, column: int) -> str:
    return with_unit(literal(model.feature_names[column]), _unit(data, column))


def _unit(data: FigureData, column: int) -> str:
    return literal(str(data.units[column])) if len(data.units) else ""
