"""What was found in the rows of a machine, and what to do about it, in sentences and as data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from vigie.assessment.assessment import UNKNOWN_POINT
from vigie.assessment.ensemble import Ensemble
from vigie.assessment.status import OF_FORECASTS, RECENT, STATES
from vigie.assessment.stream import Faults, Part, StateCounts
from vigie.assessment.trained_range import OutOfRange, TrainedRanges
from vigie.cli.render.events import named_sensors
from vigie.cli.render.pauses import Pauses
from vigie.cli.render.rows import event_figures, range_figures
from vigie.cli.render.sensors import places
from vigie.cli.render.timeline import Blocks, Picture
from vigie.cli.render.times import iso, short
from vigie.events.event import Event
from vigie.events.gathering import TOLD, VALUED, Events, Rows
from vigie.models.anomaly_data import AssetState
from vigie.tables.report_words import words_of

ADVICE = {
    AssetState.DRIFT: "Check the machine now; train again only if this is normal.",
    AssetState.UNKNOWN_OPERATING_POINT: "The models do not know how the machine is run there, so "
    "they cannot say whether it is healthy.",
    AssetState.BAD_DATA: "Until the sensors work, the asset is not seen as it is.",
}
"""What a state means, and what to do, if its name does not say it."""
ENDS = {
    AssetState.NORMAL: "is normal",
    AssetState.WATCH: "is to be watched: the latest readings are unusual",
    AssetState.BAD_DATA: "is not seen as it is (bad data)",
    AssetState.DRIFT: "is in drift",
    AssetState.UNKNOWN_OPERATING_POINT: "is at an unknown operating point",
    AssetState.ALARM: "is in alarm",
}
"""How a recording ends."""
COUNTED = (
    (AssetState.ALARM, "alarm", "alarms"),
    (AssetState.DRIFT, "drift", "drifts"),
    (AssetState.BAD_DATA, "stretch of bad data", "stretches of bad data"),
    (AssetState.UNKNOWN_OPERATING_POINT, "unknown operating point", "unknown operating points"),
)
"""Kinds of events in the last line."""
ANOMALY = "anomaly"
NEARLY_ALL, FEWEST = 0.9, 20
"""From this share of anomalous readings, and so many of them, the models may not fit."""
MOST_NAMED = 4
"""Most sensors outside of their trained range that are named."""
TRAIN = (
    "If it should run like this, train on a healthy recording that includes such operation: "
    "`vigie train FILE --promote`; if a column says how it is run (load, speed, product), add "
    "`--context COLUMN`."
)


class Verdict:
    """What was found in the rows of one machine.

    Parameters
    ----------
    asset : str or None
        The machine.
    first : int
        Number of its first row in the file, from 0.
    has_events : bool
        Whether events are gathered, which are explained.
    is_drawn : bool
        Whether ``picture`` is wanted.

    Attributes
    ----------
    n_rows, n_anomalies : int
        Rows, and anomalous ones.
    events : Events
        The events.
    alarm_limit : float
        The p-value of the machine that raises an alarm.
    """

    def __init__(
        self,
        asset: str | None,
        first: int,
        *,
        has_events: bool = True,
        is_drawn: bool = False,
    ):
        self.asset, self.first = asset, first
        self.n_rows = self.n_anomalies = 0
        self.events = Events()
        self._has_events = has_events or is_drawn
        self._blocks = Blocks() if is_drawn else None
        self._sensors: tuple[str, ...] = ()
        self._is_time, self.alarm_limit = False, 1.0
        self._faults, self._states, self._pauses = Faults(), StateCounts(), Pauses()
        self._at_unknown, self._anomalous = TrainedRanges(), TrainedRanges()
        self._state, self._end = AssetState.UNKNOWN, None
        self._n_waiting = 0
        self._ensemble: Ensemble | None = None

    def add(self, part: Part) -> None:
        """Add the next rows."""
        is_anomaly, states = part.assessment.is_anomaly, part.assessment.statuses.states
        self.n_rows += len(is_anomaly)
        self.n_anomalies += int(np.count_nonzero(is_anomaly))
        self._states.add(part)
        self._pauses.add(part.times)
        self._ensemble = part.assessment.ensemble
        if len(states):
            self._state = STATES[states[-1]]
            self.alarm_limit = part.assessment.alarm_limit
            self._end = None if part.times is None else part.times[-1]
            since_gap = part.assessment.timeline.rows_since_gap[part.assessment.scores.first :]
            is_waiting = since_gap < self._ensemble.fewest_rows
            self._n_waiting += int((is_waiting & np.isnan(part.assessment.p_values)).sum())
        if self._has_events:
            self.events.add(Rows.of(part))
            self._faults.add(part)
            self._at_unknown.add(part, states == UNKNOWN_POINT)
            self._anomalous.add(part, is_anomaly)
        if self._blocks is not None and len(is_anomaly):
            self._draw(part, self._blocks)

    def _draw(self, part: Part, blocks: Blocks) -> None:
        """Add the next rows to the picture."""
        assessment = part.assessment
        sensors = assessment.rows.sensors
        drawn = [i for i, name in enumerate(sensors.names) if name not in sensors.words]
        self._sensors = tuple(sensors.names[i] for i in drawn)
        self._is_time = part.times is not None
        x = places(self.first + part.first, len(assessment), part.times)
        blocks.add(x, assessment.asset_p_values, assessment.rows.values[:, drawn])

    def picture(self, title: str, units: Mapping[str, str]) -> Picture:
        """Return the verdict and the sensors over time, with the events that are listed."""
        assert self._blocks is not None
        states: dict[AssetState, list[tuple[float, float]]] = {}
        named: dict[str, list[tuple[float, float]]] = {}
        moved: dict[str, float] = {}
        for event in self.events.told():
            if event.state is not None:
                states.setdefault(event.state, []).append(self._span(event))
            if event.is_alarm:
                for sensor in named_sensors(event):
                    named.setdefault(sensor.name, []).append(self._span(event))
            for sensor in event.sensors:
                moved[sensor.name] = moved.get(sensor.name, 0.0) + sensor.share * event.n_rows
        return Picture(
            title=title,
            blocks=self._blocks,
            is_time=self._is_time,
            sensors=self._sensors,
            limit=self.alarm_limit,
            states=states,
            named=named,
            pauses=[tuple(places(0, 2, np.array(pause[1:]))) for pause in self._pauses.all()],
            first=sorted(moved, key=lambda name: -moved[name]),
            units=units,
        )

    def _span(self, event: Event) -> tuple[float, float]:
        """Return where an event begins and ends on the axis of the picture."""
        if event.start is None or event.end is None:
            return self.first + event.first + 0.5, self.first + event.last + 1.5
        begin, end = places(0, 2, np.array([event.start, event.end]))
        return float(begin), float(end)

    def end(self) -> End:
        """Return how the recording ends."""
        kind = self._state if self._state in TOLD else None
        event = None if kind is None else self.events.going_on(kind)
        return End(self.first + self.n_rows, self._end, self._state, event)

    def ending(self, units: Mapping[str, str]) -> str:
        """Return how the recording ends as a sentence."""
        whose = "the machine" if self.asset is None else self.asset
        if self._state is AssetState.UNKNOWN:
            fewest = 0 if self._ensemble is None else self._ensemble.fewest_rows_of_state
            if self.n_rows < fewest:
                return (
                    f"{self.n_rows} {'row is' if self.n_rows == 1 else 'rows are'} too few to "
                    f"judge {whose}: its state is unknown until {fewest} readings."
                )
            return f"At the end of the file the state of {whose} is unknown."
        end = self.end()
        moved = "" if end.event is None else moved_to(end.event, units)
        return f"At the end of the file {whose} {ENDS[self._state]}{moved and f': {moved}'}."

    @property
    def mostly_anomalous(self) -> bool:
        """Whether nearly every reading is anomalous."""
        return self.n_anomalies >= max(FEWEST, NEARLY_ALL * self.n_rows)

    def reaches(self, level: str) -> bool:
        """Return whether the machine was in a state, or a more severe one.

        Parameters
        ----------
        level : str
            The value of one of ``STATES``, or ``anomaly`` for any anomalous reading.
        """
        least = STATES.index(AssetState.WATCH if level == ANOMALY else AssetState(level))
        if level == ANOMALY and self.n_anomalies:
            return True
        return any(self._states.of(state) is not None for state in STATES[least:])

    def out_of_range(self) -> list[OutOfRange]:
        """Return the sensors outside their trained range.

        At an unknown operating point; if there is none, and nearly every reading is anomalous, in
        the anomalous readings.
        """
        if self._at_unknown.n_rows:
            return self._at_unknown.outside()
        return self._anomalous.outside() if self.mostly_anomalous else []

    def remarks(self, units: Mapping[str, str]) -> Iterator[str]:
        """Yield what to say below the table of events."""
        for fault in self._faults.all():
            yield f"{replace(fault, first_row=fault.first_row + self.first)}."
        yield from self._on_pauses()
        yield from self._on_watches()
        ranges = _ranges(self.out_of_range(), units)
        for state, advice in ADVICE.items():
            if (found := self._states.of(state)) is not None:
                moved = ""
                if state is AssetState.DRIFT:
                    drifts = [e for e in self.events.told() if e.state is state]
                    moved = moved_to(drifts[-1], units) if drifts else ""
                rest = f" {ranges}{TRAIN}" if state is AssetState.UNKNOWN_OPERATING_POINT else ""
                yield (
                    f"{state.words.capitalize()} in {found.n_rows} of {self.n_rows} rows, from row "
                    f"{self.first + found.first + 1}"
                    f"{'' if found.start is None else f' ({short(found.start)} UTC)'}"
                    f"{moved and f': {moved}'}. "
                    f"{advice}{rest}"
                )
        is_known = self._states.of(AssetState.UNKNOWN_OPERATING_POINT) is None
        if self.mostly_anomalous and is_known and ranges:
            yield (
                f"{self.n_anomalies} of {self.n_rows} readings are anomalous: either a fault lasts "
                "throughout, or the models do not know this operating point. "
                f"{ranges}{TRAIN}"
            )
        if self._n_waiting and self._ensemble is not None:
            yield (
                f"No model could judge {self._n_waiting} of {self.n_rows} rows, the first ones or "
                f"those after a pause: {', '.join(self._ensemble.models)} "
                f"{'needs' if len(self._ensemble.models) == 1 else 'need'} at least "
                f"{self._ensemble.fewest_rows} rows in a row."
            )
        if n_silent := self.events.n_silent - self._n_waiting:
            yield (
                f"No model could judge {n_silent} of {self.n_rows} rows: the context "
                "or all sensors are missing, or the context was never seen in training."
            )

    def _on_watches(self) -> Iterator[str]:
        """Yield why anomalies in a row are no alarm, where the training rows are too few."""
        ensemble, has_watch = self._ensemble, any(e.is_watch for e in self.events.told())
        if ensemble is None or not has_watch:
            return
        limit = min(self.alarm_limit, OF_FORECASTS.at(ensemble.contamination)[1])
        if not ensemble.least_p_value >= limit:
            return
        n_rows = min(m.calibration.n_samples for m in ensemble.models.values() if m.window == 1)
        fewest = math.ceil((n_rows + 1) * ensemble.least_p_value / limit)
        yield (
            f"Anomalous readings alone, however many come in a row, are a watch and no alarm: for "
            f"that, {n_rows:,} training rows are too few; train on {fewest:,} or more."
        )

    def pause_figures(self) -> list[dict[str, Any]]:
        """Return the pauses as plain data, with rows counted from 1."""
        return [
            {
                **({} if self.asset is None else {"asset": self.asset}),
                "after_row": self.first + pause.row + 1,
                "from": iso(pause.begin),
                "to": iso(pause.end),
                "duration_s": pause.seconds,
            }
            for pause in self._pauses.all()
        ]

    def _on_pauses(self) -> Iterator[str]:
        """Yield the longest pause, and how to judge the rows after a pause by themselves."""
        pauses = self._pauses.all()
        if not pauses or self._ensemble is None:
            return
        longest, usual = max(pauses, key=lambda pause: pause.seconds), self._pauses.usual_s
        others = f", the longest of {len(pauses)}" if len(pauses) > 1 else ""
        often = f" (rows usually come every {words_of(usual)})" if usual else ""
        limit = self._pauses.limit_s
        setting = f"{limit:.0f}" if limit >= 10.0 else f"{limit:.2g}"
        line = (
            f"A pause of {words_of(longest.seconds)} after row {self.first + longest.row + 1}"
            f"{others}{often}."
        )
        spanned = [pause.row for pause in pauses if pause.seconds <= self._ensemble.max_gap_s]
        begins = [event.first for event in self.events.told() if event.state in VALUED[1:]]
        if any(0 < begin - row <= RECENT for begin in begins for row in spanned):
            line += (
                " The rows before a pause are judged together with those after it, and an alarm or "
                f"a drift begins shortly after one. With VIGIE_MAX_GAP_S={setting}, the models "
                "begin anew after such a pause."
            )
        yield line


class End(NamedTuple):
    """How a recording ends.

    Attributes
    ----------
    row : int
        The last row, counted from 1 over the file.
    time : datetime64[us] or None
        When it was measured.
    state : AssetState
        Of the machine.
    event : Event or None
        The event that goes on.
    """

    row: int
    time: np.datetime64 | None
    state: AssetState
    event: Event | None

    def figures(self, asset: str | None) -> dict[str, Any]:
        """Return the end as plain data."""
        known = () if self.event is None or self.event.state not in VALUED else self.event.latest
        return {
            **({} if asset is None else {"asset": asset}),
            "row": self.row,
            "time": iso(self.time),
            "state": self.state,
            "sensors": [
                {
                    "name": sensor.name,
                    "value": sensor.value,
                    "imputed": sensor.imputed,
                    "trained_low": sensor.low,
                    "trained_high": sensor.high,
                }
                for sensor in known
            ],
        }


def counted(verdicts: Sequence[Verdict]) -> str:
    """Return the number of events of each kind, but for anomalies by themselves, in words."""
    found = []
    for state, one, many in COUNTED:
        n = sum(verdict.events.counts[state] for verdict in verdicts)
        if n or state is AssetState.ALARM:
            found.append(f"{n:,} {one if n == 1 else many}")
    return ", ".join(found)


def endings(verdicts: Sequence[Verdict], units: Mapping[str, str]) -> Iterator[str]:
    """Yield how the recording of each machine ends; those that are normal at last, together."""
    calm = [v for v in verdicts if v.end().state is AssetState.NORMAL]
    if len(verdicts) == 1:
        yield verdicts[0].ending(units)
        return
    for verdict in verdicts:
        if verdict not in calm:
            yield verdict.ending(units)
    if calm:
        others = "the other machines are" if len(calm) < len(verdicts) else "all machines are"
        if len(calm) == 1:
            others = f"{calm[0].asset} is"
        yield f"At the end of the file {others} normal."


def summary(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return what follows the rows in JSON: events, and sensors outside of their trained range."""
    return {
        "events": [
            event_figures(event, verdict.first, verdict.asset)
            for verdict in verdicts
            for event in verdict.events.told()
        ],
        "out_of_trained_range": [
            figures
            for verdict in verdicts
            for figures in range_figures(verdict.out_of_range(), verdict.asset)
        ],
        "pauses": [figures for verdict in verdicts for figures in verdict.pause_figures()],
        "at_end": [verdict.end().figures(verdict.asset) for verdict in verdicts],
    }


def moved_to(event: Event, units: Mapping[str, str]) -> str:
    """Return what the sensors of an event read at last, and what they read in training."""
    if event.state is AssetState.BAD_DATA:
        frozen = [sensor.name for sensor in event.sensors if sensor.share > 0.0]
        return f"{', '.join(frozen)} {'is' if len(frozen) == 1 else 'are'} frozen" if frozen else ""
    if event.state not in VALUED:
        return ""
    known = [s for s in event.latest if s.low < s.high and s.imputed is None]
    outside = [sensor for sensor in known[1:MOST_NAMED] if sensor.direction != "within"]
    farthest = {sensor.name: sensor for sensor in event.sensors}
    why = "but unusual together with the other sensors"
    if len(event.sensors) == 1:
        why = "but unusual after the rows before"
    told = []
    for sensor in [*known[:1], *outside]:
        unit = units.get(sensor.name, "")
        value, trained = f"{sensor.value:.4g} {unit}".rstrip(), _range(sensor.low, sensor.high)
        verb = {"above": "has risen to", "below": "has fallen to"}.get(sensor.direction)
        if verb is None and farthest[sensor.name].direction != "within":
            was = f"was at {farthest[sensor.name].value:.4g}"
            told.append(f"{sensor.name} {was} and is at {value} (trained {trained})")
        elif verb is None:
            told.append(f"{sensor.name} is at {value}, within its trained range ({trained}), {why}")
        else:
            told.append(f"{sensor.name} {verb} {value} (trained {trained})")
    return ", ".join(told)


def _ranges(sensors: Sequence[OutOfRange], units: Mapping[str, str]) -> str:
    """Return the sensors outside of their trained range as a sentence; empty if there are none."""
    if not sensors:
        return ""
    named = [
        f"{sensor.name} {_range(sensor.low, sensor.high)} {units.get(sensor.name, '')}".rstrip()
        + f" (trained {_range(sensor.trained_low, sensor.trained_high)})"
        for sensor in sensors[:MOST_NAMED]
    ]
    more = f" and {len(sensors) - MOST_NAMED} more" if len(sensors) > MOST_NAMED else ""
    return f"Outside of the trained range: {', '.join(named)}{more}. "


def _range(low: float, high: float) -> str:
    return f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.4g} to {high:.4g}"
