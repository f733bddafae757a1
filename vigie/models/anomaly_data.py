"""Requests and results of anomaly detection, as data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from vigie.faults import NO_NUL
from vigie.models.from_json import n_strings, nested_within, refused

MOST_READINGS = 10_000
"""Most readings of a batch; their verdicts take some ten megabytes."""
MOST_FEATURES = 1000
"""Most features of a reading or a training row."""
DEEPEST = 32
"""Most levels of nested metadata."""

Value = Annotated[FiniteFloat, Strict()]
_FINITE = TypeAdapter(dict[str, Value | None])
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]
LONGEST_WORD = 200


def _setting(value: Any) -> Any:
    """Return a value of the context: a number, a word, true or false, or None."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        # An integer of hundreds of digits is no float.
        with suppress(OverflowError):
            value = float(value)
    is_number = isinstance(value, float) and isfinite(value)
    is_word = isinstance(value, str) and len(value.strip()) > 0 and len(value) <= LONGEST_WORD
    if is_number or (is_word and "\x00" not in value):
        return value
    raise ValueError(
        f"A number is expected, true, false, or a word of 1 to {LONGEST_WORD} characters"
    )


Setting = Annotated[
    Any,
    BeforeValidator(_setting),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number"},
                {"type": "boolean"},
                {"type": "string", "minLength": 1},
                {"type": "null"},
            ]
        }
    ),
]


def numbers_of(values: Any) -> Any:
    """Return a list or dict with 1 and 0 in place of true and false; anything else as it is."""
    if isinstance(values, Mapping) and any(type(v) is bool for v in values.values()):
        return {name: float(v) if type(v) is bool else v for name, v in values.items()}
    if isinstance(values, list) and any(type(v) is bool for v in values):
        return [float(v) if type(v) is bool else v for v in values]
    return values


class BooleansAreNumbers:
    """Take true and false for 1 and 0, as a sensor that switches has them in a file.

    Only among Python objects: pydantic's JSON parser would take twice the time for all numbers.
    ``from_json`` validates a document that it refuses once more, as Python objects.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        numbers = handler(source)
        return core_schema.json_or_python_schema(
            numbers, core_schema.no_info_before_validator_function(cls.converted, numbers)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        found = handler(schema)
        cls.allow_in(found)
        return found

    @staticmethod
    def converted(values: Any) -> Any:
        """Return values with numbers in place of booleans."""
        return numbers_of(values)

    @staticmethod
    def allow_in(schema: JsonSchemaValue) -> None:
        """Allow booleans in the JSON schema of the values."""
        for values in schema["patternProperties"].values():
            values["anyOf"].append({"type": "boolean"})


def _refuse_number(value: Any) -> Any:
    is_number = isinstance(value, (int, float))
    if isinstance(value, str):
        with suppress(ValueError):
            float(value)
            is_number = True
    if is_number:
        raise ValueError("The unit of a number is ambiguous; give 2026-01-05T08:00:00Z")
    return value


class _NotANumber:
    """Refuses numbers, also as text: pydantic would guess their unit from their size."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        moment = handler(source)
        # ``from_json`` validates a refused document again, as Python objects.
        begins_with_a_year = core_schema.str_schema(pattern=r"^\d{4}-", strict=True)
        return core_schema.json_or_python_schema(
            core_schema.chain_schema([begins_with_a_year, moment]),
            core_schema.no_info_before_validator_function(_refuse_number, moment),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "format": "date-time"}


Moment = Annotated[datetime, _NotANumber]


class CriticalityLevel(StrEnum):
    """How rare a reading is for a healthy machine.

    ``low`` begins at the threshold, and each further level is ten times rarer. At a
    contamination of 0.01: low is one healthy reading in a hundred, medium one in a thousand,
    high one in ten thousand, critical one in a hundred thousand.
    """

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class AssetState(StrEnum):
    """The state of an asset, by its latest readings."""

    NORMAL = "normal"
    WATCH = "watch"
    """Something is changing; no action is needed yet."""
    BAD_DATA = "bad_data"
    """A sensor is frozen, so the readings do not tell how the asset is."""
    DRIFT = "drift"
    """The asset has moved away from its training slowly: check it, or train again."""
    UNKNOWN_OPERATING_POINT = "unknown_operating_point"
    """The asset is run as training has not seen it, so no model can say whether it is healthy."""
    ALARM = "alarm"
    """The asset needs an inspection."""
    UNKNOWN = "unknown"
    """There is no evidence on the asset yet: too few readings since the first one, or the history
    cannot be read."""

    @property
    def words(self) -> str:
        """Its name as people write it."""
        return self.value.replace("_", " ")


class AnomalyDetectionRequest(BaseModel):
    """One reading of one asset."""

    model_config = ConfigDict(
        extra="forbid",
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
        },
    )

    asset_id: Name
    """The machine; its readings form one history per ``sensor_id``."""
    sensor_id: Annotated[str, Field(max_length=200, pattern=NO_NUL)] | None = None
    """The group of sensors that the features come from, if the asset has several; each group has
    its own history and state."""
    features: Annotated[
        dict[Name, Annotated[float, Strict()] | None],
        Field(min_length=1, max_length=MOST_FEATURES, fail_fast=True),
        BooleansAreNumbers,
    ]
    """Values by feature name, in the units of the training data; null for a missing value, true and
    false for 1 and 0."""
    context: Annotated[
        dict[Name, Setting],
        Field(max_length=MOST_FEATURES, fail_fast=True),
    ] = Field(default_factory=dict)
    """How the machine is run: values of the models' ``context_features``: numbers, words, or true
    and false, which count as those words."""
    timestamp: Moment | None = None
    """Time of measurement in ISO 8601, UTC if it has no offset; by default now."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Any data, returned with the result."""

    @field_validator("features")
    @classmethod
    def _not_a_number_is_no_value(cls, values: dict[str, float | None]) -> dict[str, float | None]:
        # Fast path: the sum is finite only if every value is.
        if isfinite(sum(filter(None, values.values()))):
            return values
        return _FINITE.validate_python({k: None if v != v else v for k, v in values.items()})

    @field_validator("context")
    @classmethod
    def _is_given_once(cls, context: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if twice := context.keys() & info.data.get("features", {}).keys():
            raise ValueError(f"{min(twice)} is given both as a feature and as context")
        return context

    @field_validator("metadata")
    @classmethod
    def _is_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            return value
        if not nested_within(value, DEEPEST):
            raise ValueError(f"Metadata must not be nested more than {DEEPEST} levels deep")
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError):
            raise ValueError("Metadata must be valid JSON") from None
        return value

    @field_validator("timestamp")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None or value.tzinfo is None:
            return value and value.replace(tzinfo=UTC)
        try:
            return value.astimezone(UTC)
        except OverflowError:
            raise ValueError("The time is outside the range of years 1 to 9999.") from None

    @property
    def values(self) -> Mapping[str, float | bool | str | None]:
        """Features and context together."""
        return {**self.features, **self.context} if self.context else self.features

    @property
    def n_strings(self) -> int:
        """Strings in the JSON of this reading, if it has no unknown keys."""
        n_values = 1 + (self.sensor_id is not None) + (self.timestamp is not None)
        n_keys = len(self.__pydantic_fields_set__) + len(self.features)
        if self.context:
            n_values += n_strings(self.context)
        return n_keys + n_values + (n_strings(self.metadata) if self.metadata else 0)


_READING = TypeAdapter(AnomalyDetectionRequest)


def as_readings(
    requests: Iterable[AnomalyDetectionRequest | Mapping[str, Any]],
) -> list[AnomalyDetectionRequest]:
    """Return readings, each of which may be a mapping.

    Raises
    ------
    InvalidDataError
        If one cannot be used; its field begins with its place, if there are several.
    """
    requests, readings = list(requests), []
    for place, request in enumerate(requests):
        try:
            readings.append(_READING.validate_python(request))
        except ValidationError as error:
            fault = refused(_READING, error, request)
            if len(requests) > 1:
                fault.field = f"[{place}].{fault.field}"
            raise fault from None
    return readings


class SensorContribution(BaseModel):
    """The contribution of one sensor to an anomaly."""

    name: str
    share: float
    """Share of the surprise that disappears when this sensor is reset to its usual value."""
    value: float
    usual: float
    """Median in training."""
    low: float
    high: float
    """Limits of the central 99 % of the training values."""
    direction: str
    """'above', 'below' or 'within' the usual range."""
    imputed: str | None = None
    """Why no measured value could be used (missing, out_of_range or wrong_unit), so that ``value``
    is the assumed one; null if it was measured."""
    readings_ago: int | None = None
    """From a model of windows: how many readings before this one the sensor was at its most
    unusual, 0 for this one."""
    when: datetime | None = None
    """The time of that reading."""


class UnseenContribution(SensorContribution):
    """A value that training has not seen, as the reason of an unknown operating point."""

    word: str | None = None
    """The word; None for a number."""


class ModelVerdict(BaseModel):
    """The verdict of one model on a reading."""

    score: float
    """1 - p, with p the share of healthy readings at least this unusual."""
    threshold: float
    is_anomaly: bool
    version: int | None = None
    """Version in the registry; null for a model that is not registered there."""
    stage: str | None = None
    reconstruction_error: float | None = None
    """From models that reconstruct a window: mean squared error in standard deviations², with a
    penalty for a reading outside the range of the training rows."""


class UnseenValue(BaseModel):
    """A value that training has not seen, and what it has."""

    name: str
    value: float | str | None
    seen: list[tuple[float, float]] | list[str]
    """The ranges of a number, or the words of a column of the context."""


class AssetVerdict(BaseModel):
    """The verdict on an asset, from its latest readings."""

    state: AssetState
    since: datetime
    """When the asset entered this state, by the timestamps of its readings."""
    evidence: float | None
    """1 - p of the latest readings combined; null while there are too few."""
    began: datetime | None = None
    """When the change behind an alarm began."""
    sensors: list[SensorContribution] = Field(default_factory=list)
    """The sensors that explain a state, with the mean of the latest readings."""
    unseen: list[UnseenValue] = Field(default_factory=list)
    """At an unknown operating point: the values of this reading that training has not seen."""


class AnomalyDetectionResult(BaseModel):
    """The verdict on one reading."""

    asset_id: str
    sensor_id: str | None
    timestamp: datetime
    models: dict[str, ModelVerdict]
    """The models that answered, by registered name."""
    abstained: dict[str, str]
    """The models that abstained, with the reason."""
    final_score: float | None
    """1 - p of the models combined; null if all of them abstain."""
    threshold: float
    is_anomaly: bool
    criticality: CriticalityLevel | None
    """Null for a reading that is no anomaly."""
    sensors: list[SensorContribution] = Field(default_factory=list)
    """The sensors that explain an anomaly, the largest share first."""
    imputed: dict[str, str] = Field(default_factory=dict)
    """Sensors without a usable value, and why: missing, out_of_range or wrong_unit."""
    frozen: dict[str, int] = Field(default_factory=dict)
    """Frozen sensors, each with the number of readings for which it has held its value."""
    replaced: bool = False
    """Whether another reading of this asset and time, with other values, was kept before, and this
    one took its place. Finer timestamps keep both, and so does one batch."""
    asset: AssetVerdict
    """The verdict on the asset."""
    metadata: dict[str, Any] = Field(default_factory=dict)
