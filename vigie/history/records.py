"""The records of the history: readings of an asset with their results, and compared versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from vigie.detectors.base import USUAL_SURPRISE
from vigie.models.anomaly_data import AssetState, CriticalityLevel

Stored = float | bool | str | None
"""A value of a reading: of a sensor, or of the context."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of an asset after a reading; the attributes are those of ``Assessed``."""

    state: AssetState | None
    since: str | None
    began: str | None
    calm: int
    usual: float


@dataclass(frozen=True, slots=True)
class Assessed:
    """The results of a reading: what later readings look back on, and what is read back.

    Attributes
    ----------
    final_score : float or None
        ``1 - p`` of all models together.
    is_anomaly : bool
        Whether the reading was an anomaly by itself.
    p_value : float or None
        The conservative p-value, for accumulation with other readings; None if no model answered.
    state : AssetState or None
        Of the asset after the reading; None in histories of versions without states.
    since, began : str or None
        When the asset entered this state, and when the change that led to an alarm began: ISO 8601
        in UTC, without a zone.
    calm : int
        Number of consecutive readings so far that count towards the end of an alarm or a watch.
    usual : float
        The usual surprise of the asset, ``-log10 p``, as it was before an alarm.
    held : mapping of str to int
        For how many consecutive readings each sensor has had its value, if more than one.
    shift_us : int
        By how many microseconds the reading is kept after its own time, since others of its batch
        have that time too.
    went_on_from : Standing or None
        The state that the reading went on from, if it is not that of the reading before: it took
        the place of another of its time, and what was said of the asset by then still stands.
    criticality : CriticalityLevel or None
        Of an anomaly; None in histories of versions that did not store it.
    versions : mapping of str to int or None
        The models that answered, each with its version in the registry, or None without one; empty
        in histories of versions that did not store it.
    """

    final_score: float | None = None
    is_anomaly: bool = False
    p_value: float | None = None
    state: AssetState | None = None
    since: str | None = None
    began: str | None = None
    calm: int = 0
    usual: float = USUAL_SURPRISE
    held: Mapping[str, int] = field(default_factory=dict)
    shift_us: int = 0
    went_on_from: Standing | None = None
    criticality: CriticalityLevel | None = None
    versions: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def standing(self) -> Standing:
        """The state of the asset after the reading."""
        return Standing(self.state, self.since, self.began, self.calm, self.usual)


@dataclass(frozen=True, slots=True)
class Reading:
    """A row of the history.

    Attributes
    ----------
    asset_id, sensor_id : str
        The asset and its sensor group.
    timestamp : datetime
        When it was measured, to tell it from the others of the asset: of several of one time, the
        later ones are kept some microseconds after it.
    features : mapping of str to float, bool, str or None
        The values.
    assessed : Assessed
        The results.
    context : frozenset of str
        The names of the values that say how the machine was run; empty in histories of versions
        that did not store it, except for words.
    """

    asset_id: str
    sensor_id: str | None
    timestamp: datetime
    features: Mapping[str, Stored]
    assessed: Assessed
    context: frozenset[str] = frozenset()

    @property
    def measured(self) -> datetime:
        """When it was measured, as its sender said."""
        return self.timestamp - timedelta(microseconds=self.assessed.shift_us)


class Seen(NamedTuple):
    """The state of an asset, and when it was last seen; times in microseconds since 1970.

    Attributes
    ----------
    asset_id, sensor_id : str
        The asset and its sensor group, "" if it has none.
    state : AssetState
        After its newest reading.
    since_us : int
        When it entered this state.
    seen_us, received_us : int
        When its newest reading was measured, and when it came.
    p_value : float or None
        Of the asset at that reading.
    quality : str
        Of that reading: good, uncertain (some sensors cannot be used) or bad (the readings do not
        tell how the asset is).
    faults : mapping of str to str
        What is wrong with sensors, by name.
    """

    asset_id: str
    sensor_id: str
    state: AssetState
    since_us: int
    seen_us: int
    received_us: int
    p_value: float | None
    quality: str
    faults: Mapping[str, str]

    def values(self) -> dict[str, Any]:
        """Return the columns of its row, except for those that name the asset."""
        return {
            "state": self.state.value,
            "since_us": self.since_us,
            "seen_us": self.seen_us,
            "received_us": self.received_us,
            "p_value": self.p_value,
            "quality": self.quality,
            "faults": json.dumps(self.faults),
        }


class Pause(NamedTuple):
    """A time in which nobody is told of some alarms; times in microseconds since 1970.

    Attributes
    ----------
    id : str
        Of the pause.
    silence : str
        ``shelved``: one kind of alarms of one asset and group; ``out_of_service``: all alarms of an
        asset, and of those below its path.
    asset_id, sensor_id, kind : str
        Which.
    from_us, until_us : int
        None as the end of one that somebody must end.
    reason, by_whom : str
        Why, and the name of the API key; None if none was needed.
    """

    id: str
    silence: str
    asset_id: str
    sensor_id: str
    kind: str
    from_us: int
    until_us: int | None
    reason: str
    by_whom: str | None

    def covers(self, asset_id: str, sensor_id: str, kind: str | None) -> bool:
        """Return whether it is about an alarm; with None as the kind, about all of the asset."""
        if self.silence == "out_of_service":
            return f"{asset_id}/".startswith(f"{self.asset_id}/")
        return (self.asset_id, self.sensor_id, self.kind) == (asset_id, sensor_id, kind)


class PairKey(NamedTuple):
    """Which versions are compared; their runs too, since a model made anew has the same numbers."""

    model: str
    champion: int
    champion_run: str
    challenger: int
    challenger_run: str


def microseconds(timestamp: datetime) -> int:
    """Return a time in microseconds since 1970."""
    # Integer arithmetic: a float of seconds since 1970 is not exact to the microsecond.
    delta = timestamp - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def time_of(us: int) -> datetime:
    """Return the time of so many microseconds since 1970, in UTC."""
    return EPOCH + timedelta(microseconds=us)
