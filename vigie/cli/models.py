"""``vigie models``: list, promote and roll back versions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape

from vigie.cli.command import Command, Group
from vigie.cli.environment import enabled_mlflow
from vigie.cli.replaced import sensors_of, serving_versions, warn_of_other_sensors
from vigie.cli.terminal import new_sheet, out

Name = Annotated[str, typer.Argument(help="Registered name, such as isolation_forest.")]

models = typer.Typer(
    cls=Group, help="The registry: list, promote and roll back versions.", no_args_is_help=True
)
SHORT = 7
"""Characters of a run's id."""


@models.command("list", cls=Command)
def list_versions() -> None:
    """Show every version of every model: its stage, when and on what it was trained, its run."""
    from rich import box

    from vigie.detectors.catalogue import algorithms

    service, sheet = enabled_mlflow(), new_sheet()
    # Without lines between them, all columns fit into 80.
    sheet.box, sheet.show_edge, sheet.padding = box.SIMPLE_HEAD, False, (0, 0)
    for column in ("model", "version", "stage", "trained (UTC)", "rows", "sensors", "run"):
        is_number = column in ("version", "rows", "sensors")
        sheet.add_column(column, justify="right" if is_number else "left", no_wrap=True)
    for name in algorithms():
        for version in service.list_versions(name):
            stage = f"[green]{version.stage}[/]" if version.stage == "Production" else version.stage
            trained = datetime.fromtimestamp((version.trained_ms or version.created_ms) / 1e3, UTC)
            params = service.run_params(version)
            sheet.add_row(
                name,
                str(version.version),
                stage,
                f"{trained:%Y-%m-%d %H:%M}",
                escape(params.get("n_samples", "–")),
                escape(params.get("n_features", "–")),
                escape((version.run_id or "–")[:SHORT]),
            )
    if sheet.row_count:
        out.print(sheet)
    else:
        out.print(
            f"The registry has no version of {', '.join(algorithms())}. "
            "Train the first ones: `vigie train FILE --promote`."
        )


@models.command(cls=Command)
def promote(
    name: Name,
    version: Annotated[int, typer.Argument(help="Version number.")],
    stage: Annotated[
        str, typer.Option(help="Production, Staging, Archived or None.")
    ] = "Production",
) -> None:
    """Move a version to a stage; the previous version there is archived."""
    tracking = enabled_mlflow()
    before = serving_versions(tracking, [name])
    moved = tracking.transition_model_stage(name, version, stage)
    if moved is None:
        return
    out.print(f"{name} version {moved.version} is in {moved.stage}.")
    if moved.stage == "Production":
        warn_of_other_sensors(tracking, before, sensors_of(tracking, moved))


@models.command(cls=Command)
def rollback(name: Name) -> None:
    """Return to the version that was in Production before the current one."""
    versions = enabled_mlflow().rollback(name)
    if versions:
        before, now = versions
        out.print(f"{name}: version {now.version} serves again, instead of {before.version}.")
