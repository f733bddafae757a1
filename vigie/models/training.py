"""The request for a training, as data."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    Strict,
    TypeAdapter,
    ValidationInfo,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue

from vigie.faults import NO_NUL
from vigie.models.anomaly_data import (
    MOST_FEATURES,
    BooleansAreNumbers,
    Moment,
    Name,
    Setting,
    Value,
    numbers_of,
)
from vigie.models.from_json import n_strings

MOST_ROWS = 1_000_000
UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
AGO = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(s|min|h|d|w)")
LONGEST_AGO_S = 50 * 366 * 86_400.0
_MOMENT = TypeAdapter(Moment)

Row = Annotated[list[Value], Field(min_length=1, max_length=MOST_FEATURES, fail_fast=True)]


class _BooleansInRows(BooleansAreNumbers):
    """The same, in a list of rows."""

    @staticmethod
    def converted(values: Any) -> Any:
        return list(map(numbers_of, values)) if isinstance(values, list) else values

    @staticmethod
    def allow_in(schema: JsonSchemaValue) -> None:
        schema["items"]["items"] = {"anyOf": [schema["items"]["items"], {"type": "boolean"}]}


def _example_rows() -> list[JsonValue]:
    """Return sixty healthy readings of a small pump, enough for a training."""
    return [
        [
            round(0.40 + 0.03 * math.sin(0.7 * i) + 0.01 * math.cos(2.3 * i), 3),
            round(3.05 + 0.12 * math.sin(1.1 * i + 1.0), 3),
            round(61.0 + 0.8 * math.sin(0.13 * i) + 0.1 * math.cos(1.7 * i), 2),
        ]
        for i in range(60)
    ]


def a_time(value: Any) -> Any:
    """Return a time, or how long ago, as it is written."""
    if isinstance(value, str) and AGO.fullmatch(value):
        return value
    try:
        _MOMENT.validate_json(json.dumps(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            "A time in ISO 8601 is expected, such as 2026-01-05T08:00:00Z, or how long ago, such "
            "as 30d"
        ) from None
    return value


def moment(text: str, now: datetime) -> datetime:
    """Return the time, in UTC, that a text names: itself, or how long before ``now``."""
    if ago := AGO.fullmatch(text):
        number = min(float(ago[1]) * UNITS_S[ago[2]], LONGEST_AGO_S)
        return now - timedelta(seconds=number)
    found = _MOMENT.validate_json(json.dumps(text))
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


class HowToTrain(BaseModel):
    """What a training may be given besides its rows."""

    model_config = ConfigDict(extra="forbid")

    model_names: Annotated[list[Name], Field(max_length=100, fail_fast=True)] | None = None
    """The detectors to train; by default all."""
    contamination: Annotated[float, Strict(), Field(ge=1e-9, lt=0.5)] | None = None
    """The false-alarm rate of each model's own verdict; by default ``VIGIE_CONTAMINATION``."""
    parameters: Annotated[
        dict[Name, Annotated[dict[Name, Any], Field(max_length=100)]], Field(max_length=100)
    ] = Field(default_factory=dict)
    """Hyper-parameters by detector, such as {"lstm_autoencoder": {"epochs": 50}}; by default those
    of the settings."""

    @property
    def n_strings(self) -> int:
        """Strings in the JSON of this request."""
        words = n_strings(self.parameters) if self.parameters else 0
        return len(self.__pydantic_fields_set__) + len(self.model_names or ()) + words


class TrainRequest(HowToTrain):
    """Healthy rows, and the detectors to train on them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "data": _example_rows(),
                    "feature_names": ["rms", "kurtosis", "temperature"],
                    "model_names": ["isolation_forest", "one_class_svm"],
                }
            ]
        },
    )

    data: Annotated[
        list[Row], Field(min_length=1, max_length=MOST_ROWS, fail_fast=True), _BooleansInRows
    ]
    """Readings of healthy operation in time order, one per row; true and false count as 1 and 0."""
    feature_names: Annotated[list[Name], Field(max_length=MOST_FEATURES, fail_fast=True)] | None = (
        None
    )
    """Names of the columns; by default feature_1, feature_2 ..."""
    context_features: Annotated[list[Name], Field(max_length=MOST_FEATURES, fail_fast=True)] = (
        Field(default_factory=list)
    )
    """Columns of ``data`` that say how the machine is run, such as its load: the sensors are judged
    given these."""
    context: Annotated[
        dict[Name, Annotated[list[Setting], Field(max_length=MOST_ROWS, fail_fast=True)]],
        Field(max_length=MOST_FEATURES),
    ] = Field(default_factory=dict)
    """More of such columns, by name, with one number, word, true or false for each row of
    ``data``."""

    @field_validator("context")
    @classmethod
    def _fits(cls, context: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        n_rows = len(info.data.get("data", ()))
        for name, values in context.items():
            if n_rows and len(values) != n_rows:
                raise ValueError(f"{name} has {len(values)} values for {n_rows} rows of data")
            if name in (info.data.get("feature_names") or ()):
                raise ValueError(f"{name} is a column of data too; give it once")
        return context

    @property
    def rows(self) -> list[Row] | list[list[float | str]]:
        """The rows of ``data``, with the values of ``context`` at their ends."""
        if not self.context:
            return self.data
        return [[*row, *more] for row, *more in zip(self.data, *self.context.values(), strict=True)]

    @property
    def names(self) -> list[str] | None:
        """The names of the columns of ``rows``; None for the default ones."""
        if not self.context:
            return self.feature_names
        own = self.feature_names
        if own is None:
            own = [f"feature_{number + 1}" for number in range(len(self.data[0]))]
        return [*own, *self.context]

    @property
    def all_context_features(self) -> list[str]:
        """The names of all columns of the context."""
        return [*self.context_features, *self.context]

    @property
    def n_strings(self) -> int:
        """Strings in the JSON of this request."""
        names = (self.feature_names or []) + self.context_features
        words = n_strings(self.context) if self.context else 0
        return super().n_strings + len(names) + words


class UploadedFile(HowToTrain):
    """A file with the rows of a training, and what its sender says of it."""

    extension: str
    """What kind of file it is, such as ``.csv``."""
    filename: str
    """What its sender calls it."""
    reading: dict[str, Any] = Field(default_factory=dict)
    """The arguments of ``vigie.tables.stated.read_options``."""
    rows: str | None = None
    asset: str | None = None
    exclude: list[str] = Field(default_factory=list)
    feature: list[str] = Field(default_factory=list)
    context: list[str] = Field(default_factory=list)
    """As the options of ``vigie train``."""


class HistoryRange(BaseModel):
    """Readings that the service has seen."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    asset_id: Name
    sensor_id: Annotated[str, Field(max_length=200, pattern=NO_NUL)] | None = None
    start: Annotated[str, BeforeValidator(a_time)] | None = Field(None, alias="from")
    """The first time, or how long ago, such as 30d (min, h, d or w); by default the first reading
    of all."""
    end: Annotated[str, BeforeValidator(a_time)] | None = Field(None, alias="to")
    """The last time; by default now."""
    only_healthy: Annotated[bool, Strict()] = True
    """Leave out readings at which the asset was not ``normal``, and those of a change that led to
    an alarm."""

    @property
    def n_strings(self) -> int:
        """Strings in the JSON of this range."""
        values = (self.asset_id, self.sensor_id, self.start, self.end)
        return len(self.__pydantic_fields_set__) + sum(value is not None for value in values)


class HistoryTrainRequest(HowToTrain):
    """A training on readings that the service has seen."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"history": {"asset_id": "pump-7", "from": "30d"}}],
        },
    )

    history: HistoryRange
    feature_names: Annotated[list[Name], Field(max_length=MOST_FEATURES, fail_fast=True)] | None = (
        None
    )
    """The sensors; by default those of the models that serve, or all that half of the readings
    have."""
    context_features: (
        Annotated[list[Name], Field(max_length=MOST_FEATURES, fail_fast=True)] | None
    ) = None
    """What says how the machine is run; by default as in the models that serve."""

    @property
    def n_strings(self) -> int:
        """Strings in the JSON of this request."""
        names = (self.feature_names or []) + (self.context_features or [])
        return super().n_strings + len(names) + self.history.n_strings
