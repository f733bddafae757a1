"""What is asked of a source: the query, the period, and the time between two rows."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from vigie.errors import InvalidDataError
from vigie.tables.sources.addresses import Address

UNITS_MS = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}
"""Units of a duration, in milliseconds."""
_DURATION = re.compile(r"(\d+)(ms|[smhdwy])")
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Request:
    """A request to a source; ``fetch`` describes its parts."""

    address: Address
    query: str | None = None
    start: str | None = None
    end: str | None = None
    step: str | None = None
    columns: Collection[str] | None = None

    def required_query(self, example: str) -> str:
        """Return the query.

        Raises
        ------
        InvalidDataError
            If there is none.
        """
        if self.query is None or not self.query.strip():
            raise InvalidDataError(
                f"{self.address.shown} needs a query.", field="--query", remedy=f"Such as {example}"
            )
        return self.query.strip()

    def require_no_period(self, where: str) -> None:
        """Check that no period is given to a source whose query holds it.

        Raises
        ------
        InvalidDataError
            If one is.
        """
        for option in ("start", "end", "step"):
            if getattr(self, option) is not None:
                raise InvalidDataError(
                    "The query itself says which times are wanted.",
                    field=f"--{option}",
                    remedy=f"Leave it out, and write {where}.",
                )

    def period_ms(self, remedy: str) -> tuple[int, int]:
        """Return the start and the end of the period, in ms since 1970.

        Raises
        ------
        InvalidDataError
            If there is no start, one of them is no time, or the end is not after the start.
        """
        now = time.time_ns() // 1_000_000
        if self.start is None:
            raise InvalidDataError("From when on?", field="--start", remedy=remedy)
        start = time_ms(self.start, now, "--start")
        end = time_ms(self.end or "now", now, "--end")
        if end <= start:
            raise InvalidDataError(
                "The end is not after the start.",
                field="--end",
                remedy=f"The period starts at {rfc3339(start)} and ends at {rfc3339(end)}.",
            )
        return start, end

    def step_ms(self) -> int | None:
        """Return the time between two rows, in ms; None if it is not given.

        Raises
        ------
        InvalidDataError
            If it is no duration.
        """
        if self.step is None:
            return None
        step = duration_ms(self.step)
        if not step:
            raise InvalidDataError(
                f"{self.step!r} is no duration.", field="--step", remedy="Write it as 30s or 5m."
            )
        return step


def time_ms(text: str, now_ms: int, field: str) -> int:
    """Return a time in ms since 1970: of ``now``, RFC 3339, seconds, or a duration ago.

    A time without zone is in UTC.

    Raises
    ------
    InvalidDataError
        If it is none of them; the error names the field.
    """
    text = text.strip()
    if text == "now":
        return now_ms
    if _NUMBER.fullmatch(text):
        return round(float(text) * 1000)
    if ago := duration_ms(text):
        return now_ms - ago
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise InvalidDataError(
            f"{text!r} is no time.",
            field=field,
            remedy="Write it as 2026-01-05T08:00:00Z, or as 7d for seven days ago.",
        ) from None


def duration_ms(text: str) -> int | None:
    """Return a duration such as ``1d12h`` or a number of seconds, in ms; None if it is neither."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return round(float(text) * 1000)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(int(number) * UNITS_MS[unit] for number, unit in parts)


def rfc3339(time_ms: int) -> str:
    """Return a time as RFC 3339, in UTC."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
