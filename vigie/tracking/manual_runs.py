"""Manual records: a program opens a run, logs values or a model in it, and ends it.

Each record is sent at once. If that fails it goes to the outbox, and the same functions send it
later, with its original times and without duplicates.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vigie.registry.server import Server
from vigie.tracking import artifacts
from vigie.tracking.active_runs import OnRegistered, OpenRun
from vigie.tracking.outbox import Entry
from vigie.tracking.publish import (
    OPENED,
    batches,
    experiment_id,
    find_run,
    mark,
    name_run,
    once,
    origin,
    run_of_entry,
    version_of,
)
from vigie.tracking.records import End, ManualRun, ManualValues, Metric

Manual = ManualRun | ManualValues

if TYPE_CHECKING:
    from mlflow.entities import Run


def opening(
    experiment: str, run_name: str | None, parent: OpenRun | None, *, ended: bool = False
) -> ManualRun:
    """Return the record of a run that starts now; ``ended`` also ends it now."""
    now = round(time.time() * 1000)
    return ManualRun(
        what=f"run {run_name or ''}".strip(),
        experiment=experiment,
        run_name=run_name,
        parent=None if parent is None else parent.ref(),
        started_ms=now,
        ended=End("FINISHED", now) if ended else None,
    )


def values(
    experiment: str,
    run: OpenRun,
    *,
    params: Mapping[str, str] = {},
    metrics: Sequence[Metric] = (),
    status: str | None = None,
) -> ManualValues:
    """Return the record of parameters, of metrics, or of the end of a run now."""
    return ManualValues(
        what="parameters" if params else "metrics" if metrics else "the end of a run",
        experiment=experiment,
        run=run.ref(),
        params=params,
        metrics=list(metrics),
        ended=End(status, round(time.time() * 1000)) if status else None,
    )


def model(experiment: str, run: OpenRun, path: str, name: str | None) -> ManualValues:
    """Return the record of a model, whose files are the entry's artifacts."""
    what = f"model {name or path}"
    return ManualValues(what, experiment, run.ref(), artifact_path=path, model_name=name)


def write(record: Manual, unanswered: bool, folder: Path, name: str) -> Manual:
    """Complete a record that goes to the outbox, and mark an unanswered request in its folder.

    Parameters
    ----------
    record : ManualRun or ManualValues
        See ``opening`` and ``values``.
    unanswered : bool
        Whether the server may still carry out the request.
    folder : Path
        Of the entry.
    name : str
        Of the entry.
    """
    if isinstance(record, ManualValues):
        return record
    if unanswered:
        mark(folder, "run").touch()
    return replace(record, origin=origin())


def open_run(server: Server, name: str, opened: ManualRun, entry: Entry | None = None) -> Run:
    """Create a run, unless the outbox entry has created it already.

    Parameters
    ----------
    server : Server
        Where to create it.
    name : str
        Of the entry, or of the entry that a failure would create.
    opened : ManualRun
        The run to create.
    entry : Entry, optional
        The outbox entry that holds it.
    """
    client, parent = server.client, opened.parent
    if parent is None:
        experiment, tags = experiment_id(server, opened.experiment), {}
    else:
        parent_run = run_of_entry(server, opened.experiment, parent)
        experiment, tags = parent_run.experiment_id, {"mlflow.parentRunId": parent_run.run_id}
    run_id = find_run(server, experiment, OPENED, name) if entry else None
    if run_id is None:
        with once(entry, "run") if entry else nullcontext():
            run: Run = server.call(
                client.create_run,
                experiment,
                start_time=opened.started_ms,
                tags={**(opened.origin or origin()), **tags, OPENED: name},
                run_name=opened.run_name,
            )
    else:
        run = server.call(client.get_run, run_id)
    if opened.ended:
        server.call(client.set_terminated, run.info.run_id, **asdict(opened.ended))
    return run


def record(server: Server, values: ManualValues) -> OpenRun:
    """Record parameters, metrics or the end of a run; idempotent.

    Parameters
    ----------
    server : Server
        Where to record them.
    values : ManualValues
        What to record.
    """
    run = run_of_entry(server, values.experiment, values.run)
    if values.params or values.metrics:
        for batch in batches(values):
            server.call(server.client.log_batch, run.run_id, **batch)
    if values.ended:
        server.call(server.client.set_terminated, run.run_id, **asdict(values.ended))
    return run


def send(server: Server, entry: Entry, manual: Manual, on_registered: OnRegistered) -> None:
    """Send an entry to the server; see ``publish.send``."""
    entry.check()
    if isinstance(manual, ManualRun):
        open_run(server, entry.name, manual, entry)
        return
    run = record(server, manual)
    if (path := manual.artifact_path) is None:
        return
    name_run(entry, path, run)
    artifacts.upload(server, run.run_id, entry.artifacts)
    if (name := manual.model_name) is not None:
        on_registered(version_of(server, entry, name, path, run, {}), run)
