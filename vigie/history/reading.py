"""One reading of one asset, and what was decided about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Reading:
    """A row of the history."""

    asset_id: str
    sensor_id: str | None
    timestamp: datetime
    features: dict[str, float | None]
    result: dict[str, Any]
