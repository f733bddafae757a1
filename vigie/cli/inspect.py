"""``vigie inspect``: show what is understood of a file before anything is trained on it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vigie.cli.options import check_picture
from vigie.cli.read_options import reads_a_table
from vigie.cli.terminal import out
from vigie.tables.options import ReadOptions

if TYPE_CHECKING:
    from vigie.tables.report import Report


@reads_a_table
def inspect(
    file: Path,
    reading: ReadOptions,
    named: list[str],
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why the file is understood so.")
    ] = False,
    output: Annotated[
        Literal["table", "json"], typer.Option("--format", help="For people, or all of it as JSON.")
    ] = "table",
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw the sensors over time into this PNG, PDF, SVG or JPG file."),
    ] = None,
) -> None:
    """Show what is understood of a file: columns, times, machines, and what to do next.

    Nothing is trained, and nothing is sent anywhere.
    """
    from vigie.training.inspection import inspect as inspect_file

    check_picture(picture)
    found = inspect_file(file, reading, named[0])
    if output == "json":
        sys.stdout.write(json.dumps(found.report.as_dict(), allow_nan=False) + "\n")
    else:
        _print(found.report, explain, named[1:])
    if picture is not None:
        from vigie.cli.render.sensors import write_picture

        write_picture(found.report, found.machines, picture)


def _print(report: Report, explain: bool, asked: Sequence[str]) -> None:
    from vigie.cli.render import report as rendered

    _print_lines(rendered.headline(report))
    out.print(rendered.sheet(report, out.width))
    _print_lines(rendered.below(report))
    if explain:
        out.print("\nWhy:", style="bold")
        _print_lines(rendered.explanation(report))
    if report.commands:
        out.print("\nNext:", style="bold")
        _print_lines(f"  {command}" for command in rendered.commands(report, asked))


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)
