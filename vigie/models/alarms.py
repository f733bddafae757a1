"""Alarms as they are stored and sent: events that ask somebody to act, and what was done."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vigie.faults import NO_NUL
from vigie.models.anomaly_data import AssetState, CriticalityLevel, Moment
from vigie.models.events import EventKind, EventSensor, Label, Peak

Note = Annotated[str, Field(max_length=1000, pattern=NO_NUL)]
Reason = Annotated[str, Field(min_length=1, max_length=1000, pattern=NO_NUL)]


class AlarmState(StrEnum):
    """Whether what raised the alarm goes on."""

    ACTIVE = "active"
    CLEARED = "cleared"


class Silence(StrEnum):
    """Why nobody is told of an alarm."""

    SHELVED = "shelved"
    """Somebody has put it aside for a bounded time."""
    OUT_OF_SERVICE = "out_of_service"
    """Its asset is out of service."""
    MAINTENANCE = "maintenance"
    """Its asset is serviced now, as the settings say."""


class Change(StrEnum):
    """What changed on an alarm."""

    RAISED = "raised"
    RETURNED = "returned"
    """Its event ended and came back within the off-delay: it goes on."""
    CLEARED = "cleared"
    ACKNOWLEDGED = "acknowledged"
    SHELVED = "shelved"
    UNSHELVED = "unshelved"
    OUT_OF_SERVICE = "out_of_service"
    IN_SERVICE = "in_service"


class AlarmChange(BaseModel):
    """A change of an alarm, as it was recorded. Times are in UTC."""

    at: datetime
    change: Change
    by: str | None
    """The name of the API key; ``vigie`` if the service did it itself; null if no key was
    needed."""
    note: str | None = None


class Alarm(BaseModel):
    """An event that asks somebody to act. Times are in UTC."""

    id: str
    event_id: str
    """The last event behind it; ``GET /events/{id}`` shows it."""
    asset_id: str
    sensor_id: str | None
    kind: EventKind
    """What it is about: ``alarm`` is the machine, ``bad_data`` and ``no_data`` are its sensors."""
    criticality: CriticalityLevel | None
    """Of the most surprising reading; null if no reading was an anomaly by itself."""
    state: AlarmState
    start: datetime
    """When the event began, by the time of its readings."""
    raised: datetime
    cleared: datetime | None
    """By the clock of the service; null while it is active."""
    acknowledged: bool
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    note: str | None
    silence: Silence | None
    """Why nobody is told of it now; null if somebody is."""
    silent_until: datetime | None
    silence_reason: str | None
    peak: Peak
    sensors: list[EventSensor]


class AlarmDetail(Alarm):
    """An alarm with all that changed on it."""

    log: list[AlarmChange]
    """Oldest first."""


class AlarmList(BaseModel):
    """Alarms, the last to be raised first."""

    alarms: list[Alarm]
    next: str | None
    """The ``cursor`` of the next page; null on the last one."""


class AlertState(StrEnum):
    """What has become of an alert."""

    WAITING = "waiting"
    SENT = "sent"
    """The receiver has taken it."""
    SILENT = "silent"
    """Its alarm was silent when it was to be sent."""
    DEAD = "dead"
    """It is given up, after many attempts; it can be sent again."""


class Alert(BaseModel):
    """A change of an alarm that somebody is told by a channel. Times are in UTC."""

    id: str
    channel: str
    """Its name in the settings."""
    alarm_id: str
    change: Change
    at: datetime
    state: AlertState
    due: datetime | None
    """When it is tried next, if it waits."""
    attempts: int
    message_id: str | None
    """The id of the message that tells it, to drop doubles by; null until it is tried."""
    error: str | None
    """Why the last attempt failed."""


class AlertList(BaseModel):
    """Alerts, the newest first."""

    alerts: list[Alert]
    next: str | None
    """The ``cursor`` of the next page; null on the last one."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @property
    def n_strings(self) -> int:
        """Strings in the JSON of this request."""
        texts = [name for name in self.__pydantic_fields_set__ if getattr(self, name) is not None]
        numbers = ("for_s",)
        return len(self.__pydantic_fields_set__) + sum(name not in numbers for name in texts)


class Acknowledgement(_Body):
    """Somebody has seen an alarm."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"note": "Bearing is being replaced."}]}
    )
    note: Note | None = None


class Shelving(_Body):
    """An alarm is put aside for a bounded time."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"for_s": 3600, "reason": "Known, part is ordered."}]},
    )
    for_s: Annotated[float, Field(gt=0)]
    """Seconds; the setting VIGIE_LONGEST_SHELF_S bounds it."""
    reason: Reason


class Labelling(_Body):
    """What somebody who has looked at the asset says of an event."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"label": "true", "cause": "Bearing worn"}]},
    )
    label: Label
    """true: something was wrong. false: the asset was healthy. unclear: nobody can tell."""
    cause: Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)] | None = None
    note: Note | None = None


class Unshelving(_Body):
    """A shelved alarm is taken up again."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"note": "Done."}]})
    note: Note | None = None


class OutOfService(_Body):
    """An asset, with all below it, is out of service: its alarms are silent."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"reason": "Overhaul", "until": "2030-01-05T18:00:00Z"}]},
    )
    reason: Reason
    until: Moment | None = None
    """When it comes back by itself; not given, somebody must say so."""


class AssetService(BaseModel):
    """An asset that is out of service, or back in it."""

    asset_id: str
    out_of_service: bool
    since: datetime | None
    until: datetime | None
    reason: str | None
    by: str | None


class Quality(StrEnum):
    """Whether the last reading of an asset can be trusted."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    """Some of its sensors could not be used."""
    BAD = "bad"
    """It does not tell how the asset is."""


class Asset(BaseModel):
    """An asset, or a group of its sensors, as it was last seen. Times are in UTC."""

    asset_id: str
    sensor_id: str | None
    state: AssetState
    """After its last reading."""
    since: datetime
    """When it entered this state, by the times of its readings."""
    last_seen: datetime
    """When its last reading was measured."""
    last_received: datetime
    """When that came, by the clock of the service."""
    quality: Quality
    """Of that reading; bad too if none has come for longer than the settings allow."""
    faults: dict[str, str]
    """What is wrong with sensors, by name: frozen, missing, out_of_range or wrong_unit."""
    open_events: list[EventKind]
    """The kinds of its open events."""
    silence: Silence | None
    """Why nobody is told of its alarms; null if somebody is."""
    silent_until: datetime | None
    silence_reason: str | None


class AssetList(BaseModel):
    """Assets by their path."""

    assets: list[Asset]
    next: str | None
    """The ``cursor`` of the next page; null on the last one."""


class AssetLoad(BaseModel):
    """How many alarms an asset has raised."""

    asset_id: str
    alarms: int
    per_day: float
    standing: int
    fleeting: int
    chattering: int
    """Alarms that were part of a burst of one kind."""


class Flood(BaseModel):
    """A time in which more alarms were raised than a person can work through."""

    start: datetime
    end: datetime
    alarms: int


class AlarmLoad(BaseModel):
    """The load of alarms in a time. Times are in UTC."""

    start: datetime
    end: datetime
    days: float
    alarms: int
    per_asset_and_day: float | None
    """Alarms for each asset that has sent readings, and day; null without assets."""
    n_assets: int
    standing: int
    """Active for longer than the settings say."""
    fleeting: int
    chattering: int
    in_flood: float
    """Share of the time in floods, 0 to 1."""
    floods: list[Flood]
    assets: list[AssetLoad]
    """The assets that raised any, those with most alarms first; 100 at most."""
