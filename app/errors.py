"""Hands on ``vigie.errors``."""

from vigie.errors import (
    ConflictError,
    HistoryError,
    InvalidDataError,
    ModelNotFoundError,
    ModelRefusedError,
    NotTrainedError,
    OutboxError,
    TrackingError,
    TrackingRefusedError,
    TrackingUnavailableError,
    TrainingInterruptedError,
    VigieError,
)

__all__ = [
    "ConflictError",
    "HistoryError",
    "InvalidDataError",
    "ModelNotFoundError",
    "ModelRefusedError",
    "NotTrainedError",
    "OutboxError",
    "TrackingError",
    "TrackingRefusedError",
    "TrackingUnavailableError",
    "TrainingInterruptedError",
    "VigieError",
]
