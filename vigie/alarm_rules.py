"""What the settings say of alarms: which events raise one and when, and when assets are serviced.

A rule names assets by a pattern of their paths: ``site/line-2`` is that asset, and all below it;
``*`` is any text, ``?`` any character. Of several rules, the first one that fits an asset counts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
)

Kind = Literal["alarm", "unknown_operating_point", "drift", "bad_data", "no_data"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
KINDS: tuple[Kind, ...] = ("alarm", "unknown_operating_point", "drift", "bad_data", "no_data")
LONGEST_DELAY_S = 86_400.0
BASE64_SECRET = "whsec_"
"""How a secret begins that is written in base64, as Standard Webhooks has it."""
Level = Literal["low", "medium", "high", "critical"]
LEVELS = ("low", "medium", "high", "critical")
Told = Literal["raised", "cleared", "acknowledged"]
ONE_ADDRESS = r"^[^@\s<>,]+@[^@\s<>,]+$"


def _no_number(value: Any) -> Any:
    if isinstance(value, int | float) or (isinstance(value, str) and ":" not in value):
        # pydantic would take it for seconds since midnight.
        raise ValueError("A time of day is expected, such as 06:30")
    return value


def _without_zone(value: time) -> time:
    if value.tzinfo is not None:
        raise ValueError("A time of day is expected without an offset; zone says of which clock")
    return value


TimeOfDay = Annotated[time, BeforeValidator(_no_number), AfterValidator(_without_zone)]
Delay = Annotated[float, Field(ge=0, le=LONGEST_DELAY_S)]


class ForAssets(BaseModel):
    """Something that holds for the assets of a pattern."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    assets: Annotated[str, Field(min_length=1, max_length=200)] = "*"

    def fits(self, asset_id: str) -> bool:
        """Return whether an asset is one of these, or lies below one."""
        return fits(self.assets, asset_id)


R = TypeVar("R", bound=ForAssets)


class AlarmRule(ForAssets):
    """Which events of some assets raise an alarm, and when."""

    kinds: tuple[Kind, ...] = KINDS
    """Of the events that raise one."""
    on_delay_s: Delay = 0.0
    """How long an event must go on before it raises one."""
    off_delay_s: Delay = 0.0
    """How long it must have ended before the alarm clears; if it comes back meanwhile, the alarm
    goes on."""
    deadband_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The p-value of the asset below which the alarm does not clear, though its event has ended."""
    no_data_after_s: Annotated[float, Field(ge=1, le=31_536_000)] | None = None
    """How long without a reading is an event of its own, ``no_data``; not set, it is none."""


class WeeklyWindow(BaseModel):
    """A stretch of some days of the week, on the clock of a zone."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    days: Annotated[tuple[Day, ...], Field(min_length=1)] = DAYS
    """On which it begins."""
    from_: Annotated[TimeOfDay, Field(alias="from")] = time(0)
    to: TimeOfDay = time(0)
    """An end that is not after the beginning is on the next day."""
    zone: str = "UTC"
    """Of the clock, such as Europe/Paris."""

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("A time zone is expected, such as Europe/Paris or UTC") from None
        return value

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    def ends(self, moment: datetime) -> datetime | None:
        """Return when the window ends that a time in UTC lies in; None if it lies in none."""
        here = moment.astimezone(self._zone)
        for back in (0, 1):
            day = here.date() - timedelta(days=back)
            if DAYS[day.weekday()] not in self.days:
                continue
            begin = datetime.combine(day, self.from_, self._zone)
            last = day + timedelta(days=int(self.to <= self.from_))
            end = datetime.combine(last, self.to, self._zone)
            # By the clock of UTC: where clocks change, a window is longer or shorter.
            if begin.astimezone(UTC) <= moment < end.astimezone(UTC):
                return end.astimezone(UTC)
        return None


class Maintenance(ForAssets, WeeklyWindow):
    """When some assets are serviced, week by week: their alarms are silent."""

    reason: Annotated[str, Field(max_length=200)] = "maintenance"


class LoadLimits(BaseModel):
    """What counts as too many alarms, or as alarms of no use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    standing_s: Annotated[float, Field(gt=0)] = 86_400.0
    """An alarm that has been active for longer is standing."""
    fleeting_s: Annotated[float, Field(gt=0)] = 60.0
    """One that was active for less is fleeting."""
    chattering: Annotated[int, Field(ge=2)] = 3
    chattering_s: Annotated[float, Field(gt=0)] = 60.0
    """So many alarms of one asset and kind within so many seconds are chattering."""
    flood: Annotated[int, Field(ge=2)] = 10
    flood_s: Annotated[float, Field(gt=0)] = 600.0
    """So many alarms of all assets within so many seconds are a flood."""


class AlertRoute(ForAssets, WeeklyWindow):
    """Which channels send the alerts of some assets, and when in the week."""

    kinds: tuple[Kind, ...] = KINDS
    at_least: Level | None = None
    """The least criticality of the event; not set, it is told whatever it has."""
    changes: tuple[Told, ...] = ("raised", "cleared")
    channels: Annotated[tuple[str, ...], Field(min_length=1)]

    def takes(
        self, asset_id: str, kind: str, level: str | None, change: str, moment: datetime
    ) -> bool:
        """Return whether a change of an alarm goes this way.

        Parameters
        ----------
        asset_id, kind, level, change : str
            Of the alarm; None as the level if no reading was an anomaly by itself.
        moment : datetime
            When, in UTC.
        """
        is_wanted = kind in self.kinds and change in self.changes and self.fits(asset_id)
        if self.at_least is not None:
            reached = -1 if level is None else LEVELS.index(level)
            is_wanted = is_wanted and reached >= LEVELS.index(self.at_least)
        return is_wanted and self.ends(moment) is not None


class Webhook(BaseModel):
    """An address to which alarms are posted as CloudEvents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["webhook"]
    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    secret: SecretStr | None = None
    """What messages are signed with, at best 24 random bytes or more; after whsec_, as base64."""
    timeout_s: Annotated[float, Field(gt=0, le=30)] = 10.0

    @field_validator("secret")
    @classmethod
    def _is_readable(cls, value: SecretStr | None) -> SecretStr | None:
        text = "" if value is None else value.get_secret_value()
        if text.startswith(BASE64_SECRET):
            try:
                base64.b64decode(text.removeprefix(BASE64_SECRET), validate=True)
            except ValueError:
                raise ValueError(f"After {BASE64_SECRET}, base64 is expected") from None
        return value


class Mail(BaseModel):
    """Addresses of e-mail, and the server that takes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    kind: Literal["email"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: SecretStr | None = None
    from_: Annotated[str, Field(alias="from", pattern=ONE_ADDRESS)]
    to: Annotated[tuple[Annotated[str, Field(pattern=ONE_ADDRESS)], ...], Field(min_length=1)]
    timeout_s: Annotated[float, Field(gt=0, le=30)] = 10.0


class Apprise(BaseModel):
    """Addresses of Apprise: Slack, Teams, Telegram and many others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["apprise"]
    urls: Annotated[tuple[SecretStr, ...], Field(min_length=1)]


Channel = Annotated[Webhook | Mail | Apprise, Field(discriminator="kind")]


def fits(pattern: str, asset_id: str) -> bool:
    """Return whether an asset has a pattern, or lies below one that has it."""
    return fnmatchcase(asset_id, pattern) or fnmatchcase(asset_id, f"{pattern.rstrip('/')}/*")


def first_fit(rules: Sequence[R], asset_id: str) -> R | None:
    """Return the first rule for an asset; None if there is none."""
    return next((rule for rule in rules if rule.fits(asset_id)), None)


def read_tables(value: Any) -> Any:
    """Return tables of a setting, which the environment gives as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else []
    except ValueError:
        raise ValueError("JSON is expected, such as [{...}]") from None
