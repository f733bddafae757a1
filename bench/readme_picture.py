"""The picture of the README: a bearing wears, and what Vigie says of it.

python bench/readme_picture.py docs/images/replay.png
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vigie import samples
from vigie.config import Settings
from vigie.services.anomaly_detection_service import AnomalyDetectionService

INK, ACCENT, ALERT = "#33415c", "#3a86c8", "#d1495b"
SHOWN = ("vibration_kurtosis", "vibration_rms", "bearing_temperature")
TOP = 6.0
LEVELS = ("low", "medium", "high", "critical")


def main(target: Path) -> None:
    """Train on the healthy bench, replay a fault, and draw both."""
    names = list(samples.FEATURE_NAMES)
    units = {sensor.name: sensor.unit for sensor in samples.SENSORS}
    fault = samples.faulty("bearing_wear", 1000, onset=400)
    with tempfile.TemporaryDirectory() as state:
        service = AnomalyDetectionService(Settings(mlflow_enabled=False, state_dir=Path(state)))
        service.train_all_models(samples.healthy(2000).data, names)
        judged = service.detect_table(pd.DataFrame(fault.data, columns=names))
    surprise = np.minimum(-np.log10(judged.p_values), TOP)
    in_alarm = np.flatnonzero(judged.in_alarm)
    last = int(in_alarm[-1])
    leader = judged.trend_reasons(np.array([last]))[last][0]
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    axes = figure.subplots(len(SHOWN) + 1, 1, sharex=True, height_ratios=[1, 1, 1, 2])
    for axis, name in zip(axes, SHOWN, strict=False):
        unit = "" if units[name] == "1" else f" ({units[name]})"
        axis.plot(fault.data[:, names.index(name)], color=INK, linewidth=0.8)
        axis.set_title(name.replace("_", " ") + unit, loc="left", fontsize=9)
    verdict = axes[-1]
    alarmed = judged.is_anomaly
    verdict.plot(surprise, color=ACCENT, linewidth=0.8)
    verdict.plot(np.flatnonzero(alarmed), surprise[alarmed], ".", color=ALERT, markersize=3)
    for decade, level in enumerate(LEVELS):
        verdict.axhline(2 + decade, color=ALERT, linewidth=0.5, alpha=0.6)
        verdict.text(4, 2.06 + decade, level, fontsize=8, color=ALERT)
    verdict.set(ylim=(0, TOP + 1.0), xlabel="seconds", yticks=[2, 3, 4, 5])
    verdict.set_yticklabels(["1 in 100", "1 in 1,000", "1 in 10,000", "1 in 100,000"], fontsize=8)
    verdict.set_title(
        "each reading: how rarely a healthy machine looks like this; on top: alarm of the asset",
        loc="left",
        fontsize=9,
    )
    verdict.plot(in_alarm, np.full(len(in_alarm), TOP + 0.5), "|", color=ALERT, markersize=7)
    verdict.annotate(
        f"alarm: {leader.name.replace('_', ' ')}, {leader.share:.0%} of it",
        (in_alarm[0], TOP + 0.5),
        (-6, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=8,
        color=ALERT,
    )
    for axis in axes:
        axis.axvspan(400, len(surprise), color=ALERT, alpha=0.05)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
    axes[0].annotate("the bearing begins to wear", (400, axes[0].get_ylim()[1]), (6, -8),
                     textcoords="offset points", fontsize=8, color=ALERT)  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=130)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
