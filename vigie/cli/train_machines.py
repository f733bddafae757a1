"""``vigie train --by``: models of its own for each machine of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from vigie.cli.terminal import (
    err,
    new_sheet,
    out,
    print_complaint,
    print_next,
    print_warning,
    progress_bar,
    warnings_in_words,
)
from vigie.errors import InvalidDataError, listed
from vigie.tables.options import ReadOptions

if TYPE_CHECKING:
    import pandas as pd

    from vigie.detectors.trained import TrainedModel
    from vigie.services.anomaly_detection_service import AnomalyDetectionService
    from vigie.tables.machines import Machine


def place_of_models(machines: Sequence[Machine], folder: Path | None, promote: bool) -> Path:
    """Return the folder for models of several machines.

    Raises
    ------
    InvalidDataError
        If no folder is given, or the models are to be promoted.
    """
    if folder is None:
        names = [machine.asset for machine in machines if machine.asset is not None]
        raise InvalidDataError(
            f"The file has {len(names)} machines.",
            field="--asset",
            remedy=f"Name one to train on: {listed(names)}; or give a folder for models of each: "
            "--save FOLDER.",
        )
    if promote:
        raise InvalidDataError(
            "Models of single machines are used from their folder, and do not serve.",
            field="--promote",
            remedy="Leave it out, or name one machine with --asset.",
        )
    return folder


def train_machines(
    service: AnomalyDetectionService,
    machines: Sequence[Machine],
    names: Sequence[str],
    folder: Path,
    *,
    file: str,
    reading: ReadOptions,
    exclude: list[str] | None,
    feature: list[str] | None,
    context: list[str] | None,
    contamination: float | None,
    parameters: Mapping[str, Mapping[str, str]],
) -> bool:
    """Train models for each machine, save them, and print a table of the results.

    Parameters
    ----------
    service : AnomalyDetectionService
        Trains.
    machines : sequence of Machine
        At least two.
    names : sequence of str
        The detectors.
    folder : Path
        Gets a folder for each machine.
    file : str
        The name of the file, as the user gave it.
    reading : ReadOptions
        How it was read.
    exclude, feature, context, contamination, parameters
        The options of the command.

    Returns
    -------
    bool
        Whether all were trained.
    """
    from vigie.serving import saved
    from vigie.tables.stated import as_arguments
    from vigie.training.inspection import report_on
    from vigie.training.train import require_rows

    sheet, failed = new_sheet(), list[str]()
    sheet.add_column("machine", overflow="fold")
    sheet.add_column("model", no_wrap=True)
    for column in ("version", "rows", "seconds"):
        sheet.add_column(column, justify="right")
    is_recorded = service.mlflow_service.enabled
    chosen = _chosen(machines, exclude, feature, context)
    models: list[TrainedModel]
    for machine in machines:
        asset, models = machine.asset or "", []
        # What is logged of a training does not name the machine.
        begins = f"{asset}: {len(chosen[asset]):,} rows"
        err.print(begins, style="dim", markup=False, highlight=False, soft_wrap=True)
        try:
            require_rows(names, len(chosen[asset]), service.settings)
            report = report_on(machine.table, Path(file).name, reading) if is_recorded else None
            with warnings_in_words(), progress_bar(asset) as progress:
                outcome = service.train_all_models(
                    chosen[asset],
                    model_names=names,
                    context_features=context or (),
                    contamination=contamination,
                    parameters=parameters,
                    scope=asset,
                    source=None if report is None else report.as_dict(),
                    times=machine.table.times,
                    file_form=machine.table.form,
                    progress=partial(_report, progress, asset),
                    on_trained=models.append,
                )
        except InvalidDataError as error:
            print_complaint(f"{asset}: {error}")
            failed.append(asset)
            continue
        saved.save(models, saved.folder_of(asset, folder))
        for name, result in outcome.items():
            if result["status"] != "trained":
                # The reason has been logged.
                failed.append(f"{name} of {asset}")
                continue
            metrics = result["metrics"]
            figures = f"{metrics['n_samples']:,}", f"{metrics['training_seconds']:.1f}"
            sheet.add_row(escape(asset), name, str(result["version"] or "–"), *figures)
    if sheet.row_count:
        out.print(sheet)
        print_next(
            f"Saved in {folder}, a folder for each machine; what serves is as before. Next, judge "
            "each machine by its own models:",
            ["vigie", "detect", "FILE", *as_arguments(reading), "--load", str(folder)],
        )
    if failed:
        print_complaint(f"Not trained: {', '.join(failed)}.")
    return not failed


def _report(progress: Callable[[str, float], None], asset: str, step: str, share: float) -> None:
    progress(f"{asset}, {step}", share)


def _chosen(
    machines: Sequence[Machine],
    exclude: list[str] | None,
    feature: list[str] | None,
    context: list[str] | None,
) -> Mapping[str, pd.DataFrame]:
    """Return the features of each machine, and print what is left out, and labelled faults."""
    from vigie.tables.features import choose
    from vigie.tables.kinds import left_out_line
    from vigie.tables.report import labelled_faults

    chosen, without = {}, dict[str, list[str]]()
    for machine in machines:
        asset = machine.asset or ""
        chosen[asset], left_out = choose(machine.table, exclude or (), feature or (), context or ())
        if line := left_out_line(left_out):
            without.setdefault(line, []).append(asset)
        if warning := labelled_faults(machine.table, None):
            print_warning(f"{asset}: {warning}")
    for line, assets in without.items():
        whose = "" if len(assets) == len(machines) else f"{', '.join(assets)}: "
        err.print(f"{whose}{line}", style="dim", markup=False, highlight=False, soft_wrap=True)
    return chosen
