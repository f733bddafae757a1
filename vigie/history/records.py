"""The records of the history: readings of an asset with their results, and compared versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

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
