"""The records of the history: readings of an asset, with their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import TypeAdapter

from vigie.detectors.base import USUAL_SURPRISE
from vigie.models.anomaly_data import AssetState

Stored = float | bool | str | None
"""A value of a reading: of a sensor, or of the context."""


@dataclass(frozen=True, slots=True)
class Assessed:
    """The results of a reading that later readings look back on.

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


@dataclass(frozen=True, slots=True)
class Reading:
    """A row of the history."""

    asset_id: str
    sensor_id: str | None
    timestamp: datetime
    features: Mapping[str, Stored]
    assessed: Assessed


FEATURES: TypeAdapter[Mapping[str, Stored]] = TypeAdapter(dict[str, Stored])
ASSESSED: TypeAdapter[Assessed] = TypeAdapter(Assessed)
"""The JSON forms of both columns."""
