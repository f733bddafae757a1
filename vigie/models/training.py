"""The request for a training, as data."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from vigie.models.anomaly_data import MOST_FEATURES, Name, Value

MOST_ROWS = 1_000_000

Row = Annotated[list[Value], Field(max_length=MOST_FEATURES, fail_fast=True)]


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

    data: Annotated[list[Row], Field(min_length=1, max_length=MOST_ROWS, fail_fast=True)]
    """Readings of healthy operation in time order, one per row."""
    feature_names: Annotated[list[Name], Field(max_length=MOST_FEATURES, fail_fast=True)] | None = (
        None
    )
    """Names of the columns; by default feature_1, feature_2 ..."""
    model_names: Annotated[list[Name], Field(max_length=100, fail_fast=True)] | None = None
    """The detectors to train; by default all."""

    @property
    def n_strings(self) -> int:
        """Strings in the JSON of this request."""
        names = (self.feature_names or []) + (self.model_names or [])
        return len(self.__pydantic_fields_set__) + len(names)
