"""``vigie train --server``: train on a file by a service, and follow the job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from vigie.cli.environment import read_settings
from vigie.cli.options import print_notes
from vigie.cli.terminal import new_sheet, out, print_complaint, progress_bar
from vigie.errors import InvalidDataError, KeyRefusedError, ServiceUnavailableError, VigieError
from vigie.keys import Scope
from vigie.printable import printable

if TYPE_CHECKING:
    from vigie.api.schemas import JobResponse
    from vigie.tables.options import ReadOptions

ANSWER_S = 300.0
"""Limit for the answer to a file."""
CANCELLED_BY_USER = 130
SET_KEY = (
    "Set VIGIE_API_KEY to a key with the scope {0}: `vigie keys create NAME --scope {0}` makes one "
    "on the service's machine."
)


def train_remotely(
    server: str,
    file: Path,
    filename: str,
    *,
    reading: ReadOptions,
    rows: str | None,
    asset: str | None,
    names: Sequence[str] | None,
    exclude: Sequence[str],
    feature: Sequence[str],
    context: Sequence[str],
    contamination: float | None,
    parameters: Mapping[str, Mapping[str, str]],
) -> bool:
    """Send a file to a service, follow the training, and print its outcome.

    Parameters
    ----------
    server : str
        The address of the service, such as ``http://localhost:8084``.
    file : Path
        The file.
    filename : str
        What it is called.
    reading, rows, asset, names, exclude, feature, context, contamination, parameters
        As the options of ``vigie train``.

    Returns
    -------
    bool
        Whether all detectors were trained.

    Raises
    ------
    VigieError
        If the service refuses the training, or cannot be reached.
    """
    from vigie.client import Client
    from vigie.tables.stated import as_parameters

    settings = read_settings()
    options: dict[str, list[str]] = {"filename": [filename], "exclude": list(exclude)}
    for name, value in as_parameters(reading):
        options.setdefault(name, []).append(value)
    options |= {name: [value] for name, value in (("rows", rows), ("asset", asset)) if value}
    try:
        with (
            Client(server, timeout=ANSWER_S, verify=settings.tls_cert or True) as client,
            progress_bar() as progress,
        ):
            job = client.train(
                file,
                feature_names=feature,
                context_features=context,
                model_names=names,
                contamination=contamination,
                parameters=parameters,
                options=options,
                wait=False,
            )
            print_notes(job.data.notes)
            try:
                for latest in client.follow_job(job):
                    job = latest
                    progress(*_told(job))
            except KeyboardInterrupt:
                client.cancel_job(job)
                print_complaint("The training on the server is cancelled.")
                raise typer.Exit(CANCELLED_BY_USER) from None
    except (KeyRefusedError, ServiceUnavailableError, InvalidDataError) as error:
        raise as_of_the_command(error, Scope.TRAIN) from error
    return _print_outcome(job)


def as_of_the_command(error: VigieError, scope: Scope) -> VigieError:
    """Return an error with the option that mends it."""
    if isinstance(error, KeyRefusedError):
        error.remedy = SET_KEY.format(scope)
    elif isinstance(error, ServiceUnavailableError) or error.field == "address":
        error.field = "--server"
    return error


def _told(job: JobResponse) -> tuple[str, float]:
    """Return a job's step in words, and the share that is done."""
    progress = job.progress
    if job.state == "queued":
        before = (job.position or 1) - 1
        return f"waiting, {before} before it" if before else "waiting", 0.0
    step = f"{progress.model}: {progress.step}" if progress.model else progress.step
    if progress.loss is not None:
        step += f", loss {progress.loss:.3g}"
    return printable(step), progress.percent / 100.0


def _print_outcome(job: JobResponse) -> bool:
    if (error := job.error) is not None:
        raise VigieError(error.detail, field=error.field, remedy=error.remedy)
    if job.state != "succeeded":
        raise VigieError(f"The training did not end: it is {job.state}.")
    sheet = new_sheet()
    for column in ("model", "version", "rows", "seconds"):
        sheet.add_column(column, justify="left" if column == "model" else "right")
    failed = []
    for name, model in job.models.items():
        if model.status != "trained":
            failed.append(f"{name} ({model.error})")
            continue
        metrics: Mapping[str, Any] = model.metrics or {}
        figures = f"{metrics['n_samples']:,}", f"{metrics['training_seconds']:.1f}"
        sheet.add_row(escape(name), str(model.version or "–"), *figures)
    out.print(sheet)
    for name, model in job.models.items():
        if model.note:
            print_notes([f"{name}: {model.note}"])
    if failed:
        print_complaint(f"Not trained: {', '.join(failed)}.")
    return not failed
