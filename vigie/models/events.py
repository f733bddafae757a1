"""Events as they are stored, sent and printed: the same from live readings and from files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from math import isnan

from pydantic import BaseModel, Field

from vigie.models.anomaly_data import CriticalityLevel, SensorContribution, UnseenContribution


class EventKind(StrEnum):
    """What an event is about: the state of the asset that asks for a look."""

    ALARM = "alarm"
    """The machine needs an inspection."""
    UNKNOWN_OPERATING_POINT = "unknown_operating_point"
    """It is run as training has not seen it."""
    DRIFT = "drift"
    """It has moved away from its training slowly."""
    BAD_DATA = "bad_data"
    """A sensor is frozen: the readings do not tell how the machine is."""
    NO_DATA = "no_data"
    """No reading has come for longer than the settings allow."""

    @property
    def words(self) -> str:
        """Its name as people write it."""
        return self.value.replace("_", " ")


class Label(StrEnum):
    """What somebody who has looked at the asset says of an event."""

    TRUE = "true"
    """Something was wrong."""
    FALSE = "false"
    """A false alarm: the asset was healthy."""
    UNCLEAR = "unclear"
    """Nobody can tell."""


class EventLabel(BaseModel):
    """A label of an event, as it was given. Times are in UTC."""

    label: Label
    cause: str | None
    note: str | None
    at: datetime
    by: str | None
    """The name of the API key, or the address of a client that needed none; null if not known."""


class EventSensor(BaseModel):
    """A sensor behind an event, at its peak."""

    name: str
    share: float
    """Its share of what is unusual, from 0 to 1; the largest comes first."""
    value: float | str | None
    """What it read; a word of the context, or null if nothing usable was measured."""
    usual: float | None
    """Median in training; null where training has not seen such a value."""
    low: float | None
    high: float | None
    """Limits of the central 99 % of the training values."""
    imputed: str | None = None
    """Why no measured value could be used: missing, out_of_range or wrong_unit."""

    @classmethod
    def of(cls, sensor: SensorContribution) -> EventSensor:
        """Return a contribution without the numbers that are none, which JSON does not know."""
        word = sensor.word if isinstance(sensor, UnseenContribution) else None
        return cls(
            name=sensor.name,
            share=sensor.share,
            value=_known(sensor.value) if word is None else word,
            usual=_known(sensor.usual),
            low=_known(sensor.low),
            high=_known(sensor.high),
            imputed=sensor.imputed,
        )


class Peak(BaseModel):
    """The most surprising reading of an event."""

    at: datetime | None
    """When it was measured, in UTC; null in a file without times."""
    p_value: float
    """How rarely a healthy machine looks like this: of the asset for a state, of the reading for
    anomalies by themselves."""


class AssetEvent(BaseModel):
    """A stretch of the readings of an asset that asks for a look. Times are in UTC."""

    id: str | None = None
    """Null in a file: nothing is stored of it."""
    asset_id: str | None
    sensor_id: str | None = None
    """The group of sensors, if the asset has several."""
    kind: EventKind | None
    """Null for anomalies by themselves, which only files tell."""
    start: datetime | None
    """When its first reading was measured."""
    began: datetime | None = None
    """When the change behind an alarm began."""
    peak: Peak
    end: datetime | None
    """When its last reading was measured; null while it is open."""
    criticality: CriticalityLevel | None
    """Of the most surprising reading; null if no reading was an anomaly by itself."""
    sensors: list[EventSensor] = Field(default_factory=list)
    """The sensors behind it, the largest share first."""
    versions: dict[str, int | None] = Field(default_factory=dict)
    """The models that answered when it began, each with its version; null without a registry."""
    n_readings: int
    n_anomalies: int
    """Readings so far, and those that were anomalies by themselves."""
    label: Label | None = None
    """What somebody has said of it last; null if nobody has."""
    cause: str | None = None
    """What was behind it, as they say."""
    note: str | None = None
    labelled_at: datetime | None = None
    labelled_by: str | None = None
    """The name of the API key, or the address of a client that needed none."""

    @property
    def is_open(self) -> bool:
        """Whether the asset is still in this state."""
        return self.end is None


class EventReading(BaseModel):
    """A reading near an event."""

    timestamp: datetime
    values: Mapping[str, float | bool | str | None]
    score: float | None
    """1 - p of all models together; null if none answered."""
    is_anomaly: bool
    state: str | None
    """Of the asset after it."""


def _known(value: float) -> float | None:
    return None if isnan(value) else value
