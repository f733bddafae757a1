"""``vigie config``: which settings are in force, and where each comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from vigie.cli.command import Command, Group
from vigie.cli.terminal import err, new_sheet, out
from vigie.printable import printable

if TYPE_CHECKING:
    from vigie.config import Origin

config = typer.Typer(
    cls=Group, help="Settings: which are in force, and where from.", no_args_is_help=True
)


@config.command(cls=Command)
def show(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with values of its types.")] = (
        False
    ),
) -> None:
    """Show every setting, its value, and where that comes from; secrets are masked."""
    from rich import box

    from vigie.config import FILE, FILE_VARIABLE, settings_file, written

    settings = list(_settings())
    if as_json:
        out.print_json(
            json.dumps(
                [
                    {
                        "name": variable,
                        "value": value,
                        "source": origin.kind,
                        "path": origin.path and str(origin.path),
                        "line": origin.line,
                    }
                    for variable, value, origin in settings
                ]
            ),
            highlight=False,
        )
        return
    sheet = new_sheet()
    sheet.box, sheet.show_edge, sheet.padding = box.SIMPLE_HEAD, False, (0, 0)
    for column in ("setting", "value", "from"):
        sheet.add_column(column, overflow="fold", no_wrap=column == "setting")
    files: dict[Path, None] = {}
    for variable, value, origin in settings:
        if origin.path:
            files[origin.path] = None
        text = "not set" if value in (None, "", []) else written(_joined(value))
        style = "dim" if origin.kind == "default" else None
        place = str(origin).removeprefix(f"{Path.cwd()}/")
        sheet.add_row(variable, *(escape(printable(cell)) for cell in (text, place)), style=style)
    out.print(sheet)
    if file := settings_file():
        files[file.path] = None
    else:
        _note(f"There is no configuration file: no {FILE} here, and {FILE_VARIABLE} is not set.")
    for path in files:
        _note(f"Read: {path}")


def _settings() -> Iterator[tuple[str, Any, Origin]]:
    """Yield the variable of each setting, its value as JSON has it, masked, and its origin."""
    from vigie.config import settings_kinds

    shown: set[str] = set()
    for kind in settings_kinds():
        settings, origins = kind(), kind.origins()
        for field in kind.model_fields:
            if field not in shown:
                shown.add(field)
                yield kind.variable(field), _masked(getattr(settings, field)), origins[field]


def _masked(value: Any) -> Any:
    """Return a value as JSON has it, without the secrets in it."""
    from pydantic import BaseModel, SecretStr

    from vigie.config import masked_address
    from vigie.keys import FORM, hidden

    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        # The id of a key is public, and says which key it is.
        return hidden(secret) if FORM.fullmatch(secret) else "***"
    if isinstance(value, tuple):
        return [_masked(part) for part in value]
    if isinstance(value, dict) and any(isinstance(part, BaseModel) for part in value.values()):
        return {name: _masked(part) for name, part in value.items()}
    if isinstance(value, BaseModel):
        table = value.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return {name: _masked(part) for name, part in table.items()}
    return masked_address(str(value)) if isinstance(value, str | Path) else value


def _note(sentence: str) -> None:
    err.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)


def _joined(value: Any) -> Any:
    is_of_tables = isinstance(value, list) and any(isinstance(part, dict) for part in value)
    if is_of_tables:
        return json.dumps(value)
    return tuple(value) if isinstance(value, list) else value
