"""Read and check the rows of a request: from its JSON, from a file, or from the history."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter

from vigie.config import Settings
from vigie.detectors.catalogue import checked_names
from vigie.detectors.data.matrices import training_table
from vigie.errors import InvalidDataError, listed
from vigie.models.from_json import from_json
from vigie.models.jobs import JobData
from vigie.models.training import TrainRequest, UploadedFile
from vigie.tables.features import choose
from vigie.tables.kinds import left_out_line
from vigie.tables.machines import named, read_machines
from vigie.tables.report import labelled_faults
from vigie.tables.stated import read_options, row_slice
from vigie.training.by_reference import prepare_history
from vigie.training.inspection import report_on
from vigie.training.prepared import Prepared
from vigie.training.requests import About, about_of, body_of
from vigie.training.train import as_given, checked_parameters

LONGEST_REFERENCE = 256 * 1024
"""Bytes of a request that asks for readings of the history."""


def prepare(folder: Path, settings: Settings) -> Prepared:
    """Read and check a stored request.

    Raises
    ------
    InvalidDataError
        If it cannot be used.
    """
    about = about_of(folder)
    path = body_of(folder, about)
    if about.file is not None:
        return _prepare_file(path, about.file, settings)
    return prepare_body(path.read_bytes(), settings, about)


def prepare_body(body: bytes, settings: Settings, about: About | None = None) -> Prepared:
    """Read and check a ``TrainRequest`` or a ``HistoryTrainRequest`` in JSON.

    Raises
    ------
    InvalidDataError
        If it cannot be used.
    HistoryError
        If it asks for readings, and the database fails.
    """
    if _is_by_reference(body):
        return prepare_history(body, settings, about or About())
    request = from_json(TypeAdapter(TrainRequest), body)
    names = checked_names(request.model_names)
    given = checked_parameters(names, settings, request.contamination, request.parameters)
    table = training_table(
        request.rows, request.names, settings.sensor_ranges, request.all_context_features
    )
    data = JobData(n_rows=len(table.values), feature_names=list(table.feature_names))
    return Prepared(names, table, data, given, request.contamination, as_given(given))


def _is_by_reference(body: bytes) -> bool:
    """Return whether a body asks for readings of the history instead of having rows.

    Raises
    ------
    InvalidDataError
        If it does both.
    """
    if len(body) > LONGEST_REFERENCE or b'"history"' not in body:
        return False
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(document, dict) or "history" not in document:
        return False
    if "data" in document:
        raise InvalidDataError(
            "Rows are given, and readings of the history too.",
            field="history",
            remedy="Give either data or history.",
        )
    return True


def _prepare_file(path: Path, file: UploadedFile, settings: Settings) -> Prepared:
    names = checked_names(file.model_names)
    given = checked_parameters(names, settings, file.contamination, file.parameters, "")
    options = read_options(**file.reading)
    rows = row_slice(file.rows)
    machines = read_machines(path, options, rows=rows, words=file.context, ignored=file.exclude)
    machines = named(machines, file.asset)
    if len(machines) > 1:
        assets = [machine.asset for machine in machines if machine.asset is not None]
        raise InvalidDataError(
            f"The file has {len(assets)} machines.",
            field="--asset",
            remedy=f"Name one to train on: {listed(assets)}.",
        )
    [machine] = machines
    chosen, left_out = choose(machine.table, file.exclude, file.feature, file.context)
    table = training_table(chosen, None, settings.sensor_ranges, file.context)
    first_row = (rows.start or 0) + 1 if file.asset is None else None
    notes = [left_out_line(left_out), labelled_faults(machine.table, first_row)]
    return Prepared(
        names,
        table,
        JobData(
            source="file",
            filename=file.filename,
            asset_id=machine.asset,
            n_rows=len(table.values),
            feature_names=list(table.feature_names),
            notes=[*machine.notes, *(note for note in notes if note)],
        ),
        given,
        file.contamination,
        as_given(given),
        report_on(machine.table, file.filename, options).as_dict(),
        machine.table.times,
        machine.table.form,
    )
