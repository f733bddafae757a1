"""``vigie alerts``: try the channels by which alarms are told, and see what was told."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vigie.cli.command import Command, Group
from vigie.cli.environment import read_settings
from vigie.cli.remote import LOCAL, AsJson, Server, asking, minute
from vigie.cli.terminal import new_sheet, out, print_error
from vigie.errors import InvalidDataError
from vigie.keys import Scope
from vigie.printable import printable

if TYPE_CHECKING:
    from vigie.models.alarms import Alert

alerts = typer.Typer(
    cls=Group, help="Alerts: try the channels, and see what was told.", no_args_is_help=True
)


@alerts.command("test", cls=Command)
def try_channels(
    channel: Annotated[
        list[str] | None, typer.Argument(help="Names of channels; by default all.")
    ] = None,
) -> None:
    """Send a test message by each channel of the settings, and say whether it was taken.

    Exit status: 0 if all were, 1 otherwise.
    """
    from vigie.alerts.delivery import deliver
    from vigie.alerts.message import trial
    from vigie.config import masked
    from vigie.errors import AlertError

    channels = read_settings().alert_channels
    if not channels:
        raise InvalidDataError(
            "There is no channel to try.",
            field="VIGIE_ALERT_CHANNELS",
            remedy="Describe one in vigie.toml: [alert_channels.NAME].",
        )
    for name in channel or ():
        if name not in channels:
            raise InvalidDataError(
                f"There is no channel {name!r}.",
                field="CHANNEL",
                remedy=f"The settings have {', '.join(channels)}.",
            )
    has_failed = False
    for name in channel or channels:
        try:
            deliver(channels[name], trial(uuid.uuid4().hex, name))
        except AlertError as error:
            has_failed = True
            print_error(masked(f"{name}: {error}"))
        else:
            _say(f"{name}: the message was taken.")
    if has_failed:
        raise typer.Exit(1)


@alerts.command("list", cls=Command)
def list_alerts(
    state: Annotated[
        str | None, typer.Option(help="Only those that are waiting, sent, silent or dead.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most alerts to show.")] = 20,
    server: Server = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show what was told of alarms, the newest first."""
    with asking(server, Scope.READ) as client:
        found = client.list_alerts(state, limit=limit)
    if as_json:
        out.print_json(found.model_dump_json(), highlight=False)
        return
    if not found.alerts:
        out.print("There are no such alerts.")
        return
    sheet = new_sheet()
    for column in ("alert", "at (UTC)", "channel", "change", "state", "attempts", "error"):
        sheet.add_column(column, overflow="fold", no_wrap=column == "alert")
    for alert in found.alerts:
        sheet.add_row(*(escape(printable(cell)) for cell in _cells(alert)))
    out.print(sheet)


@alerts.command(cls=Command)
def retry(
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="The id of a dead letter.")],
    server: Server = LOCAL,
) -> None:
    """Send a dead letter again."""
    with asking(server, Scope.OPERATE) as client:
        known = client.retry_alert(alert)
    _say(f"Alert {known.id} to {known.channel} is sent again.")


def _cells(alert: Alert) -> tuple[str, ...]:
    due = f", next {minute(alert.due)}" if alert.due and alert.attempts else ""
    return (
        alert.id,
        minute(alert.at),
        alert.channel,
        alert.change.value,
        f"{alert.state}{due}",
        str(alert.attempts),
        alert.error or "",
    )


def _say(sentence: str) -> None:
    out.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)
