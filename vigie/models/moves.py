"""Moves of versions between stages, and requests for them, as data."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

Reason = Annotated[str, Field(max_length=1000)]


class Action(StrEnum):
    """What moved a version."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    TRAINING = "training"
    """It was trained for this stage."""
    REPLACED = "replaced"
    """Another version took its place."""
    ARCHIVE = "archive"
    RESET = "reset"
    """It was moved out of all stages."""
    UNRECORDED = "unrecorded"
    """Another tool, or a version of Vigie that kept no history."""


class Rollback(BaseModel):
    """A return to the version that was in Production before."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "Alarms on a healthy pump."}]}
    )

    reason: Reason | None = None
    """For the history of the model."""

    @property
    def n_strings(self) -> int:
        """Strings in the JSON of this request."""
        return len(self.__pydantic_fields_set__) + (self.reason is not None)


class Promotion(Rollback):
    """A version, the stage to which it is moved, and why."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"version": 1, "reason": "Trained after the overhaul."}]},
    )

    version: Annotated[int, Strict(), Field(ge=1, le=2**31 - 1)]
    stage: Literal["Production", "Staging", "Archived", "None"] = "Production"

    @property
    def n_strings(self) -> int:
        """Strings in the JSON of this request."""
        return super().n_strings + ("stage" in self.__pydantic_fields_set__)
