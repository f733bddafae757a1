"""The pictures of Concepts, drawn from real verdicts.

``python docs/pictures.py`` trains on ``getting-started/healthy.csv``, judges ``today.csv`` and
writes PNG files into ``docs/images/``. Their ground is transparent, and their ink can be read on a
light page and on a dark one.
"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch

from vigie import samples
from vigie.assessment.assessment import Assessment
from vigie.config import Settings
from vigie.services.anomaly_detection_service import AnomalyDetectionService

HERE = Path(__file__).parent
IMAGES = HERE / "images"
INK, BLUE, RED, GREEN, AMBER = "#7d8590", "#3a86c8", "#d1495b", "#2a9d8f", "#d98c1f"
STATES = {
    "unknown": INK,
    "normal": GREEN,
    "watch": AMBER,
    "drift": "#8e6bbf",
    "bad_data": "#6c757d",
    "unknown_operating_point": BLUE,
    "alarm": RED,
}
TOP = 6.0
ODDS = {2: "1 in 100", 3: "1 in 1,000", 4: "1 in 10,000", 5: "1 in 100,000", 6: "1 in a million"}
"""Labels of -log10 p; beyond one in a million only the order counts."""

mpl.rcParams.update(
    {
        "savefig.transparent": True,
        "font.size": 11,
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
        ),
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def main() -> None:
    """Train, judge and draw."""
    healthy = pd.read_csv(HERE / "getting-started/healthy.csv", parse_dates=["time"])
    today = pd.read_csv(HERE / "getting-started/today.csv", parse_dates=["time"])
    names = [name for name in healthy if name != "time"]
    with tempfile.TemporaryDirectory() as state:
        service = AnomalyDetectionService(Settings(mlflow_enabled=False, state_dir=Path(state)))
        service.train_all_models(healthy[names].to_numpy(), names)
        judged = service.detect_table(today[names])
        stuck = today[names].copy()
        stuck.loc[200:500, "flow [L/min]"] = stuck.loc[199, "flow [L/min]"]
        fleet = {
            "pump-7": judged,
            "pump-8": service.detect_table(calm(names, len(today))),
            "pump-9": service.detect_table(stuck.iloc[:500]),
        }
        draw("concept-score", score_picture(judged))
        draw("concept-event", event_picture(today, judged))
        draw("concept-alarm", alarm_picture(today, judged))
        draw("concept-asset", asset_picture(today, fleet))
        draw("concept-model", model_picture())


def calm(names: list[str], n: int) -> pd.DataFrame:
    """Return another healthy machine, with the columns of the files."""
    recording = samples.healthy(n, seed=7)
    columns = {
        "vibration [mm/s]": "vibration_rms",
        "bearing temperature [degC]": "bearing_temperature",
        "outlet pressure [bar]": "outlet_pressure",
        "flow [L/min]": "flow_rate",
        "motor current [A]": "motor_current",
    }
    places = [recording.feature_names.index(columns[name]) for name in names]
    return pd.DataFrame(recording.data[:, places], columns=names)


def surprise(p_values: np.ndarray) -> np.ndarray:
    """Return -log10 p, at most that of one in a million."""
    return np.minimum(-np.log10(np.nan_to_num(p_values, nan=1.0)), TOP)


def states(judged: Assessment) -> list[str]:
    """Return the state of the asset after each reading."""
    return [judged.status(row).state.value for row in range(len(judged))]


def strip(
    axis: Axes, times: pd.Series, names: list[str], height: float = 1.0, at: float = 0
) -> None:
    """Draw the states of an asset as a colored strip."""
    changes = [0, *(i for i in range(1, len(names)) if names[i] != names[i - 1]), len(names)]
    for start, end in pairwise(changes):
        stop = times.iloc[min(end, len(times) - 1)]
        axis.barh(
            at,
            stop - times.iloc[start],
            left=times.iloc[start],
            height=height,
            color=STATES[names[start]],
            linewidth=0,
        )


def by_time(axis: Axes) -> None:
    """Write hours and minutes below an axis."""
    axis.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))
    axis.margins(x=0)


def odds_axis(axis: Axes, lowest: int = 2) -> None:
    """Label an axis of surprise by how rare a reading is."""
    shown = {place: text for place, text in ODDS.items() if place >= lowest}
    axis.set(ylim=(0, TOP + 0.4), yticks=list(shown), yticklabels=list(shown.values()))


def score_picture(judged: Assessment) -> Figure:
    """Draw how rare healthy readings look, with the threshold and one reading of today."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axis = figure.subplots()
    healthy = surprise(judged.p_values[:290])
    axis.hist(healthy, bins=np.arange(0, 3.1, 0.1), color=GREEN, alpha=0.75)
    axis.text(0.45, axis.get_ylim()[1] * 0.6, "readings of a\nhealthy pump", color=GREEN)
    axis.axvline(2, color=RED, linestyle="--", linewidth=1.2)
    axis.text(2.04, axis.get_ylim()[1] * 0.93, "threshold: score 0.99", color=RED, va="top")
    axis.annotate(
        "a worn bearing:\nscore 0.9999",
        (4, 1),
        (4, axis.get_ylim()[1] * 0.45),
        color=BLUE,
        ha="center",
        arrowprops={"arrowstyle": "->", "color": BLUE},
    )
    axis.set(
        xlim=(0, 6.2),
        xticks=range(7),
        xticklabels=["all", "1 in 10", *ODDS.values()],
        xlabel="share of healthy readings that look at least as unusual",
        ylabel="readings",
    )
    return figure


def event_picture(today: pd.DataFrame, judged: Assessment) -> Figure:
    """Draw readings, and the two events that they make."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axis = figure.subplots()
    rows = slice(380, 640)
    rare, odd = surprise(judged.p_values), judged.is_anomaly
    times = today["time"]
    axis.vlines(times[rows], 0, rare[rows], color=np.where(odd, RED, BLUE)[rows], linewidth=1.1)
    axis.axhline(2, color=RED, linestyle="--", linewidth=1)
    odds_axis(axis)
    by_time(axis)
    alarm = np.flatnonzero(judged.in_alarm)[0]
    for first, last, label, colour in (
        (414, 441, "event 1:\nisolated anomalies", AMBER),
        (484, alarm - 1, "event 2", AMBER),
        (alarm, 639, "event 3: alarm", RED),
    ):
        axis.plot(
            times.iloc[[first, last]],
            [TOP + 0.3] * 2,
            color=colour,
            linewidth=5,
            solid_capstyle="butt",
            clip_on=False,
        )
        axis.annotate(
            label,
            (times.iloc[first], TOP + 0.1),
            (0, -3),
            textcoords="offset points",
            color=colour,
            va="top",
            fontsize=10,
        )
    return figure


def alarm_picture(today: pd.DataFrame, judged: Assessment) -> Figure:
    """Draw single readings, the evidence of the latest ones, and the state that follows."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 0.7])
    for axis, p_values, title in (
        (axes[0], judged.p_values, "single readings: many are unusual for a moment"),
        (axes[1], judged.asset_p_values, "evidence: what the latest readings say together"),
    ):
        axis.plot(today["time"], surprise(p_values), color=BLUE, linewidth=0.9)
        axis.set_title(title, loc="left", fontsize=11)
        odds_axis(axis)
    axes[1].axhline(-np.log10(judged.alarm_limit), color=RED, linestyle="--", linewidth=1)
    axes[1].annotate(
        "limit of an alarm",
        (today["time"].iloc[0], -np.log10(judged.alarm_limit)),
        (4, 4),
        textcoords="offset points",
        color=RED,
    )
    names = states(judged)
    strip(axes[2], today["time"], names)
    axes[2].set(yticks=[0], yticklabels=["state"])
    for name in dict.fromkeys(names):
        middle = np.flatnonzero(np.array(names) == name)
        if len(middle) > 90:
            axes[2].text(
                today["time"].iloc[int(np.median(middle))],
                0,
                name,
                color="white",
                ha="center",
                va="center",
            )
    by_time(axes[2])
    return figure


def asset_picture(today: pd.DataFrame, fleet: dict[str, Assessment]) -> Figure:
    """Draw the states of three assets that one set of models judges."""
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axis = figure.subplots()
    seen: dict[str, None] = {}
    for place, judged in enumerate(fleet.values()):
        names = states(judged)
        seen |= dict.fromkeys(names)
        strip(axis, today["time"].iloc[: len(names)], names, height=0.6, at=-place)
    axis.set(yticks=[-i for i in range(len(fleet))], yticklabels=list(fleet))
    axis.legend(
        handles=[Patch(color=STATES[name], label=name) for name in seen],
        frameon=False,
        ncols=len(seen),
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )
    by_time(axis)
    return figure


def model_picture() -> Figure:
    """Draw how rows become a version, and which version serves."""
    figure = Figure(figsize=(9, 3.3), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(0, 12), ylim=(0, 5))
    axis.set_axis_off()

    def box(x: float, y: float, width: float, text: str, colour: str, height: float = 0.9) -> None:
        axis.add_patch(
            FancyBboxPatch(
                (x, y),
                width,
                height,
                boxstyle="round,pad=0.06",
                fill=False,
                edgecolor=colour,
                linewidth=1.6,
            )
        )
        axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=colour)

    def arrow(start: tuple[float, float], end: tuple[float, float], text: str = "") -> None:
        axis.add_patch(FancyArrowPatch(start, end, arrowstyle="->", mutation_scale=14, color=INK))
        axis.text(
            (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.18, text, ha="center", fontsize=10
        )

    box(0.1, 1.9, 1.9, "healthy.csv\n2000 rows", INK)
    arrow((2.15, 2.35), (3.6, 2.35), "train")
    axis.text(5.05, 4.55, "isolation_forest", ha="center", color=BLUE)
    for y, text, colour in (
        (3.3, "version 1  Archived", INK),
        (1.9, "version 2  Production", GREEN),
        (0.5, "version 3  None", INK),
    ):
        box(3.7, y, 2.9, text, colour)
    arrow((6.75, 2.35), (8.3, 2.35), "serves")
    box(8.4, 1.9, 1.5, "service", GREEN)
    arrow((10.05, 2.35), (11.0, 2.35))
    axis.text(11.1, 2.35, "verdicts", va="center")
    return figure


def draw(name: str, figure: Figure) -> None:
    """Write a picture at twice the size of the page, for sharp screens."""
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / f"{name}.png", dpi=150)


if __name__ == "__main__":
    main()
