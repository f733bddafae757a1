"""``vigie events``: what a service has seen on which asset, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vigie.cli.command import Command, Group
from vigie.cli.remote import LOCAL, AsJson, Server, asking, minute
from vigie.cli.terminal import new_sheet, out
from vigie.errors import InvalidDataError
from vigie.keys import Scope
from vigie.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vigie.models.events import AssetEvent, EventSensor

events = typer.Typer(
    cls=Group,
    help="Events of assets, as a service has kept them: list and label.",
    no_args_is_help=True,
)
SHORT = 8
"""Characters of an id in a table; as many are enough to name an event or alarm."""
WHOLE = ("event", "from, to (UTC)")
"""Columns that are not folded."""
MOST = 1000
"""Last events or alarms among which one is named by the beginning of its id."""
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
    labelled: Annotated[
        str | None,
        typer.Option("--label", help="Only those labelled true, false or unclear; none: not yet."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="Most events to show.")] = 20,
    server: Server = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show the last events, the newest first."""
    with asking(server, Scope.READ) as client:
        found = client.list_events(asset, state=state, kind=kind, label=labelled, limit=limit)
    if as_json:
        out.print_json(found.model_dump_json(), highlight=False)
        return
    if not found.events:
        out.print("There are no such events.")
        return
    sheet = new_sheet()
    for column in ("event", "asset", "what", "from, to (UTC)", "readings", "sensors"):
        sheet.add_column(column, overflow="fold", no_wrap=column in WHOLE)
    for event in found.events:
        sheet.add_row(
            *map(escape, _cells(event)),
            style="bold" if event.is_open else None,
        )
    out.print(sheet)
    if found.next:
        out.print(f"There are more; --limit shows up to {MOST}, now {limit}.")


@events.command(cls=Command)
def label(
    event: Annotated[
        str,
        typer.Argument(metavar="EVENT", help="Its id, or the beginning of it, as the list has it."),
    ],
    label: Annotated[
        str,
        typer.Argument(
            metavar="LABEL", help="true: something was wrong; false: a false alarm; or unclear."
        ),
    ],
    cause: Annotated[str | None, typer.Option(help="What was behind it.")] = None,
    note: Annotated[str | None, typer.Option(help="More about it.")] = None,
    server: Server = LOCAL,
) -> None:
    """Say what an event was, in place of what was said before."""
    with asking(server, Scope.OPERATE) as client:
        number = whole_id(
            event, "event", lambda: (one.id for one in client.list_events(limit=MOST).events)
        )
        known = client.label_event(number, label, cause=cause, note=note)
    by = f" by {known.labelled_by}" if known.labelled_by else ""
    what = f"Event {number[:SHORT]} ({known.kind.words if known.kind else ''}) of {known.asset_id}"
    sentence = f"{what} is labelled {known.label}{by}."
    out.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)


def whole_id(number: str, what: str, last: Callable[[], Iterable[str | None]]) -> str:
    """Return the id of an event or alarm, given its beginning.

    Raises
    ------
    InvalidDataError
        If none of the last ones has it, or several have.
    """
    if len(number) == 32:
        return number
    found = [one for one in last() if one is not None and one.startswith(number)]
    if len(found) != 1:
        raise InvalidDataError(
            f"{f'Several {what}s begin' if found else f'No {what} begins'} with {number!r}.",
            field=what.upper(),
            remedy=f"`vigie {what}s list --json` has whole ids.",
        )
    return found[0]


def _cells(event: AssetEvent) -> tuple[str, ...]:
    group = f" ({event.sensor_id})" if event.sensor_id else ""
    kind = event.kind.words if event.kind else ""
    return (
        (event.id or "")[:SHORT],
        printable(f"{event.asset_id}{group}"),
        f"{kind}\nlabelled {event.label}" if event.label else kind,
        f"{minute(event.start)}\n{minute(event.end) if event.end else 'goes on'}",
        f"{event.n_readings:,}",
        "\n".join(printable(_of(sensor)) for sensor in event.sensors[:2]),
    )


def _of(sensor: EventSensor) -> str:
    value = f"{sensor.value:.4g}" if isinstance(sensor.value, float) else sensor.value or "?"
    usual = "" if sensor.usual is None else f" (usual {sensor.usual:.4g})"
    return f"{sensor.name} {value}{usual}"
