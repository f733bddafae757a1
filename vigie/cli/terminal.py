"""Terminal output: results on standard output, everything else on standard error."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape

from vigie.errors import InvalidDataError
from vigie.printable import printable

if TYPE_CHECKING:
    from rich.table import Table as Sheet

LOG_EVERY_S = 5.0
"""Seconds between two lines of progress without a terminal."""
WARNING = ("vigie.detectors.data.matrices", "vigie.detectors.training", "vigie.training.train")
"""Loggers that warn of the rows of a training."""


class Output:
    """Standard output that says in words why it cannot be written, such as on a full disk.

    Parameters
    ----------
    stream : file
        The output itself. A pipe that nobody reads any more stays an error of its own.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def buffer(self) -> Output:
        """The output of bytes."""
        return Output(self._stream.buffer)

    def write(self, text: Any) -> Any:
        with self._failures_in_words():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._failures_in_words():
            self._stream.flush()

    @contextmanager
    def _failures_in_words(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            # Python would try again at its end, and fail with a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            raise InvalidDataError(
                f"The output cannot be written ({error.strerror}).",
                remedy="Send it to a file or disk with space, or to a terminal.",
            ) from error


class Terminal(Console):
    """A console on which text from outside cannot move the cursor or change the terminal."""

    def render_str(self, text: str, **kwargs: Any) -> Any:
        return super().render_str(printable(text, of_lines=True), **kwargs)


out = Terminal()
err = Terminal(stderr=True)


def new_sheet() -> Sheet:
    """Return an empty table."""
    from rich.table import Table

    return Table(header_style="bold")


def quoted(words: Sequence[str]) -> str:
    """Return words as a command line that a shell reads back."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if printable(word) == word:
        return shlex.quote(word)
    # Bash and zsh read escapes between these.
    inside = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{printable(inside)}'"


def print_next(sentence: str, command: Sequence[str]) -> None:
    """Print what may be done next, and the command line that does it."""
    out.print(f"\n{printable(sentence)}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"  {quoted(command)}", markup=False, highlight=False, soft_wrap=True)


def print_error(error: str) -> None:
    """Print an error message."""
    line = escape(printable(error, of_lines=True))
    err.print(f"[red]Error:[/] {line}", highlight=False, soft_wrap=True)


def print_warning(warning: str) -> None:
    """Print a warning."""
    line = f"Warning: {printable(warning)}"
    err.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def warnings_in_words() -> Iterator[None]:
    """Print what the detectors warn of in the block as other warnings, not as lines of a log."""

    def printed(record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        print_warning(record.getMessage())
        return False

    loggers = list(map(logging.getLogger, WARNING))
    for logger in loggers:
        logger.addFilter(printed)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(printed)


def print_complaint(sentences: str) -> None:
    """Print what was not done."""
    err.print(printable(sentences), style="red", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(what: str = "training") -> Iterator[Callable[[str, float], None]]:
    """Show a progress bar during a block; without a terminal, a line every few seconds.

    Yields
    ------
    callable
        Takes the current step, and the share of it that is complete.
    """
    if not err.is_terminal:
        with _progress_log(what) as report:
            yield report
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<36}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=err, transient=True) as bars:
        task = bars.add_task(what, total=1.0)
        yield lambda step, share: bars.update(task, description=step, completed=share)


@contextmanager
def _progress_log(what: str) -> Iterator[Callable[[str, float], None]]:
    """Print the latest progress every few seconds, in a thread: a step may take long."""
    latest, done, began = [(what, 0.0)], threading.Event(), time.monotonic()

    def print_lines() -> None:
        while not done.wait(LOG_EVERY_S):
            step, share = latest[-1]
            passed = time.monotonic() - began
            err.print(
                f"{share:>4.0%} {step} ({passed:.0f} s)",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    thread = threading.Thread(target=print_lines, daemon=True)
    thread.start()

    def report(step: str, share: float) -> None:
        latest[:] = [(step, share)]

    try:
        yield report
    finally:
        done.set()
        thread.join()


@contextmanager
def progress_lines() -> Iterator[Callable[[str, float], None]]:
    """Print progress as lines, for a log without a terminal."""
    yield lambda step, share: err.print(f"{share:>4.0%} {step}", highlight=False)


@contextmanager
def signals_as_exit() -> Iterator[None]:
    """Exit the block on SIGTERM or SIGINT, so that its child processes are stopped."""

    def on_signal(number: int, frame: Any) -> None:
        raise typer.Exit(0)

    handlers = {kind: signal.signal(kind, on_signal) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)
