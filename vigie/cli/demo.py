"""``vigie demo``: a complete example run."""

from __future__ import annotations

from typing import Annotated

import typer

from vigie.cli.environment import read_settings
from vigie.cli.terminal import err, out, progress_bar, progress_lines, signals_as_exit


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep MLflow and the service running until Ctrl-C.")
    ] = False,
) -> None:
    """Start MLflow and the service, train, promote, and find the fault in a recording.

    They are the demo's own, and so are its models, which are deleted at the end.
    """
    from vigie.cli.replay import run

    progress = progress_bar if err.is_terminal else progress_lines
    with signals_as_exit():
        run(read_settings().data, out, err, progress, keep=keep)
