"""The request for a training, as data."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationInfo, field_validator
from pydantic.json_schema import JsonSchemaValue

from vigie.models.anomaly_data import (
    MOST_FEATURES,
    BooleansAreNumbers,
    Name,
    Setting,
    Value,
    numbers_of,
)
from vigie.models.from_json import n_strings

MOST_ROWS = 1_000_000

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


class TrainRequest(BaseModel):
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
    model_names: Annotated[list[Name], Field(max_length=100, fail_fast=True)] | None = None
    """The detectors to train; by default all."""
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
        names = (self.feature_names or []) + (self.model_names or []) + self.context_features
        words = n_strings(self.context) if self.context else 0
        return len(self.__pydantic_fields_set__) + len(names) + words
