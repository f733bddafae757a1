"""Stored readings with their results, and the search for them, as data."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from vigie.errors import InvalidDataError
from vigie.faults import NO_NUL
from vigie.models.anomaly_data import AssetState, CriticalityLevel, Name
from vigie.models.from_json import refused
from vigie.models.training import a_time, moment

MOST_IN_JSON, MOST_IN_A_FILE = 10_000, 100_000
"""Readings of one answer, in JSON and in a file."""
LISTED = 100
"""Readings of an answer in JSON, unless more are asked for."""
MOST_SKIPPED = 100_000
FEWEST_POINTS, MOST_POINTS = 10, 100_000
SEPARATOR = "/"
"""Of the parts of an asset's path: a name that ends with it stands for all assets below."""

Time = Annotated[str, BeforeValidator(a_time)]


class Order(StrEnum):
    """Which readings come first."""

    NEWEST = "newest"
    OLDEST = "oldest"


class ReadingFormat(StrEnum):
    """The form of an answer."""

    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"
    """A stream of Arrow's IPC format."""


class Key(NamedTuple):
    """The place of a reading among all: when it was measured, and the number of its asset."""

    measured_us: int
    asset: int

    def cursor(self, order: Order) -> str:
        """Return the cursor for the readings after this one."""
        text = f"{self.measured_us}.{self.asset}.{order}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def of(cls, cursor: str, order: Order) -> Key:
        """Return the place that a cursor names.

        Raises
        ------
        InvalidDataError
            If it is none, or one of the other order.
        """
        try:
            text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
            measured_us, asset, its_order = text.split(".")
            place = cls(int(measured_us), int(asset))
        except (binascii.Error, ValueError):
            its_order = ""
        if (
            its_order != order
            or not -(2**62) < place.measured_us < 2**62
            or not 0 <= place.asset < 2**31
        ):
            raise InvalidDataError(
                "It is no cursor of these readings.",
                field="cursor",
                remedy="Give the `next` of an answer with the same order, or leave it out.",
            )
        return place


class ReadingSearch(BaseModel):
    """Which stored readings are asked for."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    asset_id: Name | None = None
    """The asset. With a `/` at its end, all assets whose names begin so: `site/line/`."""
    sensor_id: Annotated[str, Field(max_length=200, pattern=NO_NUL)] | None = None
    """The group of sensors; empty for the readings without one."""
    start_date: Time | None = None
    """Not before this time: in ISO 8601, or how long ago, such as `30d`."""
    end_date: Time | None = None
    """Not after this time."""
    is_anomaly: bool | None = None
    """Only readings that were anomalies by themselves, or only those that were not."""
    criticality: list[CriticalityLevel] = []
    """Only anomalies of this criticality. Repeatable."""
    order: Order = Order.NEWEST
    """Which come first."""
    limit: Annotated[int, Field(ge=1, le=MOST_IN_A_FILE)] | None = None
    """Most readings of the answer: by default 100 in JSON, where 10,000 are the most, and 100,000
    in a file."""
    offset: Annotated[int, Field(ge=0, le=MOST_SKIPPED)] = 0
    """How many are left out before. To read all in turn, give `cursor` instead: it takes no longer
    for later readings, and new ones do not shift it."""
    cursor: Annotated[str, Field(max_length=200)] | None = None
    """The `next` of the last answer, for the readings after it."""
    points: Annotated[int, Field(ge=FEWEST_POINTS, le=MOST_POINTS)] | None = None
    """For a picture of one asset: about so many of its readings at most, from all over the time
    asked for, with the extremes of each value and of the score. The oldest comes first."""
    format: ReadingFormat = ReadingFormat.JSON
    """The form of the answer, instead of the header Accept."""

    @property
    def n_wanted(self) -> int:
        """Most readings of the answer."""
        if self.limit is not None:
            return self.limit
        return LISTED if self.format is ReadingFormat.JSON else MOST_IN_A_FILE

    def times(self, now: datetime) -> tuple[datetime | None, datetime | None]:
        """Return the first and the last time that is asked for; None without a limit.

        Raises
        ------
        InvalidDataError
            If the first is after the last.
        """
        first = None if self.start_date is None else moment(self.start_date, now)
        last = None if self.end_date is None else moment(self.end_date, now)
        if first is not None and last is not None and first > last:
            raise InvalidDataError(
                f"It begins at {first:%Y-%m-%dT%H:%M:%SZ}, but ends at {last:%Y-%m-%dT%H:%M:%SZ}.",
                field="end_date",
                remedy="Give a later time, or leave it out.",
            )
        return first, last


SEARCH = TypeAdapter(ReadingSearch)


def search_of(given: Mapping[str, Any]) -> ReadingSearch:
    """Return a search, checked.

    Raises
    ------
    InvalidDataError
        If a parameter cannot be used, or not with another one.
    """
    try:
        asked = SEARCH.validate_python(given)
    except ValidationError as error:
        raise refused(SEARCH, error, given) from None
    most = MOST_IN_JSON if asked.format is ReadingFormat.JSON else MOST_IN_A_FILE
    for is_wrong, message, field, remedy in (
        (
            asked.points is not None and bool(asked.limit or asked.offset or asked.cursor),
            "A picture is of all readings of a time.",
            "points",
            "Give it without limit, offset and cursor; start_date and end_date limit the time.",
        ),
        (
            asked.cursor is not None and asked.offset > 0,
            "Both say where to begin.",
            "offset",
            "Leave it out: the cursor suffices.",
        ),
        (
            bool(asked.criticality) and asked.is_anomaly is False,
            "Only anomalies have a criticality.",
            "criticality",
            "Leave it out, or is_anomaly.",
        ),
        (
            asked.limit is not None and asked.limit > most,
            f"An answer in JSON has {most} readings at most.",
            "limit",
            "Read on with the cursor, or ask for another format.",
        ),
    ):
        if is_wrong:
            raise InvalidDataError(message, field=field, remedy=remedy)
    return asked


# No pydantic model: an answer has up to a hundred thousand, and these are made ten times faster.
@dataclass(frozen=True, slots=True)
class StoredReading:
    """A reading that was assessed, with what was said of it then."""

    asset_id: str
    sensor_id: str | None
    timestamp: datetime
    features: dict[str, float | None]
    context: dict[str, float | bool | str | None]
    """How the machine was run."""
    models: dict[str, int | None]
    """The models that answered, each with its version in the registry; empty for readings that an
    earlier version of Vigie has stored."""
    final_score: float | None
    """1 - p of the models combined."""
    p_value: float | None
    """The conservative p-value of the reading, as later readings add it up."""
    is_anomaly: bool
    criticality: CriticalityLevel | None
    state: AssetState | None
    """The state of the asset after the reading."""
    since: datetime | None
    """When the asset entered this state."""
    began: datetime | None
    """When the change behind an alarm began."""


class ReadingPage(BaseModel):
    """Readings, and how to go on."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    readings: list[StoredReading]
    next: str | None
    """The `cursor` of the readings that follow; null after the last one."""
    thinned_from: int | None = None
    """With `points`: of how many readings these are the picture."""


@lru_cache(1000)
def utc(text: str | None) -> datetime | None:
    """Return a time that the history has as text."""
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)
