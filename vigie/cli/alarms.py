"""``vigie alarms``: list, acknowledge and shelve the alarms of a service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vigie.cli.command import Command, Group
from vigie.cli.events import MOST, SHORT, Asset, whole_id
from vigie.cli.remote import LOCAL, AsJson, Server, asking, minute
from vigie.cli.terminal import new_sheet, out
from vigie.errors import InvalidDataError
from vigie.keys import Scope
from vigie.printable import printable

if TYPE_CHECKING:
    from vigie.client import Client
    from vigie.models.alarms import Alarm

alarms = typer.Typer(
    cls=Group, help="Alarms of a service: list, acknowledge, shelve.", no_args_is_help=True
)
UNITS = {"m": 60, "h": 3600, "d": 86_400}
TIME = re.compile(rf"([1-9]\d{{0,5}})([{''.join(UNITS)}])")
Number = Annotated[
    str, typer.Argument(metavar="ALARM", help="Its id, or the beginning of it, as the list has it.")
]


@alarms.command("list", cls=Command)
def list_alarms(
    asset: Asset = None,
    every: Annotated[
        bool, typer.Option("--all", help="Those that are cleared and acknowledged too.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="Most alarms to show.")] = 100,
    server: Server = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show the alarms that need somebody, the last to be raised first."""
    with asking(server, Scope.READ) as client:
        found = client.list_alarms(asset, limit=MOST if not every else limit)
    shown = [a for a in found.alarms if every or a.state == "active" or not a.acknowledged]
    shown = shown[:limit]
    if as_json:
        found = found.model_copy(update={"alarms": shown, "next": None})
        out.print_json(found.model_dump_json(), highlight=False)
        return
    if not shown:
        out.print("No alarm needs anybody." if not every else "There are no alarms.")
        return
    sheet = new_sheet()
    for column in ("alarm", "asset", "what", "raised (UTC)", "state", "sensor"):
        sheet.add_column(column, overflow="fold", no_wrap=column == "alarm")
    for alarm in shown:
        style = "bold" if alarm.state == "active" and not alarm.acknowledged else None
        sheet.add_row(*(escape(printable(cell)) for cell in _cells(alarm)), style=style)
    out.print(sheet)


@alarms.command(cls=Command)
def ack(
    alarm: Number,
    note: Annotated[str | None, typer.Option(help="What is done about it.")] = None,
    server: Server = LOCAL,
) -> None:
    """Acknowledge an alarm: somebody has seen it."""
    with asking(server, Scope.OPERATE) as client:
        known = client.acknowledge_alarm(_whole(alarm, client), note=note)
    by = f" by {known.acknowledged_by}" if known.acknowledged_by else ""
    _say(f"{_name(known)} is acknowledged{by}, at {minute(known.acknowledged_at)} UTC.")


@alarms.command(cls=Command)
def shelve(
    alarm: Number,
    time: Annotated[str, typer.Option("--for", help="How long: 30m, 8h or 1d.")],
    reason: Annotated[str, typer.Option(help="Why, for its log.")],
    server: Server = LOCAL,
) -> None:
    """Put an alarm aside for a time: nobody is told of it."""
    if not (match := TIME.fullmatch(time.strip())):
        raise InvalidDataError(
            f"{time!r} is no time.", field="--for", remedy="Write 30m, 8h or 1d."
        )
    with asking(server, Scope.OPERATE) as client:
        seconds = int(match[1]) * UNITS[match[2]]
        known = client.shelve_alarm(_whole(alarm, client), seconds, reason)
    _say(f"{_name(known)} is shelved until {minute(known.silent_until)} UTC.")


@alarms.command(cls=Command)
def unshelve(alarm: Number, server: Server = LOCAL) -> None:
    """Take up an alarm that is shelved."""
    with asking(server, Scope.OPERATE) as client:
        known = client.unshelve_alarm(_whole(alarm, client))
    _say(f"{_name(known)} is taken up again.")


def _whole(number: str, client: Client) -> str:
    return whole_id(
        number, "alarm", lambda: (one.id for one in client.list_alarms(limit=MOST).alarms)
    )


def _cells(alarm: Alarm) -> tuple[str, ...]:
    group = f" ({alarm.sensor_id})" if alarm.sensor_id else ""
    acknowledged = "acknowledged" if alarm.acknowledged else "not acknowledged"
    silence = f", {alarm.silence.replace('_', ' ')}" if alarm.silence else ""
    return (
        alarm.id[:SHORT],
        f"{alarm.asset_id}{group}",
        alarm.kind.words,
        minute(alarm.raised),
        f"{alarm.state}, {acknowledged}{silence}",
        alarm.sensors[0].name if alarm.sensors else "",
    )


def _name(alarm: Alarm) -> str:
    return f"Alarm {alarm.id[:SHORT]} ({alarm.kind.words}) of {alarm.asset_id}"


def _say(sentence: str) -> None:
    out.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)
