"""``vigie events``: what a service has seen on which asset, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vigie.cli.command import Command, Group
from vigie.cli.remote import LOCAL, AsJson, Server, asking, minute
from vigie.cli.terminal import new_sheet, out
from vigie.keys import Scope
from vigie.printable import printable

if TYPE_CHECKING:
    from vigie.models.events import AssetEvent, EventSensor

events = typer.Typer(
    cls=Group, help="Events of assets, as a service has kept them.", no_args_is_help=True
)
Asset = Annotated[
    str | None, typer.Option(help="Only this asset, or those below this path, such as site/line.")
]


@events.command("list", cls=Command)
def list_events(
    asset: Asset = None,
    state: Annotated[str | None, typer.Option(help="Only open or closed ones.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Only of this kind: alarm, drift, bad_data, unknown_operating_point."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most events to show.")] = 20,
    server: Server = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show the last events, the newest first."""
    with asking(server, Scope.READ) as client:
        found = client.list_events(asset, state=state, kind=kind, limit=limit)
    if as_json:
        out.print_json(found.model_dump_json(), highlight=False)
        return
    if not found.events:
        out.print("There are no such events.")
        return
    sheet = new_sheet()
    for column in ("asset", "event", "from (UTC)", "to", "readings", "sensors"):
        sheet.add_column(column, overflow="fold")
    for event in found.events:
        sheet.add_row(
            *(escape(printable(cell)) for cell in _cells(event)),
            style="bold" if event.is_open else None,
        )
    out.print(sheet)
    if found.next:
        out.print(f"There are more; --limit shows up to 1000, now {limit}.")


def _cells(event: AssetEvent) -> tuple[str, ...]:
    group = f" ({event.sensor_id})" if event.sensor_id else ""
    return (
        f"{event.asset_id}{group}",
        event.kind.words if event.kind else "",
        minute(event.start),
        minute(event.end) if event.end else "goes on",
        f"{event.n_readings:,}",
        ", ".join(_of(sensor) for sensor in event.sensors[:2]),
    )


def _of(sensor: EventSensor) -> str:
    value = f"{sensor.value:.4g}" if isinstance(sensor.value, float) else sensor.value or "?"
    usual = "" if sensor.usual is None else f" (usual {sensor.usual:.4g})"
    return f"{sensor.name} {value}{usual}"
