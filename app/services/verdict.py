"""One verdict from several models: how sure, how bad, and which sensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.detectors.base import Floats
from app.detectors.calibration import combine
from app.models.anomaly_data import CriticalityLevel, ModelVerdict, SensorContribution
from app.services.detector_service import Served

LEVELS = tuple(CriticalityLevel)


@dataclass(frozen=True)
class Asked:
    """What one model is asked.

    Attributes
    ----------
    served : Served
        The model, its version and stage.
    rows : ndarray of int of shape (n_asked,)
        The readings that it can judge, by position.
    examples : ndarray of shape (n_asked, ...)
        What it looks at for each.
    """

    served: Served
    rows: NDArray[np.intp]
    examples: Floats


@dataclass(frozen=True)
class Judged:
    """What the models say of ``n`` readings, one by one and together.

    Attributes
    ----------
    asked : mapping of str to Asked
        By model name.
    raw, p_values : mapping of str to ndarray of shape (n,)
        Raw scores and p-values by model name; NaN where it abstains.
    combined : ndarray of shape (n,)
        The p-value of all models together; NaN where all abstain.
    contamination : float
        The p-value below which a reading is an anomaly.
    """

    asked: Mapping[str, Asked]
    raw: Mapping[str, Floats]
    p_values: Mapping[str, Floats]
    combined: Floats
    contamination: float

    @property
    def is_anomaly(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.combined < self.contamination
        return found

    def verdicts(self, row: int) -> dict[str, ModelVerdict]:
        """Return what each model that answered says of one reading."""
        found = {}
        for name, asked in self.asked.items():
            p_value, served = float(self.p_values[name][row]), asked.served
            if np.isnan(p_value):
                continue
            found[name] = ModelVerdict(
                score=1.0 - p_value,
                threshold=served.model.threshold,
                is_anomaly=1.0 - p_value > served.model.threshold,
                version=served.version,
                stage=served.stage,
                reconstruction_error=(
                    float(self.raw[name][row]) if served.model.window > 1 else None
                ),
            )
        return found


def criticality(p_value: float, contamination: float) -> CriticalityLevel | None:
    """Return how bad a reading is: a level for each decade of p below the contamination."""
    if not p_value < contamination:
        return None
    return LEVELS[min(int(np.log10(contamination / p_value)), len(LEVELS) - 1)]


def judge(asked: Mapping[str, Asked], n: int, contamination: float) -> Judged:
    """Score ``n`` readings by all models, and combine what they say."""
    raw, p_values = {}, {}
    for name, question in asked.items():
        raw[name], p_values[name] = np.full(n, np.nan), np.full(n, np.nan)
        scores = question.served.model.raw_scores(question.examples)
        raw[name][question.rows] = scores
        p_values[name][question.rows] = question.served.model.calibration.p_value(scores)
    return Judged(asked, raw, p_values, combine(np.stack(list(p_values.values()))), contamination)


def reasons(judged: Judged) -> dict[int, list[SensorContribution]]:
    """Return for each anomalous reading its sensors, the largest share of the surprise first.

    The shares of several models are averaged, each weighted by how surprised the model is.
    """
    rows = np.flatnonzero(judged.is_anomaly)
    if len(rows) == 0:
        return {}
    weighted: dict[str, Floats] = {}
    lookers: dict[str, list[tuple[Asked, int]]] = {}
    total = np.zeros(len(rows))
    for name, question in judged.asked.items():
        places = np.flatnonzero(np.isin(question.rows, rows))
        target = np.searchsorted(rows, question.rows[places])
        weight = -np.log10(judged.p_values[name][question.rows[places]])
        total[target] += weight
        shares = question.served.model.explain(question.examples[places])
        for position, sensor in enumerate(question.served.model.feature_names):
            sums = weighted.setdefault(sensor, np.zeros(len(rows)))
            sums[target] += weight * shares[:, position]
            lookers.setdefault(sensor, []).append((question, position))
    sensors = list(weighted)
    shares = np.stack([weighted[sensor] for sensor in sensors], axis=1) / total[:, None]
    found = {}
    for place, row in enumerate(rows):
        ranked = np.argsort(-shares[place], kind="stable")
        contributions = (
            _contribution(sensors[i], float(shares[place, i]), lookers[sensors[i]], int(row))
            for i in ranked
        )
        found[int(row)] = [sensor for sensor in contributions if sensor is not None]
    return found


def _contribution(
    sensor: str, share: float, lookers: Sequence[tuple[Asked, int]], row: int
) -> SensorContribution | None:
    """Return the facts of a sensor by a model that has judged the row, if there is one."""
    for question, position in lookers:
        place = np.searchsorted(question.rows, row)
        if place < len(question.rows) and question.rows[place] == row:
            model = question.served.model
            value = float(question.examples[place][..., position].flat[-1])
            low, high = float(model.low[position]), float(model.high[position])
            return SensorContribution(
                name=sensor,
                share=share,
                value=value,
                usual=float(model.usual[position]),
                low=low,
                high=high,
                direction="above" if value > high else "below" if value < low else "within",
            )
    return None
