"""``vigie keys``: create, list and revoke API keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from vigie.cli.command import Command, Group
from vigie.cli.environment import read_settings
from vigie.cli.terminal import err, new_sheet, out
from vigie.errors import InvalidDataError
from vigie.keys import FORM, ID, ApiKey, Scope, new_key
from vigie.printable import printable

if TYPE_CHECKING:
    from vigie.history.keys import KeyStore

keys = typer.Typer(cls=Group, help="API keys: create, list and revoke them.", no_args_is_help=True)
UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
LIFE = re.compile(rf"([1-9]\d{{0,4}})([{''.join(UNITS)}])")
LONGEST_NAME = 100
SEEN_LATER = "A running service refuses it after ten seconds at most."


@keys.command(cls=Command)
def create(
    name: Annotated[str, typer.Argument(help="What the key is for, such as line-2-gateway.")],
    scope: Annotated[
        list[Scope],
        typer.Option(
            help="What it may do: read (GET), detect (also inspect files), operate (answer "
            "alarms), train, or admin (everything). Repeatable."
        ),
    ],
    expires: Annotated[
        str | None,
        typer.Option(help="How long it is valid: 12h, 90d or 52w; for ever, if left out."),
    ] = None,
) -> None:
    """Create a key, and print it: once, since only its hash is stored."""
    key, text = new_key(_checked(name), scope, _end(expires))
    with _store() as store:
        store.add(key)
        place = store.place
        try:
            out.print(text, markup=False, highlight=False, soft_wrap=True)
        except BaseException:
            # Nobody has seen it, and its name would stay taken.
            store.revoke(key.id)
            _note(f"Key {key.name} ({key.id}) is revoked, since it could not be shown.")
            raise
    until = f", until {_minute(key.expires)} UTC" if key.expires else ""
    _note(
        f"Key {key.name} ({key.id}) may {', '.join(sorted(key.scopes))}{until}. Keep it: it is not "
        f"shown again. Its hash is in {place}."
    )
    settings = read_settings()
    if not settings.demands_keys:
        whom = (
            "nobody"
            if settings.auth == "off"
            else f"no program of this machine, on {settings.host},"
        )
        _note(f"The service asks {whom} for a key; VIGIE_AUTH=on changes that.")


@keys.command("list", cls=Command)
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with times in UTC.")] = False,
) -> None:
    """Show all keys, also those that are revoked or expired."""
    from rich import box

    with _store() as store:
        stored = store.all()
    if as_json:
        out.print_json(json.dumps([_as_json(key) for key in stored]), highlight=False)
        return
    if not stored:
        out.print("There are no keys. `vigie keys create NAME --scope detect` makes one.")
        return
    sheet = new_sheet()
    sheet.box, sheet.show_edge, sheet.padding = box.SIMPLE_HEAD, False, (0, 0)
    for column in ("name", "id", "scopes", "created", "used (UTC)", "expires", "revoked"):
        sheet.add_column(column, overflow="fold", no_wrap=column not in ("name", "scopes"))
    for key in stored:
        times = (_day(key.created), _minute(key.used), _day(key.expires), _day(key.revoked))
        style = None if key.is_active(datetime.now(UTC)) else "dim"
        sheet.add_row(
            escape(printable(key.name)), key.id, " ".join(sorted(key.scopes)), *times, style=style
        )
    out.print(sheet)


@keys.command(cls=Command)
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id or its name.")],
) -> None:
    """Revoke a key; it stays in the list."""
    # Who has only the key itself, such as one that has leaked, can revoke it too.
    if match := FORM.fullmatch(key):
        key = match["id"]
    with _store() as store:
        before = store.revoke(key)
    if before.revoked:
        _note(f"Key {before.name} ({before.id}) was revoked at {_minute(before.revoked)} UTC.")
        return
    _note(f"Key {before.name} ({before.id}) is revoked. {SEEN_LATER}")


@contextmanager
def _store() -> Iterator[KeyStore]:
    from vigie.history.keys import KeyStore

    store = KeyStore(read_settings())
    try:
        yield store
    finally:
        store.close()


def _checked(name: str) -> str:
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidDataError(
            f"A name has 1 to {LONGEST_NAME} printable characters.",
            field="NAME",
            remedy="Name what the key is for, such as line-2-gateway.",
        )
    if ID.fullmatch(name):
        raise InvalidDataError(f"{name} looks like the id of a key.", field="NAME")
    return name


def _end(life: str | None) -> datetime | None:
    if life is None:
        return None
    if not (match := LIFE.fullmatch(life.strip())):
        raise InvalidDataError(
            f"{life!r} is no time.", field="--expires", remedy="Write 12h, 90d or 52w."
        )
    return datetime.now(UTC) + int(match[1]) * UNITS[match[2]]


def _minute(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else "–"


def _day(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d}" if time else "–"


def _note(sentence: str) -> None:
    err.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)


def _as_json(key: ApiKey) -> dict[str, Any]:
    times = {name: getattr(key, name) for name in ("created", "used", "expires", "revoked")}
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        **{name: time and time.isoformat(timespec="seconds") for name, time in times.items()},
    }
