"""``vigie train``: train the detectors on a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vigie.cli.environment import read_settings
from vigie.cli.options import Exclude, Features, File, RowRange, chosen_features, row_slice
from vigie.cli.terminal import err, new_sheet, out, progress_bar
from vigie.errors import InvalidDataError

if TYPE_CHECKING:
    import pandas as pd

PATIENCE_S = 10.0
"""Longer than a service's patience, since a command can wait for a slow server."""


def train(
    file: File,
    model: Annotated[list[str] | None, typer.Option(help="Only this detector. Repeatable.")] = None,
    rows: RowRange = None,
    exclude: Exclude = None,
    feature: Features = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Move the new versions to Production.")
    ] = False,
) -> None:
    """Train on a file of healthy readings; each training is a run and a version in MLflow."""
    from vigie.services.anomaly_detection_service import AnomalyDetectionService

    table = _read(file, rows)
    X = chosen_features(table, exclude, feature)
    _warn_of_disorder(table)
    service = AnomalyDetectionService(read_settings(tracking_patience_s=PATIENCE_S))
    stage = "Production" if promote else None
    with progress_bar() as progress:
        outcome = service.train_all_models(X, model_names=model, stage=stage, progress=progress)
    sheet, failed = new_sheet(), []
    for column in ("model", "version", "anomalies in training", "seconds"):
        sheet.add_column(column, justify="left" if column == "model" else "right")
    for name, result in outcome.items():
        if result["status"] != "trained":
            failed.append(name)
            err.print(f"[red]{name} was not trained:[/] {escape(result['error'])}")
            continue
        metrics, version = result["metrics"], result["version"]
        if promote and version is None:
            failed.append(name)
            later = (
                " yet; it will be as soon as MLflow has it"
                if service.mlflow_service.enabled
                else ""
            )
            err.print(f"[red]{name} is not promoted{later}.[/]")
        sheet.add_row(
            name,
            f"{version or '–'}{' (Production)' if promote and version else ''}",
            f"{metrics['n_anomalies_detected']} of {metrics['n_samples']}",
            f"{metrics['training_seconds']:.1f}",
        )
    if sheet.row_count:
        out.print(sheet)
    if failed:
        raise typer.Exit(1)


def _read(file: Path, rows: str | None) -> pd.DataFrame:
    from vigie.cli.files import read_table

    table = read_table(file)
    chosen_rows = row_slice(rows)
    if chosen_rows.start is not None and chosen_rows.start >= len(table):
        raise InvalidDataError(
            f"{rows!r} starts after the end: {file} has {len(table)} rows.", field="--rows"
        )
    return table.iloc[chosen_rows]


def _warn_of_disorder(table: pd.DataFrame) -> None:
    """Warn if rows are not in time order, which the models assume."""
    from vigie.cli.files import times_of

    try:
        times_of(table)
    except InvalidDataError as error:
        if read_settings().time_ordered:
            err.print(f"[yellow]Assuming time order:[/] {escape(error.message)}")
