"""The message of an alert: one change of an alarm, or many at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vigie.models.alarms import Alarm, Change
from vigie.models.events import EventSensor
from vigie.printable import printable

SOURCE = "/vigie"
TYPE, GROUP_TYPE, TEST_TYPE = "io.vigie.alarm.{}", "io.vigie.alarms", "io.vigie.test"
MOST_LISTED = 20
"""Lines of a message about many alarms."""
SHOWN_SENSORS = 3


@dataclass(frozen=True, slots=True)
class Notice:
    """A change of an alarm, to be told.

    Attributes
    ----------
    id : str
        To drop doubles by.
    change : Change
        What changed.
    at : datetime
        When, in UTC.
    by, note : str or None
        Who changed it, and what was said.
    alarm : Alarm
        As it is now.
    """

    id: str
    change: Change
    at: datetime
    by: str | None
    note: str | None
    alarm: Alarm

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "id": self.id,
            "change": self.change.value,
            "at": _iso(self.at),
            "by": self.by,
            "note": self.note,
            "alarm": self.alarm.model_dump(mode="json"),
        }


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel delivers.

    Attributes
    ----------
    id : str
        The same in each attempt.
    subject, text : str
        For people: one line, and the whole.
    event : dict
        For programs: a CloudEvent in its JSON form.
    """

    id: str
    subject: str
    text: str
    event: dict[str, Any]


def message_of(number: str, notices: Sequence[Notice]) -> Message:
    """Return the message about some changes.

    Parameters
    ----------
    number : str
        Its id.
    notices : sequence of Notice
        The changes, oldest first.

    References
    ----------
    CloudEvents 1.0.2, JSON event format.
    """
    data: dict[str, Any]
    if len(notices) == 1:
        [notice] = notices
        subject, text = _headline(notice), "\n".join(_lines(notice))
        data, kind = notice.as_dict(), TYPE.format(notice.change.value)
        about = notice.alarm.asset_id
    else:
        counts = Counter(notice.change for notice in notices)
        words = ", ".join(f"{n} {change.value}" for change, n in counts.items())
        subject, kind = f"{len(notices)} changes of alarms: {words}", GROUP_TYPE
        lines = [_headline(notice) for notice in notices[:MOST_LISTED]]
        if len(notices) > MOST_LISTED:
            lines.append(f"... and {len(notices) - MOST_LISTED} more")
        text = "\n".join([subject, "", *lines])
        data, about = {"notices": [notice.as_dict() for notice in notices]}, None
    event = _event(number, kind, notices[0].at, data)
    return Message(number, subject, text, event | ({"subject": about} if about else {}))


def trial(number: str, channel: str) -> Message:
    """Return a message that says that a channel works."""
    text = f"This is a test of the channel {channel} of Vigie. Nothing is wrong."
    event = _event(number, TEST_TYPE, datetime.now(UTC), {"channel": channel})
    return Message(number, f"Vigie: test of the channel {channel}", text, event)


def _event(number: str, kind: str, at: datetime, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": number,
        "source": SOURCE,
        "type": kind,
        "time": _iso(at),
        "datacontenttype": "application/json",
        "data": data,
    }


def _headline(notice: Notice) -> str:
    alarm = notice.alarm
    where = alarm.asset_id if alarm.sensor_id is None else f"{alarm.asset_id} ({alarm.sensor_id})"
    sensor = f", {_of(alarm.sensors[0])}" if alarm.sensors else ""
    level = f" ({alarm.criticality})" if alarm.criticality else ""
    # A subject is one line.
    return " ".join(
        f"{notice.change.value.upper()} {alarm.kind.words}{level}: {where}{sensor}".split()
    )


def _lines(notice: Notice) -> list[str]:
    alarm = notice.alarm
    lines = [_headline(notice), "", f"asset: {alarm.asset_id}"]
    lines += [f"sensor group: {alarm.sensor_id}"] if alarm.sensor_id else []
    lines += [f"began: {_iso(alarm.start)}", f"raised: {_iso(alarm.raised)}"]
    lines += [f"cleared: {_iso(alarm.cleared)}"] if alarm.cleared else []
    lines += [f"{notice.change.value} by: {notice.by}"] if notice.by else []
    lines += [f"note: {notice.note}"] if notice.note else []
    lines += [f"sensor: {_of(sensor)}" for sensor in alarm.sensors[:SHOWN_SENSORS]]
    lines += ["", f"alarm {alarm.id}, event {alarm.event_id}"]
    return [printable(line) for line in lines]


def _of(sensor: EventSensor) -> str:
    value = f"{sensor.value:.4g}" if isinstance(sensor.value, float) else sensor.value or "?"
    usual = "" if sensor.usual is None else f" (usual {sensor.usual:.4g})"
    return f"{sensor.name} {value}{usual}"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
