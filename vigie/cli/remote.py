"""Ask a service, for the commands that tell of what it has stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from vigie.cli.environment import read_settings
from vigie.cli.train_remote import as_of_the_command
from vigie.errors import VigieError
from vigie.keys import Scope

if TYPE_CHECKING:
    from vigie.client import Client

Server = Annotated[str, typer.Option(help="The service to ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, with times in UTC.")]
LOCAL = "http://localhost:8084"


@contextmanager
def asking(server: str, scope: Scope) -> Iterator[Client]:
    """Yield a client of a service; its errors name the option or the scope that mends them.

    Raises
    ------
    VigieError
        If it refuses, or cannot be reached.
    """
    from vigie.client import Client

    settings = read_settings()
    try:
        with Client(server, verify=settings.tls_cert or True) as client:
            yield client
    except VigieError as error:
        raise as_of_the_command(error, scope) from error


def minute(time: datetime | None) -> str:
    """Return a time as tables have it."""
    return f"{time:%Y-%m-%d %H:%M}" if time else "–"
