"""Readings judged by the models that serve: one verdict each, and what is remembered of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.config import Settings
from app.detectors.data import as_matrix, as_row
from app.errors import HistoryError, InvalidDataError
from app.history.reading import Reading
from app.models.anomaly_data import (
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
    AssetState,
    AssetVerdict,
)
from app.services.asset import Standing
from app.services.detector_service import Served
from app.services.sensors import Sensors
from app.services.timeline import (
    Timeline,
    Times,
    as_datetime,
    as_datetime64,
    starts_after_gaps,
)
from app.services.verdict import LOOK_BACK, Judged, criticality, judge

if TYPE_CHECKING:
    from app.history.store import History, Turn

logger = logging.getLogger(__name__)

Asset = tuple[str, str | None]
"""Asset and sensor group: what has a history of its own."""
UNSETTLED = (AssetState.WATCH, AssetState.ALARM)
PART = 500
"""Readings of an asset that are judged in one turn of the history."""


class Detection:
    """Judge readings, and keep them in the history.

    Parameters
    ----------
    settings : Settings
        The contamination, the gaps, what to do about faulty values, and where the history is.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self._opening = threading.Lock()
        self._history: History | None = None

    def readings(
        self, serving: Mapping[str, Served], readings: Sequence[AnomalyDetectionRequest]
    ) -> list[AnomalyDetectionResult]:
        """Judge readings; see ``AnomalyDetectionService.detect_anomalies_batch``."""
        sensors = self._sensors(serving)
        lacking = self._lacking(serving, sensors, readings)
        now = datetime.now(UTC)
        # Readings without a time are taken in their order, a microsecond apart.
        times = [
            reading.timestamp or now + timedelta(microseconds=position)
            for position, reading in enumerate(readings)
        ]
        assets: dict[Asset, list[int]] = {}
        for index, reading in enumerate(readings):
            assets.setdefault((reading.asset_id, reading.sensor_id), []).append(index)
        question = _Question(serving, sensors, readings, times, lacking)
        results: dict[int, AnomalyDetectionResult] = {}
        for asset, indices in assets.items():
            results |= self._answer_in_turns(question, asset, indices)
        return [results[index] for index in range(len(readings))]

    def table(
        self,
        serving: Mapping[str, Served],
        X: Any,
        times: Times | None = None,
        faulty_values: str | None = None,
    ) -> Judged:
        """Judge rows of one asset; see ``AnomalyDetectionService.detect_table``."""
        columns = {str(column) for column in X.columns}
        able = {
            name: served
            for name, served in serving.items()
            if columns.issuperset(served.model.feature_names)
        }
        serving = able or serving
        refuse = (faulty_values or self.settings.faulty_values) == "refuse"
        sensors = self._sensors(serving)
        if not refuse and columns.intersection(sensors.names):
            X = X.reindex(columns=sensors.names)
        examined = sensors.examine(as_matrix(X, sensors.names, gaps=not refuse).values)
        if refuse:
            for row in np.flatnonzero(np.isnan(examined.usable).any(axis=1)).tolist():
                examined.refuse(row, f"data[{row}].")
        if times is None:
            times = np.datetime64(0, "us") + np.arange(len(X)) * np.timedelta64(1, "s")
        starts = starts_after_gaps(times, self.settings.max_gap_s)
        timeline = Timeline(times, examined.columns, starts)
        judged = judge(
            serving, timeline, np.arange(len(X)), np.empty(0), self.settings.contamination
        )
        return replace(judged, examined=examined)

    def close(self) -> None:
        """Give back what is held open."""
        if self._history is not None:
            self._history.close()

    def _sensors(self, serving: Mapping[str, Served]) -> Sensors:
        models = (served.model for served in serving.values())
        return Sensors.of(models, self.settings.sensor_ranges)

    def _lacking(
        self,
        serving: Mapping[str, Served],
        sensors: Sensors,
        readings: Sequence[AnomalyDetectionRequest],
    ) -> dict[str, dict[int, str]]:
        """Check the readings; return which model cannot look at which of them, and why.

        Raises
        ------
        InvalidDataError
            If no model can judge a reading, or one is to be refused.
        """
        examined = sensors.examine(sensors.matrix([reading.features for reading in readings]))
        refuse = self.settings.faulty_values == "refuse"
        lacking: dict[str, dict[int, str]] = {name: {} for name in serving}
        for index, reading in enumerate(readings):
            place = f"[{index}]." if len(readings) > 1 else ""
            if refuse:
                examined.refuse(index, f"{place}features.")
            unusable = examined.unusable(index)
            for name, served in serving.items():
                missing = [sensor for sensor in served.model.feature_names if sensor in unusable]
                if missing and (refuse or len(missing) == served.model.n_features):
                    lacking[name][index] = f"the reading lacks {', '.join(missing)}"
            if all(index in found for found in lacking.values()):
                _complain(reading, next(iter(serving.values())).model.feature_names, place)
        return lacking

    def _answer_in_turns(
        self, question: _Question, asset: Asset, indices: list[int]
    ) -> dict[int, AnomalyDetectionResult]:
        """Judge the readings of one asset, in turns so short that others need not wait long."""
        results: dict[int, AnomalyDetectionResult] = {}
        parts = _in_parts(indices, question.times, self.settings.max_gap_s)
        for number, part in enumerate(parts):
            try:
                with self._open_history().turn(*asset) as turn:
                    found, kept = self._answer_for(question, asset, part, turn)
                    turn.append(kept)
                results |= found
            except HistoryError as error:
                # A full disk must not blind the plant: the verdict is given all the same.
                rest = [index for left in parts[number:] for index in left]
                logger.error("%d readings were not kept. %s", len(rest), error)
                return results | self._answer_for(question, asset, rest, None)[0]
        return results

    def _answer_for(
        self, question: _Question, asset: Asset, indices: list[int], turn: Turn | None
    ) -> tuple[dict[int, AnomalyDetectionResult], list[Reading]]:
        """Judge the readings of one asset; return the results, and what is to be remembered."""
        sensors, contamination = question.sensors, self.settings.contamination
        asked_at = [question.times[index] for index in indices]
        past: list[Reading] = []
        if turn is not None:
            past = turn.around(*asset, min(asked_at), max(asked_at), _look_back(question.serving))
        # A reading sent again replaces itself: it is not its own past.
        rows: dict[datetime, Reading | int] = {reading.timestamp: reading for reading in past}
        rows |= {question.times[index]: index for index in indices}
        ordered = sorted(rows.items())
        first = next(place for place, (_, row) in enumerate(ordered) if isinstance(row, int))
        examined = sensors.examine(
            sensors.matrix(
                [
                    question.readings[row].features if isinstance(row, int) else row.features
                    for _, row in ordered
                ]
            ),
            past[0].result.get("held", {}) if past and ordered[0][1] is past[0] else {},
        )
        times = np.array([as_datetime64(moment) for moment, _ in ordered])
        starts = starts_after_gaps(times, self.settings.max_gap_s)
        timeline = Timeline(times, examined.columns, starts)
        # Readings that were kept in between are judged again, for they have a new past.
        at = np.arange(first, len(ordered))
        asked = [row if isinstance(row, int) else None for _, row in ordered[first:]]
        judged = judge(
            question.serving,
            timeline,
            at,
            np.array([_kept_p_value(row) for _, row in ordered[:first]], dtype=float),
            contamination,
            {
                name: np.array([index in found for index in asked])
                for name, found in question.lacking.items()
                if found
            },
        )
        before = _kept_standing(ordered[first - 1][1]) if first > 0 else None
        standings = judged.standings(before)
        if turn is None:
            # A batch may show an alarm by itself, but not that there was none before it.
            standings = [
                replace(found, state=AssetState.UNKNOWN)
                if found.state is AssetState.NORMAL
                else found
                for found in standings
            ]
        new = np.array([place for place, index in enumerate(asked) if index is not None])
        why = judged.reasons(new[judged.is_anomaly[new]])
        unsettled = [p for p in new.tolist() if standings[p].state in UNSETTLED]
        drivers = judged.trend_reasons(np.array(unsettled, dtype=np.intp))
        results: dict[int, AnomalyDetectionResult] = {}
        kept: list[Reading] = []
        # Of two readings with one time, the one given last stands for both.
        for place in new.tolist():
            p_value, evidence = float(judged.combined[place]), float(judged.asset[place])
            moment, standing = ordered[first + place][0], standings[place]
            for index in (i for i in indices if question.times[i] == moment):
                reading = question.readings[index]
                results[index] = AnomalyDetectionResult(
                    asset_id=reading.asset_id,
                    sensor_id=reading.sensor_id,
                    timestamp=moment,
                    models=judged.verdicts(place),
                    abstained=_abstained(judged, place, question.lacking, index, turn),
                    final_score=_score(p_value),
                    threshold=1.0 - contamination,
                    is_anomaly=bool(judged.is_anomaly[place]),
                    criticality=criticality(p_value, contamination),
                    sensors=why.get(place, []),
                    imputed=examined.unusable(first + place) if self._imputes else {},
                    frozen=examined.frozen(first + place),
                    asset=AssetVerdict(
                        state=standing.state,
                        since=as_datetime(standing.since),
                        evidence=_score(evidence),
                        began=None if standing.began is None else as_datetime(standing.began),
                        sensors=drivers.get(place, []),
                    ),
                    metadata=reading.metadata,
                )
            kept.append(
                Reading(
                    *asset,
                    moment,
                    reading.features,
                    _to_keep(judged, place, standing) | {"held": examined.held_for(first + place)},
                )
            )
        return results, kept

    @property
    def _imputes(self) -> bool:
        return self.settings.faulty_values == "impute"

    def _open_history(self) -> History:
        with self._opening:
            if self._history is None:
                # Imported here, for SQLAlchemy would be a third of the service's start.
                from app.history.store import History

                self._history = History(history_url(self.settings))
            return self._history


def history_url(settings: Settings) -> str:
    """Return the URL of the history, with its folder made where it is a file of ours."""
    if settings.history_url:
        return settings.history_url
    folder = Path(settings.state_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistoryError(
            f"The history has no place: {error}.", remedy="Set VIGIE_STATE_DIR to a usable folder."
        ) from error
    return f"sqlite:///{folder / 'history.db'}"


@dataclass(frozen=True)
class _Question:
    """Readings, and what answers them."""

    serving: Mapping[str, Served]
    sensors: Sensors
    readings: Sequence[AnomalyDetectionRequest]
    times: Sequence[datetime]
    lacking: Mapping[str, Mapping[int, str]]


def _in_parts(
    indices: Sequence[int], times: Sequence[datetime], longest_gap_s: float
) -> list[list[int]]:
    """Return readings in time order, in parts that are judged one after the other.

    One stray time must not make a part reach over all that was kept since. Readings of one time
    stay together, for the last one stands for all.
    """
    parts: list[list[int]] = []
    last = datetime.min.replace(tzinfo=UTC)
    for index in sorted(indices, key=lambda index: times[index]):
        hole = times[index] - last > timedelta(seconds=longest_gap_s)
        full = len(parts) > 0 and len(parts[-1]) >= PART and times[index] != last
        if hole or full or not parts:
            parts.append([])
        parts[-1].append(index)
        last = times[index]
    return parts


def _complain(reading: AnomalyDetectionRequest, names: Sequence[str], place: str) -> None:
    """Raise for a reading that no model can judge."""
    try:
        as_row(reading.features, names)
    except InvalidDataError as error:
        error.field = f"{place}{error.field}"
        raise
    raise InvalidDataError(
        "No sensor has a value that can be used.",
        field=f"{place}features",
        remedy="Check the sensors and their units.",
    )


def _look_back(serving: Mapping[str, Served]) -> int:
    """Return how many earlier readings a verdict may look at."""
    rows = [LOOK_BACK]
    for served in serving.values():
        model = served.model
        rows += [model.window]
        rows += [model.trend.window] if model.trend is not None else []
    return max(rows)


def _abstained(
    judged: Judged,
    place: int,
    lacking: Mapping[str, Mapping[int, str]],
    index: int,
    turn: Turn | None,
) -> dict[str, str]:
    """Return the models that say nothing of a reading, and why."""
    reach = int(judged.timeline.reach(judged.at[[place]])[0])
    why = "" if turn is not None else ", for the history cannot be used"
    return {
        name: lacking[name].get(index, f"its window has {reach} of {served.model.window} rows{why}")
        for name, served in judged.serving.items()
        if np.isnan(judged.p_values[name][place])
    }


def _to_keep(judged: Judged, place: int, standing: Standing) -> dict[str, Any]:
    """Return what later readings need to know of this one."""
    p_value = float(judged.supported[place])
    return {
        "final_score": _score(float(judged.combined[place])),
        "is_anomaly": bool(judged.is_anomaly[place]),
        "p_value": None if np.isnan(p_value) else p_value,
        "state": standing.state.value,
        "since": str(standing.since),
        "began": None if standing.began is None else str(standing.began),
        "calm": standing.calm,
    }


def _kept_p_value(reading: Reading | int) -> float:
    p_value = reading.result.get("p_value") if isinstance(reading, Reading) else None
    return float("nan") if p_value is None else float(p_value)


def _kept_standing(reading: Reading | int) -> Standing | None:
    if not isinstance(reading, Reading) or "state" not in reading.result:
        return None
    result = reading.result
    return Standing(
        AssetState(result["state"]),
        np.datetime64(result["since"], "us"),
        None if result["began"] is None else np.datetime64(result["began"], "us"),
        result["calm"],
    )


def _score(p_value: float) -> float | None:
    return None if np.isnan(p_value) else 1.0 - p_value
