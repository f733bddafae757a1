"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigie.cli.terminal import err
from vigie.errors import InvalidDataError

if TYPE_CHECKING:
    import pandas as pd

    from vigie.tables.table import Table

Host = Annotated[
    str | None,
    typer.Option(
        help="Address to listen on, instead of VIGIE_HOST (127.0.0.1): 0.0.0.0 for every interface."
    ),
]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port to listen on, instead of VIGIE_PORT (8084)."),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(help="Speak HTTPS with this certificate and its chain (PEM), or VIGIE_TLS_CERT."),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(help="The certificate's key (PEM), if it is in another file, or VIGIE_TLS_KEY."),
]
Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="Ask nobody for an API key, at any address (VIGIE_AUTH=off)."),
]
RowRange = Annotated[
    str | None, typer.Option(help="Only these rows, such as 1:400, 401: or :400 (inclusive).")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(help="A column that is not a feature, such as a label. Repeatable."),
]
Features = Annotated[
    list[str] | None, typer.Option("--feature", help="Exactly these columns. Repeatable.")
]
Context = Annotated[
    list[str] | None,
    typer.Option(
        help="A column that says how the machine is run, such as its load or product, with numbers "
        "or words. The sensors are judged given it. Repeatable."
    ),
]


def chosen_features(
    table: Table,
    exclude: list[str] | None,
    feature: list[str] | None,
    context: list[str] | None = None,
) -> pd.DataFrame:
    """Return the columns that are features or context, and print which are left out, and why.

    Raises
    ------
    InvalidDataError
        If a named column does not exist, or no column of readings is left.
    """
    from vigie.tables.features import choose
    from vigie.tables.kinds import left_out_line

    chosen, left_out = choose(table, exclude or (), feature or (), context or ())
    if line := left_out_line(left_out):
        err.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
    return chosen


PICTURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg")
"""Endings of the files that pictures are written to."""


def check_picture(picture: Path | None) -> None:
    """Check that a picture can be written, before anything is computed for it.

    Raises
    ------
    InvalidDataError
        If its folder is missing or write-protected, or its name has no ending of a picture.
    """
    if picture is None:
        return
    if picture.suffix.lower() not in PICTURES:
        raise InvalidDataError(
            f"{picture} has no ending of a picture.",
            field="--picture",
            remedy=f"Pictures are {', '.join(PICTURES[:-2])} or {PICTURES[-2]}: "
            f"{picture.with_suffix('.png') if picture.name else 'picture.png'}, for example.",
        )
    folder = picture.parent
    if not folder.is_dir():
        raise InvalidDataError(
            f"There is no folder {folder}.", field="--picture", remedy="Create it, or name another."
        )
    if not os.access(picture if picture.is_file() else folder, os.W_OK) or picture.is_dir():
        raise InvalidDataError(f"{picture} cannot be written.", field="--picture")


def checked_models(names: list[str] | None) -> list[str] | None:
    """Return the names of models that an option gives, each once; None for None.

    Raises
    ------
    InvalidDataError
        If there is no such model.
    """
    from vigie.detectors.catalogue import checked_names

    if names is None:
        return None
    try:
        return checked_names(names)
    except InvalidDataError as error:
        raise InvalidDataError(error.message, field="--model", remedy=error.remedy) from error


def picture_path(picture: Path, asset: str | None) -> Path:
    """Return the file for the picture of a machine."""
    from vigie.registry.scopes import slug

    if asset is None:
        return picture
    return picture.with_stem(f"{picture.stem}-{slug(asset)}")


def print_notes(notes: Iterable[str]) -> None:
    """Print what a user should know of how a table was read."""
    for note in notes:
        line = f"{note.rstrip('.')}."
        err.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
