"""``vigie models``: list, promote and roll back versions."""

from __future__ import annotations

from typing import Annotated

import typer

from vigie.cli.environment import enabled_mlflow
from vigie.cli.terminal import new_sheet, out

Name = Annotated[str, typer.Argument(help="Registered name, such as isolation_forest.")]

models = typer.Typer(
    help="The registry: list, promote and roll back versions.", no_args_is_help=True
)


@models.command("list")
def list_versions() -> None:
    """Show every version of every model, with its stage and the run that made it."""
    from rich import box

    from vigie.detectors.catalogue import algorithms

    service, sheet = enabled_mlflow(), new_sheet()
    # Without lines between them, names and whole run ids fit into 80 columns.
    sheet.box, sheet.show_edge, sheet.pad_edge = box.SIMPLE_HEAD, False, False
    for column in ("model", "version", "stage", "run"):
        sheet.add_column(column)
    for name in algorithms():
        for version in service.list_versions(name):
            stage = f"[green]{version.stage}[/]" if version.stage == "Production" else version.stage
            sheet.add_row(name, str(version.version), stage, version.run_id)
    if sheet.row_count:
        out.print(sheet)
    else:
        out.print("The registry is empty. Train the first versions: `vigie train FILE`.")


@models.command()
def promote(
    name: Name,
    version: Annotated[int, typer.Argument(help="Version number.")],
    stage: Annotated[
        str, typer.Option(help="Production, Staging, Archived or None.")
    ] = "Production",
) -> None:
    """Move a version to a stage; the previous version there is archived."""
    moved = enabled_mlflow().transition_model_stage(name, version, stage)
    if moved:
        out.print(f"{name} version {moved.version} is in {moved.stage}.")


@models.command()
def rollback(name: Name) -> None:
    """Return to the version that was in Production before the current one."""
    versions = enabled_mlflow().rollback(name)
    if versions:
        before, now = versions
        out.print(f"{name}: version {now.version} serves again, instead of {before.version}.")
