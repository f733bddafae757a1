"""What the history keeps: a reading of an asset, and what was said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import TypeAdapter

from vigie.models.anomaly_data import AssetState


@dataclass(frozen=True, slots=True)
class Assessed:
    """What was said of a reading, as far as later readings look back on it.

    Attributes
    ----------
    final_score : float or None
        ``1 - p`` of all models together.
    is_anomaly : bool
        Whether the reading was an anomaly by itself.
    p_value : float or None
        As far as it can add up with those of other readings; None where no model answered.
    state : AssetState or None
        Of the asset after the reading; None in histories from before there were states.
    since, began : str or None
        When it came into this state, and where the change that led to an alarm began: ISO 8601 in
        UTC, without a zone.
    calm : int
        Readings in a row that would end an alarm or a watch.
    held : mapping of str to int
        For how many readings each sensor had had its value, of those that had it more than once.
    """

    final_score: float | None = None
    is_anomaly: bool = False
    p_value: float | None = None
    state: AssetState | None = None
    since: str | None = None
    began: str | None = None
    calm: int = 0
    held: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """A row of the history."""

    asset_id: str
    sensor_id: str | None
    timestamp: datetime
    features: Mapping[str, float | None]
    assessed: Assessed


FEATURES: TypeAdapter[Mapping[str, float | None]] = TypeAdapter(dict[str, float | None])
ASSESSED: TypeAdapter[Assessed] = TypeAdapter(Assessed)
"""How both are written as JSON, and read."""
