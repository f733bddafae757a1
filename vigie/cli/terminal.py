"""The terminal: results on standard output, everything else on standard error."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from rich.table import Table as Sheet

out = Console()
err = Console(stderr=True)


def new_sheet() -> Sheet:
    """Return an empty table."""
    from rich.table import Table

    return Table(header_style="bold")


def complain(error: str) -> None:
    """Say what went wrong."""
    err.print(f"[red]Error:[/] {escape(error)}", highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(what: str = "training") -> Iterator[Callable[[str, float], None]]:
    """Draw a bar, if there is a terminal, while a block lasts.

    Yields
    ------
    callable
        Takes what is being done, and the share of it that is finished.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<36}"), BarColumn(), TimeElapsedColumn())
    disabled = not err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=disabled) as bars:
        task = bars.add_task(what, total=1.0)
        yield lambda step, share: bars.update(task, description=step, completed=share)


@contextmanager
def progress_lines() -> Iterator[Callable[[str, float], None]]:
    """Write progress to a log, where no bar can be drawn."""
    yield lambda step, share: err.print(f"{share:>4.0%} {step}", highlight=False)


@contextmanager
def signals_as_exit() -> Iterator[None]:
    """Let a termination end the block as Ctrl-C does, so that what was started is stopped."""

    def leave(number: int, frame: Any) -> None:
        raise typer.Exit(0)

    before = {kind: signal.signal(kind, leave) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
