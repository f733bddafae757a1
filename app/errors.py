"""Hands on ``vigie.errors``."""

from vigie.errors import (
    ConflictError,
    HistoryError,
    InvalidDataError,
    JournalError,
    ModelNotFoundError,
    ModelRefusedError,
    NotTrainedError,
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
    "JournalError",
    "ModelNotFoundError",
    "ModelRefusedError",
    "NotTrainedError",
    "TrackingError",
    "TrackingRefusedError",
    "TrackingUnavailableError",
    "TrainingInterruptedError",
    "VigieError",
]
