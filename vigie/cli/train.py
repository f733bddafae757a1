"""``vigie train``: train the detectors on a file."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from vigie.cli.environment import read_settings
from vigie.cli.hyper_parameters import as_options, by_detector
from vigie.cli.options import (
    Context,
    Exclude,
    Features,
    RowRange,
    checked_models,
    chosen_features,
    print_notes,
)
from vigie.cli.read_options import reads_a_table
from vigie.cli.replaced import ServingHere, serving_versions, warn_of_other_sensors
from vigie.cli.terminal import (
    new_sheet,
    out,
    print_complaint,
    print_next,
    print_warning,
    progress_bar,
    warnings_in_words,
)
from vigie.cli.train_remote import train_remotely
from vigie.errors import InvalidDataError, TrackingError
from vigie.tables.options import ReadOptions
from vigie.tables.stated import row_slice

if TYPE_CHECKING:
    import pandas as pd

    from vigie.config import Settings
    from vigie.detectors.trained import TrainedModel
    from vigie.registry.version import Version
    from vigie.services.mlflow_service import MLflowService
    from vigie.tables.machines import Machine

logger = logging.getLogger(__name__)

LONGEST_NAME = 100
"""Characters of the name under which a file is sent."""
PATIENCE_S = 10.0
"""Longer than a service's patience, since a command can wait for a slow server."""
MOST_SENSORS, WEAKEST = 8, 5
"""Sensors whose smallest steps are printed; of more sensors, so many of the weakest."""
UNMEASURED, UNSEEN, FAR = "–", "not seen", "more than the whole usual range"
MEANINGS = {
    UNMEASURED: "too few training rows to measure it",
    UNSEEN: "no change that was tried raises an alarm",
}


@reads_a_table
def train(
    file: Path,
    reading: ReadOptions,
    named: list[str],
    model: Annotated[list[str] | None, typer.Option(help="Only this detector. Repeatable.")] = None,
    rows: RowRange = None,
    exclude: Exclude = None,
    feature: Features = None,
    context: Context = None,
    asset: Annotated[
        str | None,
        typer.Option(
            help="Of several machines (see --by), the one to train on. With --save FOLDER instead, "
            "each gets models of its own."
        ),
    ] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Move the new versions to Production.")
    ] = False,
    contamination: Annotated[
        float | None,
        typer.Option(help="The false-alarm rate of each model, instead of VIGIE_CONTAMINATION."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A hyper-parameter of this training, such as epochs=50, or "
            "lstm_autoencoder.epochs=50. Repeatable.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Train by the service at this address, such as http://localhost:8084, not here.",
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Also save the models in this folder, for `vigie detect --load`."),
    ] = None,
) -> None:
    """Train on a file of healthy readings; each training is a run and a version in MLflow."""
    from vigie.cli.train_machines import place_of_models, train_machines
    from vigie.detectors.catalogue import checked_names
    from vigie.services.anomaly_detection_service import AnomalyDetectionService
    from vigie.serving import saved
    from vigie.tables.report import labelled_faults
    from vigie.training.inspection import report_on
    from vigie.training.train import checked_parameters, require_rows

    names = checked_names(checked_models(model))
    parameters = by_detector(param or (), names)
    if server is not None:
        _refuse_with_server(promote, save)
        is_whole = train_remotely(
            server,
            file,
            Path(named[0]).name[:LONGEST_NAME],
            reading=reading,
            rows=rows,
            asset=asset,
            names=model and names,
            exclude=exclude or (),
            feature=feature or (),
            context=context or (),
            contamination=contamination,
            parameters=parameters,
        )
        raise typer.Exit(0 if is_whole else 1)
    settings = read_settings(tracking_patience_s=PATIENCE_S)
    _require_a_place(settings, save)
    try:
        given = checked_parameters(names, settings, contamination, parameters, "")
    except InvalidDataError as error:
        raise as_options(error) from None
    machines = _read(file, reading, rows, context or (), exclude or (), asset)
    if not any(machine.n_rows for machine in machines):
        raise InvalidDataError(f"{named[0]} has no rows: there is nothing to learn.", field="FILE")
    folder = place_of_models(machines, save, promote) if len(machines) > 1 else None
    print_notes(machines[0].notes)
    service = AnomalyDetectionService(settings)
    if folder is not None:
        is_whole = train_machines(
            service,
            machines,
            names,
            folder,
            file=named[0],
            reading=reading,
            exclude=exclude,
            feature=feature,
            context=context,
            contamination=contamination,
            parameters=parameters,
        )
        raise typer.Exit(0 if is_whole else 1)
    table = machines[0].table
    X = chosen_features(table, exclude, feature, context)
    # Of several machines, the rows of one are not consecutive in the file.
    first_row = (row_slice(rows).start or 0) + 1 if asset is None else None
    if warning := labelled_faults(table, first_row):
        print_warning(warning)
    require_rows(names, len(X), settings, given)
    tracking = service.mlflow_service
    stage = "Production" if promote else None
    is_recorded = tracking.enabled
    before = serving_versions(tracking, names) if is_recorded else {}
    here = ServingHere(tracking) if is_recorded else None
    source = report_on(table, Path(named[0]).name, reading).as_dict() if is_recorded else None
    models: list[TrainedModel] = []
    with warnings_in_words(), progress_bar() as progress:
        outcome = service.train_all_models(
            X,
            model_names=names,
            context_features=context or (),
            contamination=contamination,
            parameters=parameters,
            stage=stage,
            source=source,
            times=table.times,
            file_form=table.form,
            progress=progress,
            on_trained=models.append,
        )
    sheet, failed, unpromoted = new_sheet(), list[str](), list[str]()
    for column in ("model", "version", "rows", "seconds"):
        sheet.add_column(column, justify="left" if column == "model" else "right")
    for name, result in outcome.items():
        if result["status"] != "trained":
            # The reason has been logged.
            failed.append(name)
            continue
        version = result["version"]
        if promote and version is None:
            unpromoted.append(name)
        sheet.add_row(
            name,
            f"{version or '–'}{' (Production)' if promote and version else ''}",
            f"{result['metrics']['n_samples']:,}",
            f"{result['metrics']['training_seconds']:.1f}",
        )
    serves = False
    if sheet.row_count:
        out.print(sheet)
        _print_smallest_steps(models, table.units)
        if not context:
            _propose_context(table.frame, X, exclude or ())
        _print_pages(tracking, outcome)
        if here is not None:
            columns = [str(name) for name in X.columns]
            serves = _print_what_serves(tracking, here, outcome, before, columns)
    if save is not None and models:
        saved.save(models, save)
        saved_as = f"The models are saved in {save}. Next, judge newer readings by them:"
        print_next(saved_as, [*_to_detect(named, reading), "--load", str(save)])
    elif serves:
        print_next("Next, judge newer readings:", _to_detect(named, reading))
    if failed and sheet.row_count:
        print_complaint(
            f"Trained {sheet.row_count} of {len(outcome)} detectors, but not {', '.join(failed)}."
        )
    if unpromoted:
        later = (
            f" The trainings are safe in the outbox ({tracking.outbox.folder.absolute()}): "
            f"`vigie sync` in {Path.cwd()}, or a service that runs there, sends and promotes them "
            "once MLflow answers."
        )
        is_kept = tracking.enabled and bool(tracking.outbox.waiting())
        print_complaint(f"Not promoted: {', '.join(unpromoted)}.{later if is_kept else ''}")
    if failed or unpromoted:
        raise typer.Exit(1)


def _refuse_with_server(promote: bool, save: Path | None) -> None:
    """Check that no option is given that a service does not take.

    Raises
    ------
    InvalidDataError
        If one is.
    """
    if promote:
        raise InvalidDataError(
            "A service registers new versions, and leaves it to you which one serves.",
            field="--promote",
            remedy="Leave it out, and promote with `vigie models promote NAME VERSION`.",
        )
    if save is not None:
        raise InvalidDataError(
            "The models stay with the service.", field="--save", remedy="Leave it out."
        )


def _require_a_place(settings: Settings, folder: Path | None) -> None:
    """Check that the models will be kept.

    Raises
    ------
    InvalidDataError
        If they would be lost.
    """
    from vigie.state import require_writable

    if folder is not None:
        require_writable(folder, "--save")
    elif not settings.mlflow_enabled:
        raise InvalidDataError(
            "Tracking is disabled, so the models would be lost when this command ends.",
            field="MLFLOW_ENABLED",
            remedy="Save them with --save FOLDER, or set MLFLOW_ENABLED=true.",
        )


def _print_what_serves(
    tracking: MLflowService,
    here: ServingHere,
    outcome: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Version],
    columns: Sequence[str],
) -> bool:
    """Say whether the new versions serve, and warn of those that they replace.

    Returns
    -------
    bool
        Whether any of them serves.
    """
    made = {
        name: int(result["version"])
        for name, result in outcome.items()
        if result.get("version") is not None
    }
    if not made:
        return False
    serving = serving_versions(tracking, made)
    here.refresh()
    newest, waiting, replaced = [], [], {}
    for name, version in serving.items():
        if version.version != made[name]:
            waiting.append(f"{name} {made[name]} ({version.version} serves)")
            continue
        if version.stage != "Production":
            newest.append(f"{name} {made[name]}")
        if name in before:
            replaced[name] = before[name]
    how = "`vigie models promote NAME VERSION`"
    if newest:
        _say(
            f"Serves, as the newest, since none is in Production: {', '.join(newest)}. {how}, or "
            "--promote, keeps a later training from replacing it."
        )
    if waiting:
        _say(f"Waits, since another one is in Production: {', '.join(waiting)}. {how} promotes it.")
    for version in serving.values():
        if version.version == made[version.name] and (wait := here.waits(version)):
            too = "".join(f" --model {name}" for name in wait.others)
            remedy = f" Train these on the same sensors too:{too}." if too else ""
            print_warning(f"{version.name}: {wait.reason}{remedy}")
    warn_of_other_sensors(tracking, replaced, columns)
    return len(waiting) < len(serving)


def _to_detect(named: Sequence[str], reading: ReadOptions) -> list[str]:
    """Return the words that judge another file like this one, or what a database has now."""
    from vigie.tables.sources import is_source
    from vigie.tables.stated import as_arguments

    source = named if is_source(named[0]) else ["FILE"]
    return ["vigie", "detect", *source, *as_arguments(reading)]


def _say(sentences: str) -> None:
    out.print(sentences, markup=False, highlight=False, soft_wrap=True)


def _print_pages(tracking: MLflowService, outcome: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the addresses of the runs, as far as the server has them and answers."""
    pages = []
    for name, result in outcome.items():
        if (run_id := result.get("run_id")) is None:
            continue
        try:
            page = tracking.run_page(run_id)
        except TrackingError as error:
            # An outage has been logged.
            logger.debug("%s", error)
            return
        if page is not None:
            pages.append((name, page))
    width = max((len(name) for name, _ in pages), default=0)
    for name, page in pages:
        line = f"Run of {name:<{width}}  {page}"
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_smallest_steps(models: Sequence[TrainedModel], units: Mapping[str, str]) -> None:
    """Print for each sensor the smallest step that raises an alarm, by the best model alone."""
    import numpy as np

    measured = [
        (model.smallest_step_20, model.smallest_step_200)
        for model in models
        if model.smallest_step_20 is not None and model.smallest_step_200 is not None
    ]
    if not measured:
        return
    # A NaN, not measured, gives way to a number.
    soon, later = np.fmin.reduce(np.array(measured), axis=0)
    names, low, high = models[0].feature_names, models[0].low, models[0].high
    known = np.flatnonzero(~np.isnan(soon))
    if not len(known):
        return
    shown = known
    if len(known) > MOST_SENSORS:
        width = (high - low)[known]
        shown = known[np.lexsort((-later[known] / width, -soon[known] / width))[:WEAKEST]]
    sheet = new_sheet()
    sheet.title = "Smallest change that, if it lasts, raises an alarm within 20 or 200 readings"
    for column in ("sensor", "usual range", "within 20", "within 200"):
        is_name = column == "sensor"
        sheet.add_column(column, justify="left" if is_name else "right", overflow="fold")
    cells = []
    for i in shown.tolist():
        unit, width = units.get(names[i], ""), high[i] - low[i]
        usual = f"{low[i]:.4g} to {high[i]:.4g} {unit}".rstrip()
        said = [_said(step, width, unit) for step in (soon[i], later[i])]
        sheet.add_row(*map(escape, (names[i], usual, *said)))
        cells += said
    given = " in the average context" if models[0].context is not None else ""
    sheet.caption = f"By the model that sees it best{given}; all together may need a larger one."
    for cell, meaning in MEANINGS.items():
        sheet.caption += f" {cell}: {meaning}." if cell in cells else ""
    if len(shown) < len(known):
        unseen = np.count_nonzero(np.isinf(soon[known]))
        sheet.caption += (
            f" The {len(shown)} sensors that are seen worst, of {len(known)} measured and "
            f"{len(names)} in all; {unseen} not seen within 20 readings."
        )
    out.print(sheet)


def _propose_context(table: pd.DataFrame, X: pd.DataFrame, exclude: Sequence[str]) -> None:
    """Name the columns that look like settings of the machine."""
    from vigie.detectors.data.proposal import proposed_for

    for name, share in proposed_for(table, list(X.columns), exclude).items():
        option = f"--context {shlex.quote(name)}"
        out.print(
            f"{escape(name)} looks like a setting: it holds its values, and explains {share:.0%} "
            f"of what the sensors do. To judge them given it: {escape(option)}",
            highlight=False,
            soft_wrap=True,
        )


def _said(step: float, width: float, unit: str) -> str:
    """Return a step in words; one wider than the usual range tells nothing else."""
    if math.isnan(step):
        return UNMEASURED
    if math.isinf(step):
        return UNSEEN
    if step > width > 0.0:
        return FAR
    return f"{step:.3g} {unit}".rstrip()


def _read(
    file: Path,
    reading: ReadOptions,
    rows: str | None,
    context: Sequence[str],
    exclude: Sequence[str],
    asset: str | None,
) -> list[Machine]:
    """Read the rows of the machine that is named, or of all.

    Raises
    ------
    InvalidDataError
        If the file has no such machine.
    """
    from vigie.tables.machines import named, read_machines

    machines = read_machines(file, reading, rows=row_slice(rows), words=context, ignored=exclude)
    return named(machines, asset)
