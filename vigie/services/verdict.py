"""One verdict from several models: on a reading, on its asset, and which sensors it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats
from vigie.detectors.calibration.combination import combine
from vigie.detectors.trained import TrainedModel
from vigie.models.anomaly_data import AssetState, CriticalityLevel, ModelVerdict, SensorContribution
from vigie.services import asset
from vigie.services.asset import Standing
from vigie.services.detector_service import Served
from vigie.services.sensors import Examined
from vigie.services.timeline import Timeline, as_datetime

LEVELS = tuple(CriticalityLevel)
ALARM = AssetState.ALARM
BLOCK = 16_384
"""Readings judged at a time, so that memory stays bounded however long the input is."""
LOOK_BACK = 2 * asset.READINGS
"""Rows among which the beginning of a change is looked for."""

Rows = Sequence[int] | NDArray[np.intp]


@dataclass(frozen=True)
class Judged:
    """What the models say of the last ``n`` rows of a timeline, one by one and together.

    Attributes
    ----------
    serving : mapping of str to Served
        The models that were asked, by name.
    timeline : Timeline
        The rows, with those before the first one judged.
    first : int
        Where in the timeline the first of the judged rows stands.
    raw, p_values : mapping of str to ndarray of shape (n,)
        Raw scores and p-values of the readings by model name; NaN where it abstains.
    trends : mapping of str to ndarray of shape (n,)
        p-values of the asset by model name; only of models with a trend that has rows enough.
    before : ndarray of shape (n_rows - n,)
        p-values, as ``supported`` gives them, of the rows that were judged earlier.
    contamination : float
        The p-value below which a reading is an anomaly.
    examined : Examined or None
        Of a table: what is wrong with its sensors.
    """

    serving: Mapping[str, Served]
    timeline: Timeline
    first: int
    raw: Mapping[str, Floats]
    p_values: Mapping[str, Floats]
    trends: Mapping[str, Floats]
    before: Floats
    contamination: float
    examined: Examined | None = None

    def __len__(self) -> int:
        return len(self.timeline.times) - self.first

    @cached_property
    def combined(self) -> Floats:
        """The p-value of each reading by all models together, NaN where all abstain; (n,)."""
        return _combined(list(self.p_values.values()))

    @property
    def is_anomaly(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.combined < self.contamination
        return found

    @cached_property
    def supported(self) -> Floats:
        """The p-value of each reading as far as it can add up with others; shape (n,).

        No calibration on n rows shows anything rarer than one in n + 1, however far its tail is
        continued, and evidence that adds up must not add up guesses. Nor must one odd reading
        count many times, as it would in every window that it is part of: models of windows do
        not take part, and where there are no others it is NaN.
        """
        single = [name for name, served in self.serving.items() if served.model.window == 1]
        if not single:
            return _nothing(len(self))
        return _combined([self._supported(name) for name in single])

    @cached_property
    def asset(self) -> Floats:
        """The p-value of the asset at each reading, NaN while nothing can be said; (n,)."""
        if not self.trends and len(self.timeline.times) < asset.READINGS:
            return _nothing(len(self))
        readings = np.concatenate([self.before, self.supported])
        together = asset.together(readings, self.timeline.reach[self.first :])
        return asset.evidence(list(self.trends.values()), together)

    def alone(self, name: str) -> Judged:
        """Return what one model says, as if it had been asked alone."""
        return replace(
            self,
            serving={name: self.serving[name]},
            raw={name: self.raw[name]},
            p_values={name: self.p_values[name]},
            trends={name: self.trends[name]} if name in self.trends else {},
        )

    def standings(self, before: Standing | None = None) -> list[Standing]:
        """Return the state of the asset after each reading, from the one before the first."""
        times = self.timeline.times[self.first :]
        found = asset.follow(before, times, self.asset, self.contamination)
        began: np.datetime64 | None = None
        for row, standing in enumerate(found):
            if standing.state is ALARM and standing.began is None:
                if row == 0 or found[row - 1].since != standing.since:
                    began = self.began(row)
                found[row] = replace(standing, began=began)
        return found

    def verdicts(self, row: int) -> dict[str, ModelVerdict]:
        """Return what each model that answered says of one reading."""
        found = {}
        for name, served in self.serving.items():
            score, model = 1.0 - self.p_values[name].item(row), served.model
            if isnan(score):
                continue
            found[name] = ModelVerdict(
                score=score,
                threshold=model.threshold,
                is_anomaly=score > model.threshold,
                version=served.version,
                stage=served.stage,
                reconstruction_error=self.raw[name].item(row) if model.reconstructs else None,
            )
        return found

    def reasons(self, rows: Rows) -> dict[int, list[SensorContribution]]:
        """Return the sensors that readings come from, the largest share of the surprise first."""
        models = ((name, served.model) for name, served in self.serving.items())
        return self._reasons(models, self.p_values, rows)

    def trend_reasons(self, rows: Rows) -> dict[int, list[SensorContribution]]:
        """Return the sensors that the state of the asset comes from, at these readings."""
        models = ((name, self.serving[name].model.trend) for name in self.trends)
        return self._reasons(models, self.trends, rows)

    def _reasons(
        self,
        models: Iterable[tuple[str, TrainedModel | None]],
        p_values: Mapping[str, Floats],
        rows: Rows,
    ) -> dict[int, list[SensorContribution]]:
        """Return for each row its sensors, by every model that has judged it.

        The shares of several models are averaged, each weighted by how surprised the model is.
        """
        if len(rows) == 0:
            return {}
        rows = np.asarray(rows, dtype=np.intp)
        found: dict[int, dict[str, SensorContribution]] = {row: {} for row in rows.tolist()}
        weights = dict.fromkeys(found, 0.0)
        for name, model in models:
            if model is None:
                continue
            judged = rows[~np.isnan(p_values[name][rows])]
            why = model.explain(examples(model, self.timeline, self.first + judged))
            for place, row in enumerate(judged.tolist()):
                weight = -float(np.log10(p_values[name][row]))
                weights[row] += weight
                for column, sensor in enumerate(model.feature_names):
                    known = found[row].get(sensor)
                    if known is None:
                        known = _contribution(model, column, float(why.values[place, column]))
                    known.share += weight * float(why.shares[place, column])
                    if why.readings_ago is not None:
                        known.readings_ago = ago = int(why.readings_ago[place, column])
                        known.when = as_datetime(self.timeline.times[self.first + row - ago])
                    found[row][sensor] = known
        told = {}
        for row, sensors in found.items():
            if sensors and weights[row] > 0:
                told[row] = sorted(sensors.values(), key=lambda sensor: -sensor.share)
                for contribution in told[row]:
                    contribution.share /= weights[row]
        return told

    def _supported(self, name: str) -> Floats:
        n_samples = self.serving[name].model.calibration.n_samples
        return np.maximum(self.p_values[name], 1.0 / (n_samples + 1))

    def began(self, row: int) -> np.datetime64:
        """Return when the sensor that drives an alarm changed, seen from the row that raised it."""
        stop = self.first + row + 1
        start = stop - min(LOOK_BACK, int(self.timeline.reach[stop - 1]))
        why = self.trend_reasons([row]) or self.reasons([row])
        if why:
            first = why[row][0]
            values = self.timeline.rows((first.name,), slice(start, stop))[:, 0]
            # One absurd value must not draw the change to itself.
            room = 2.0 * (first.high - first.low)
            limited = np.clip(values, first.low - room, first.high + room)
            start += asset.where_it_began(np.where(np.isnan(limited), first.usual, limited))
        began: np.datetime64 = self.timeline.times[start]
        return began


def examples(model: TrainedModel, timeline: Timeline, at: NDArray[np.intp]) -> Floats:
    """Return what a model looks at for the rows ``at``; NaN where it cannot look.

    A sensor without a usable value counts as its usual one, as long as others have a value.
    """
    if model.window == 1:
        return _imputed(model, timeline, timeline.rows(model.feature_names, at))
    return _imputed(model, timeline, timeline.windows(model.feature_names, model.window, at))


def _imputed(model: TrainedModel, timeline: Timeline, rows: Floats) -> Floats:
    """Return rows (..., n_features) with the usual value of each sensor that lacks one."""
    if timeline.complete:
        return rows
    missing = np.isnan(rows)
    return np.where(missing & ~missing.all(axis=-1, keepdims=True), model.usual, rows)


def judge(
    serving: Mapping[str, Served],
    timeline: Timeline,
    first: int,
    before: Floats,
    contamination: float,
    silent: Mapping[str, NDArray[np.bool_]] = {},
) -> Judged:
    """Ask all models about the last rows of a timeline; see ``Judged`` for the parameters.

    A model does not look at the rows that ``silent`` marks for it, shape (n,).
    """
    n_rows = len(timeline.times)
    raw, p_values, trends = {}, {}, {}
    for name, served in serving.items():
        model, trend = served.model, served.model.trend
        if n_rows >= _needed(model):
            raw[name] = _raw_scores(model, timeline, first)
            if name in silent:
                raw[name][silent[name]] = np.nan
            p_values[name] = model.calibration.p_value(raw[name])
        else:
            raw[name] = p_values[name] = _nothing(n_rows - first)
        if trend is not None and n_rows >= _needed(trend):
            trends[name] = trend.calibration.p_value(_raw_scores(trend, timeline, first))
    return Judged(serving, timeline, first, raw, p_values, trends, before, contamination)


def look_back(serving: Mapping[str, Served]) -> int:
    """Return how many earlier readings a verdict may look at."""
    rows = [LOOK_BACK]
    for served in serving.values():
        model = served.model
        rows += [model.window]
        rows += [model.trend.window] if model.trend is not None else []
    return max(rows)


def criticality(p_value: float, contamination: float) -> CriticalityLevel | None:
    """Return how bad a reading is: a level for each decade of p below the contamination."""
    if not p_value < contamination:
        return None
    return LEVELS[int(levels(np.array([p_value]), contamination)[0])]


def levels(p_values: Floats, contamination: float) -> NDArray[np.intp]:
    """Return how bad readings are, as places in ``LEVELS``; -1 where they are no anomalies."""
    decades = np.log10(contamination / np.where(p_values < contamination, p_values, contamination))
    found = np.minimum(decades.astype(np.intp), len(LEVELS) - 1)
    return np.where(p_values < contamination, found, -1)


def _nothing(n: int) -> Floats:
    """Return what is said where nothing can be; for one number ``np.full`` takes twice as long."""
    found = np.empty(n)
    found.fill(np.nan)
    return found


def _combined(p_values: Sequence[Floats]) -> Floats:
    return p_values[0] if len(p_values) == 1 else combine(np.array(p_values))


def _needed(model: TrainedModel) -> int:
    """Return the rows without which a model has nothing to say; averages can do with fewer."""
    spare = model.params.get("averaged_rows", 0) - model.params.get("averaged_at_least", 0)
    return model.window - int(spare)


def _raw_scores(model: TrainedModel, timeline: Timeline, first: int) -> Floats:
    """Return the scores of the rows from the first one on."""
    n_rows, scores = len(timeline.times), []
    for start in range(first, n_rows, BLOCK):
        stop = min(start + BLOCK, n_rows)
        rows, windows = timeline.stretch(model.feature_names, model.window, start, stop)
        found = model.raw_scores_along(_imputed(model, timeline, rows))
        scores.append(found[windows])
    return scores[0] if len(scores) == 1 else np.concatenate([np.empty(0), *scores])


def _contribution(model: TrainedModel, column: int, value: float) -> SensorContribution:
    low, high = float(model.low[column]), float(model.high[column])
    return SensorContribution(
        name=model.feature_names[column],
        share=0.0,
        value=value,
        usual=float(model.usual[column]),
        low=low,
        high=high,
        direction="above" if value > high else "below" if value < low else "within",
    )
