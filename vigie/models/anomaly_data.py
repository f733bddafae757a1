"""What is asked and what is answered, as data."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    TypeAdapter,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from vigie.models.from_json import n_strings, nested_within

MOST_READINGS = 10_000
"""Of one batch; their verdicts are some ten megabytes."""
MOST_FEATURES = 1000
"""Of a reading, and so of a row to train on."""
DEEPEST = 32
"""Levels of metadata."""

Value = Annotated[FiniteFloat, Strict()]
NO_NUL = r"^[^\x00]*$"
"""PostgreSQL cannot keep that character."""
_FINITE = TypeAdapter(dict[str, Value | None])
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]


def _no_number(value: Any) -> Any:
    is_number = isinstance(value, (int, float))
    if isinstance(value, str):
        with suppress(ValueError):
            float(value)
            is_number = True
    if is_number:
        raise ValueError("A number could be seconds or less; give 2026-01-05T08:00:00Z")
    return value


class _Said:
    """Not a number, be it as text, of which pydantic would guess by its size what it counts."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        moment = handler(source)
        # What is refused here is looked at again, as Python's objects.
        begins_with_a_year = core_schema.str_schema(pattern=r"^\d{4}-", strict=True)
        return core_schema.json_or_python_schema(
            core_schema.chain_schema([begins_with_a_year, moment]),
            core_schema.no_info_before_validator_function(_no_number, moment),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "format": "date-time"}


Moment = Annotated[datetime, _Said]


class CriticalityLevel(StrEnum):
    """How rarely a healthy machine would look like this.

    ``low`` begins at the threshold, and each further level is ten times rarer. At a
    contamination of 0.01: low is one healthy reading in a hundred, medium one in a thousand,
    high one in ten thousand, critical one in a hundred thousand.
    """

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class AssetState(StrEnum):
    """How an asset is doing, by all that has been read from it lately."""

    NORMAL = "normal"
    WATCH = "watch"
    """Something is changing; nothing to do yet."""
    ALARM = "alarm"
    """Somebody should look at it."""
    UNKNOWN = "unknown"
    """Neither, for all that can be seen: what came before cannot be read from the history."""


class AnomalyDetectionRequest(BaseModel):
    """One reading of one asset."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "asset_id": "pump-7",
                    "sensor_id": "bench",
                    "features": {"rms": 0.42, "kurtosis": 3.1, "temperature": 61.5},
                    "timestamp": "2026-01-05T08:00:00Z",
                    "metadata": {"line": "A"},
                }
            ]
        }
    )

    asset_id: Name
    """The machine; its readings form one history for each ``sensor_id``."""
    sensor_id: Annotated[str, Field(max_length=200, pattern=NO_NUL)] | None = None
    """The group of sensors on it that the features come from, where there are several; each has
    its own history and its own state."""
    features: Annotated[
        dict[Name, Annotated[float, Strict()] | None],
        Field(min_length=1, max_length=MOST_FEATURES, fail_fast=True),
    ]
    """Values by feature name, in the units of the training data; null where there is none."""
    timestamp: Moment | None = None
    """When it was measured, as ISO 8601 has it; now, where not given. Without an offset it is taken
    as UTC."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Anything to be handed back with the result."""

    @field_validator("features")
    @classmethod
    def _not_a_number_is_no_value(cls, values: dict[str, float | None]) -> dict[str, float | None]:
        # One sum tells of all whether there is anything to be looked at.
        if isfinite(sum(filter(None, values.values()))):
            return values
        return _FINITE.validate_python({k: None if v != v else v for k, v in values.items()})

    @field_validator("metadata")
    @classmethod
    def _can_be_handed_back(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            return value
        if not nested_within(value, DEEPEST):
            raise ValueError(f"It is nested more than {DEEPEST} deep")
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError):
            raise ValueError("It holds what JSON cannot: give text, numbers and lists") from None
        return value

    @field_validator("timestamp")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None or value.tzinfo is None:
            return value and value.replace(tzinfo=UTC)
        try:
            return value.astimezone(UTC)
        except OverflowError:
            raise ValueError("The time lies outside the calendar.") from None

    @property
    def n_strings(self) -> int:
        """How many strings the JSON of this reading has, if it says nothing else."""
        n_values = 1 + (self.sensor_id is not None) + (self.timestamp is not None)
        n_keys = len(self.__pydantic_fields_set__) + len(self.features)
        return n_keys + n_values + (n_strings(self.metadata) if self.metadata else 0)


class SensorContribution(BaseModel):
    """What one sensor adds to an anomaly."""

    name: str
    share: float
    """Share of the surprise that goes away when this sensor is put back to its usual value."""
    value: float
    usual: float
    """Median in training."""
    low: float
    high: float
    """The range that held 99 % of the training values."""
    direction: str
    """'above', 'below' or 'within' the usual range."""
    readings_ago: int | None = None
    """Where a model that looks at a window has judged: how many readings before this one the
    sensor was at its most unusual, 0 for this one."""
    when: datetime | None = None
    """The time of that reading."""


class ModelVerdict(BaseModel):
    """What one model says of a reading."""

    score: float
    """1 - p, with p the share of healthy readings at least this unusual."""
    threshold: float
    is_anomaly: bool
    version: int | None = None
    """Version in the registry; null for a model that is not registered there."""
    stage: str | None = None
    reconstruction_error: float | None = None
    """Of models that reconstruct a window: mean squared error in standard deviations²; more for
    a reading outside the range of the training rows."""


class AssetVerdict(BaseModel):
    """What the latest readings of an asset say together."""

    state: AssetState
    since: datetime
    """When it came into this state, by the readings' own times."""
    evidence: float | None
    """1 - p of the latest readings together; null while there are too few."""
    began: datetime | None = None
    """Of an alarm: where the change began."""
    sensors: list[SensorContribution] = Field(default_factory=list)
    """Of a watch or an alarm: the sensors it comes from, with the mean of the latest readings."""


class AnomalyDetectionResult(BaseModel):
    """The verdict on one reading."""

    asset_id: str
    sensor_id: str | None
    timestamp: datetime
    models: dict[str, ModelVerdict]
    """The models that answered, by registered name."""
    abstained: dict[str, str]
    """The models that could not answer, with the reason."""
    final_score: float | None
    """1 - p of the models together; null while all of them abstain."""
    threshold: float
    is_anomaly: bool
    criticality: CriticalityLevel | None
    """Null for a reading that is no anomaly."""
    sensors: list[SensorContribution] = Field(default_factory=list)
    """Of an anomaly: the sensors it comes from, the largest share first."""
    imputed: dict[str, str] = Field(default_factory=dict)
    """Sensors that were gone on without, and why: missing, out_of_range or wrong_unit."""
    frozen: dict[str, int] = Field(default_factory=dict)
    """Sensors that stand still, each with the readings for which it has held its value."""
    asset: AssetVerdict
    """How the asset is doing."""
    metadata: dict[str, Any] = Field(default_factory=dict)
