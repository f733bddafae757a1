"""Readings and results of one asset as columns: a list for each sensor, in place of objects."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationInfo, field_validator
from pydantic.json_schema import JsonSchemaValue

from vigie.errors import InvalidDataError
from vigie.faults import NO_NUL
from vigie.models.anomaly_data import (
    MOST_FEATURES,
    MOST_READINGS,
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
    AssetState,
    BooleansAreNumbers,
    CriticalityLevel,
    Moment,
    Name,
    Setting,
    numbers_of,
)
from vigie.models.from_json import n_strings

PLACE = re.compile(r"\[(\d+)\]\.(features|context)(?:\.(.+))?", re.DOTALL)
TIME = re.compile(r"\[(\d+)\]\.timestamp")


class _BooleansInColumns(BooleansAreNumbers):
    """The same, in an object of columns."""

    @staticmethod
    def converted(values: Any) -> Any:
        return (
            {name: numbers_of(column) for name, column in values.items()}
            if isinstance(values, dict)
            else values
        )

    @staticmethod
    def allow_in(schema: JsonSchemaValue) -> None:
        for column in schema["patternProperties"].values():
            column["items"]["anyOf"].append({"type": "boolean"})


class ReadingColumns(BaseModel):
    """Readings of one asset as columns; each list has a value for each reading."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "asset_id": "pump-7",
                    "sensor_id": "bench",
                    "timestamps": ["2026-01-05T08:00:00Z", "2026-01-05T08:01:00Z"],
                    "features": {
                        "rms": [0.42, 0.41],
                        "kurtosis": [3.1, 3.0],
                        "temperature": [61.5, 61.4],
                    },
                }
            ]
        },
    )

    asset_id: Name
    """The machine."""
    sensor_id: Annotated[str, Field(max_length=200, pattern=NO_NUL)] | None = None
    """The group of sensors that the features come from, if the asset has several."""
    timestamps: (
        Annotated[list[Moment], Field(min_length=1, max_length=MOST_READINGS, fail_fast=True)]
        | None
    ) = None
    """Times of measurement in ISO 8601, UTC if they have no offset; by default now."""
    features: Annotated[
        dict[
            Name,
            Annotated[
                list[Annotated[float, Strict()] | None],
                Field(min_length=1, max_length=MOST_READINGS, fail_fast=True),
            ],
        ],
        Field(min_length=1, max_length=MOST_FEATURES, fail_fast=True),
        _BooleansInColumns,
    ]
    """Values by feature name, in the units of the training data; null for a missing value, true and
    false for 1 and 0."""
    context: Annotated[
        dict[Name, Annotated[list[Setting], Field(max_length=MOST_READINGS, fail_fast=True)]],
        Field(max_length=MOST_FEATURES, fail_fast=True),
    ] = Field(default_factory=dict)
    """How the machine is run: values of the models' ``context_features``."""

    @field_validator("timestamps")
    @classmethod
    def _in_utc(cls, times: list[datetime] | None) -> list[datetime] | None:
        try:
            return times and [
                time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
                for time in times
            ]
        except OverflowError:
            raise ValueError("A time is outside the range of years 1 to 9999") from None

    @field_validator("features")
    @classmethod
    def _fit(
        cls, features: dict[str, list[float | None]], info: ValidationInfo
    ) -> dict[str, list[float | None]]:
        times = info.data.get("timestamps")
        n_readings = len(times) if times else len(next(iter(features.values())))
        for name, column in features.items():
            _require_length(name, column, n_readings, "timestamps" if times else "the first column")
            # The sum is finite only if every value is.
            if not isfinite(sum(filter(None, column))):
                features[name] = [None if v != v else v for v in column]
                for place, value in enumerate(column):
                    if value in (float("inf"), -float("inf")):
                        raise ValueError(f"{name}[{place}] is not finite")
        return features

    @field_validator("context")
    @classmethod
    def _fits(cls, context: dict[str, list[Any]], info: ValidationInfo) -> dict[str, list[Any]]:
        features = info.data.get("features")
        if not features:
            return context
        n_readings = len(next(iter(features.values())))
        for name, column in context.items():
            if name in features:
                raise ValueError(f"{name} is given both as a feature and as context")
            _require_length(name, column, n_readings, "features")
        return context

    @property
    def n_strings(self) -> int:
        """Strings in the JSON of these columns, if they have no unknown keys."""
        n_values = 1 + (self.sensor_id is not None) + len(self.timestamps or ())
        n_keys = len(self.__pydantic_fields_set__) + len(self.features)
        return n_keys + n_values + (n_strings(self.context) if self.context else 0)

    @property
    def readings(self) -> list[AnomalyDetectionRequest]:
        """The same, one by one."""
        names, columns = list(self.features), zip(*self.features.values(), strict=True)
        settings, contexts = list(self.context), zip(*self.context.values(), strict=True)
        times = iter(self.timestamps or ())
        # A copy takes a fifth of the time of a new object, which would be checked once more.
        empty = AnomalyDetectionRequest.model_construct(
            asset_id=self.asset_id, sensor_id=self.sensor_id, features={}
        )
        readings = []
        for values in columns:
            update: dict[str, Any] = {"features": dict(zip(names, values, strict=True))}
            update["timestamp"] = next(times, None)
            if settings:
                update["context"] = dict(zip(settings, next(contexts), strict=True))
            readings.append(empty.model_copy(update=update))
        return readings


class ModelColumns(BaseModel):
    """The verdicts of one model."""

    score: list[float | None]
    """1 - p, with p the share of healthy readings at least this unusual; null where it abstains."""
    threshold: float
    version: int | None = None
    stage: str | None = None


class ResultColumns(BaseModel):
    """The verdicts on readings of one asset as columns, in the order of the readings."""

    asset_id: str
    sensor_id: str | None
    timestamps: list[datetime]
    final_score: list[float | None]
    """1 - p of the models combined; null if all of them abstain."""
    threshold: float
    is_anomaly: list[bool]
    criticality: list[CriticalityLevel | None]
    """Null for a reading that is no anomaly."""
    state: list[AssetState]
    """The state of the asset after each reading."""
    evidence: list[float | None]
    """1 - p of the latest readings combined; null while there are too few."""
    models: dict[str, ModelColumns]
    """By registered name."""
    details: dict[int, AnomalyDetectionResult]
    """The whole verdict on each anomaly, and on each reading with a value that is missing, frozen,
    never seen, or replaced; by its place from 0."""


def in_columns(error: InvalidDataError) -> InvalidDataError:
    """Return an error of readings with its places as those of columns: ``features.rms[3]``."""

    def placed(field: str) -> str:
        if time := TIME.fullmatch(field):
            return f"timestamps[{time[1]}]"
        if not (place := PLACE.fullmatch(field)):
            return field
        return f"{place[2]}.{place[3]}[{place[1]}]" if place[3] else place[2]

    faults = [{**fault, "field": placed(fault["field"])} for fault in error.faults]
    field = error.field and placed(error.field)
    return InvalidDataError(error.message, field=field, remedy=error.remedy, faults=faults)


def _require_length(name: str, column: list[Any], n_readings: int, of: str) -> None:
    if len(column) != n_readings:
        raise ValueError(f"{name} has {len(column)} values, but {of} {n_readings}")
