"""``vigie models``: list, compare, promote and roll back versions, and see who has done that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vigie.cli.command import Command, Group
from vigie.cli.environment import enabled_mlflow
from vigie.cli.replaced import ServingHere, sensors_of, serving_versions, warn_of_other_sensors
from vigie.cli.terminal import new_sheet, out, print_warning
from vigie.errors import ConflictError, InvalidDataError, ModelNotFoundError, VigieError
from vigie.printable import printable

if TYPE_CHECKING:
    from vigie.registry.version import Version
    from vigie.services.mlflow_service import MLflowService

Name = Annotated[str, typer.Argument(help="Registered name, such as isolation_forest.")]
Reason = Annotated[
    str | None, typer.Option(help="Why, for `vigie models history`; 1000 characters at most.")
]

models = typer.Typer(
    cls=Group,
    help="The registry: list, compare, promote and roll back versions; who did it.",
    no_args_is_help=True,
)
SHORT = 7
"""Characters of a run's id."""
SHOWN = 100
"""Moves that are shown unless more are asked for."""


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
            trained = _utc(version.trained_ms or version.created_ms)
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
    reason: Reason = None,
) -> None:
    """Move a version to a stage; the previous version there is archived."""
    tracking = enabled_mlflow()
    before = serving_versions(tracking, [name])
    here = ServingHere(tracking)
    compared = _compared(tracking, name, version) if stage == "Production" else None
    if compared:
        out.print(compared, markup=False, highlight=False)
    moved = tracking.transition_model_stage(name, version, stage, reason=reason, compared=compared)
    if moved is None:
        return
    here.refresh()
    out.print(f"{name} version {moved.version} is in {moved.stage}.")
    if moved.stage != "Production":
        return
    if waiting := here.waits(moved):
        go_back = f"`vigie models rollback {name}` goes back."
        if waiting.others:
            go_back = f"Promote versions of these that do (`vigie models list`). {go_back}"
        print_warning(f"{waiting.reason} {go_back}")
    warn_of_other_sensors(tracking, before, sensors_of(tracking, moved))


@models.command(cls=Command)
def rollback(
    name: Annotated[
        str | None, typer.Argument(help="Registered name, such as isolation_forest.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Each model that has a version to return to.")
    ] = False,
    reason: Reason = None,
) -> None:
    """Return to the version that was in Production before the current one."""
    from vigie.detectors.catalogue import algorithms

    if (name is None) != every:
        raise InvalidDataError(
            "Name one model, or say --all.",
            field="NAME",
            remedy=f"Models: {', '.join(algorithms())}.",
        )
    tracking = enabled_mlflow()
    here = ServingHere(tracking)
    moved: list[tuple[Version, Version]] = []
    stayed: list[str] = []
    for one in algorithms() if name is None else [name]:
        try:
            if versions := tracking.rollback(one, reason=reason):
                moved.append(versions)
        except (ModelNotFoundError, ConflictError) as error:
            if not every:
                raise
            stayed.append(f"{one} stays as it is: {error.message}")
    here.refresh()
    for before, now in moved:
        _print_rolled_back(here, before, now)
    for line in stayed:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if not moved:
        raise typer.Exit(1)


@models.command(cls=Command)
def history(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, help="Show this many moves.")] = SHOWN,
) -> None:
    """Show which version was moved to which stage when, by whom and why; the newest first."""
    from rich import box

    from vigie.detectors.catalogue import algorithms
    from vigie.registry.scopes import MARK
    from vigie.registry.version import unknown_model

    moves = enabled_mlflow().history(name)
    if not moves and name.partition(MARK)[0] not in algorithms():
        raise unknown_model(name)
    if not moves:
        out.print(f"No version of {name} has been in a stage.", markup=False, soft_wrap=True)
        return
    sheet = new_sheet()
    sheet.box, sheet.show_edge, sheet.padding = box.SIMPLE_HEAD, False, (0, 1, 0, 0)
    for column in ("when (UTC)", "version", "move", "by", "reason"):
        sheet.add_column(
            column,
            justify="right" if column == "version" else "left",
            no_wrap=column in ("when (UTC)", "version"),
            overflow="fold",
            max_width=16 if column == "by" else None,
        )
    for move in moves[:limit]:
        sheet.add_row(
            "–" if move.at_ms is None else f"{_utc(move.at_ms):%Y-%m-%d %H:%M}",
            str(move.version),
            *(escape(printable(text)) for text in (move.words, move.by or "–", move.reason or "–")),
        )
    out.print(sheet)


def _compared(tracking: MLflowService, name: str, version: int) -> str | None:
    """Return what the comparison of a version in Staging says, if there is one."""
    from vigie.cli.compare import stored_comparison
    from vigie.registry.version import in_stage

    staged = in_stage(tracking.list_versions(name), "Staging")
    if staged is None or staged.version != version:
        return None
    try:
        return stored_comparison(name).summary
    except ModelNotFoundError:
        return None  # It serves already, or for one machine, and is compared with nothing.
    except VigieError as error:
        print_warning(
            f"The comparison of version {version} with the one that serves cannot be read, and is "
            f"left out of the history. {error}"
        )
        return None


def _utc(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1e3, UTC)


@models.command(cls=Command)
def compare(
    name: Name,
    server: Annotated[
        str | None,
        typer.Option(help="Ask this service, such as http://localhost:8084, not the database."),
    ] = None,
) -> None:
    """Show what would have changed with the version in Staging, on the readings so far."""
    from vigie.cli.compare import comparison_of, stored_comparison
    from vigie.cli.render import comparison

    found = stored_comparison(name) if server is None else comparison_of(server, name)
    for line in comparison.headline(found):
        out.print(line, markup=False, highlight=False)
    if found.readings:
        out.print()
        out.print(comparison.verdicts(found))
    if sensors := comparison.sensors(found):
        out.print(f"\nSensors behind {found.explained:,} anomalies of either version")
        out.print(sensors)


def _print_rolled_back(here: ServingHere, before: Version, now: Version) -> None:
    """Say which version serves after a rollback."""
    from vigie.registry.scopes import MARK

    waiting, what = here.waits(now), f"{now.name}: version {now.version}"
    if waiting is None:
        # Versions for single machines are not among those of a service.
        again = "is in Production again" if MARK in now.name else "serves again"
        out.print(f"{what} {again}, instead of {before.version}.")
        return
    out.print(f"{what} is in Production again, instead of {before.version}.")
    too = ", ".join(f"`vigie models rollback {other}`" for other in waiting.others)
    print_warning(f"{waiting.reason} {f'Roll these back too: {too}.' if too else ''}".rstrip())
