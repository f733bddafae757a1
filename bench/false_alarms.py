"""How many false alarms healthy machines raise, beside those asked for.

Fills the table of docs/concepts/false-alarms.md.

python bench/false_alarms.py [--quick] [--seeds 500:505]

Machines of ``faulty_machines.py``, healthy all the time, are trained in each way of operation, on
2000 and on 500 rows, and then watched for 100 000 readings, one a minute. Each is judged once, and
concluded for each rate of ``VIGIE_FALSE_ALARMS_PER_MONTH``. The LSTM autoencoder is left out, since
its trainings take most of the time. The same measurement tells which limit of the evidence gives
which rate, ``Limits.false_alarms``; take other seeds for one than for the other.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from faulty_machines import MEMORY, N_SENSORS, Machine
from figures import filled, machine
from rich.console import Console

from vigie.assessment.assessment import Assessment
from vigie.assessment.engine import conclude
from vigie.assessment.false_alarms import MONTH_S
from vigie.config import Settings
from vigie.detectors.catalogue import checked_names
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService

DOCUMENT = Path(__file__).resolve().parents[1] / "docs/concepts/false-alarms.md"
INTERVAL_S = 60.0
WATCHED = 100_000
"""Readings of each machine after its training."""
TRAINED_ON = (2000, 500)
ASKED = (None, 10.0, 3.0, 1.0, 0.3)
"""False alarms a month; None for the default."""
COLUMNS = [f"sensor_{number}" for number in range(1, N_SENSORS + 1)]

console = Console(stderr=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and fill the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, shown, not written")
    parser.add_argument("--seeds", default="500:505", help="first seed, and the one after the last")
    given = parser.parse_args(arguments)
    logging.getLogger("vigie").setLevel(logging.ERROR)
    first, stop = map(int, given.seeds.split(":"))
    seeds = range(first, first + 1 if given.quick else stop)
    found: dict[int, list[list[float]]] = {rows: [] for rows in TRAINED_ON}
    for train_rows, rates in found.items():
        for seed in seeds:
            for pattern in MEMORY:
                rates.append(_months(pattern, seed, train_rows))
                console.print(train_rows, pattern, seed, *(f"{rate:.2f}" for rate in rates[-1]))
    block = _told(found)
    if given.quick:
        Console(highlight=False, soft_wrap=True).print(block, markup=False)
        return
    text = filled(DOCUMENT.read_text(encoding="utf-8"), "false alarms", block)
    DOCUMENT.write_text(text, encoding="utf-8")
    console.print(f"{DOCUMENT.name} is written.")


def _months(pattern: str, seed: int, train_rows: int) -> list[float]:
    """Return the alarms a month of one healthy machine, for each of ``ASKED``."""
    rows = pd.DataFrame(Machine(pattern, seed).run(train_rows + WATCHED), columns=COLUMNS)
    service = AnomalyDetectionService(Settings.model_construct(mlflow_enabled=False))
    names = [name for name in checked_names(None) if name != LSTMAutoencoderService.name]
    service.train_all_models(rows[:train_rows], model_names=names)
    times = np.datetime64("2026-01-05", "us") + np.arange(len(rows)) * np.timedelta64(60, "s")
    judged = service.detect_table(rows[train_rows:], times[train_rows:])
    return [_alarms(judged, asked) * MONTH_S / (WATCHED * INTERVAL_S) for asked in ASKED]


def _alarms(judged: Assessment, asked: float | None) -> int:
    """Return how many alarms there are if so many are asked for a month."""
    ensemble = replace(judged.ensemble, false_alarms_per_month=asked)
    concluded = conclude(ensemble, judged.scores, judged.rows, judged.earlier, None)
    return int((np.diff(concluded.in_alarm.astype(int), prepend=0) == 1).sum())


def _told(found: dict[int, list[list[float]]]) -> str:
    header = ["asked for, a month", "trained on, rows", "measured: mean", "median"]
    header += ["nine of ten below", "largest", "machines with more than asked"]
    lines: list[list[Any]] = []
    for train_rows, rates in found.items():
        for number, asked in enumerate(ASKED):
            own = np.array([of_machine[number] for of_machine in rates])
            more = "–" if asked is None else f"{int((own > asked).sum())} of {len(own)}"
            most = np.percentile(own, 90, method="higher")
            figures = (own.mean(), np.median(own), most, own.max())
            shown = [f"{figure:.2g}" for figure in figures]
            lines.append(["(default)" if asked is None else f"{asked:g}", train_rows, *shown, more])
    table = [header, ["---"] * len(header), *lines]
    return (
        "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in table)
        + f"\n\nMeasured on {machine()}."
    )


if __name__ == "__main__":
    main()
