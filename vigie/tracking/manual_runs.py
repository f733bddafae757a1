"""What a program records by hand: a run that it opens, values in it, a model, its end.

All of it is sent at once. What the server does not take goes to the outbox, and is sent from there
later, by the same functions: as it was, when it was, and no part of it twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vigie.registry.server import Server
from vigie.tracking import artifacts
from vigie.tracking.active_runs import OpenRun
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
    """Return a run that is opened now, and at once ended where nobody will end it."""
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
    """Return parameters, metrics, or the end of a run, as recorded now."""
    return ManualValues(
        what="parameters" if params else "metrics" if metrics else "the end of a run",
        experiment=experiment,
        run=run.ref(),
        params=params,
        metrics=list(metrics),
        ended=End(status, round(time.time() * 1000)) if status else None,
    )


def model(experiment: str, run: OpenRun, path: str, name: str | None) -> ManualValues:
    """Return a model, whose files are the entry's artifacts."""
    what = f"model {name or path}"
    return ManualValues(what, experiment, run.ref(), artifact_path=path, model_name=name)


def write(record: Manual, unanswered: bool, folder: Path, name: str) -> Manual:
    """Write into the folder of an entry what the server has not taken; return what it is.

    Parameters
    ----------
    record : ManualRun or ManualValues
        See ``opening`` and ``values``.
    unanswered : bool
        Whether the server may still do what it was asked.
    folder : Path
        The entry's.
    name : str
        The entry's.
    """
    if isinstance(record, ManualValues):
        return record
    if unanswered:
        mark(folder, "run").touch()
    return replace(record, origin=origin())


def open_run(server: Server, name: str, opened: ManualRun, entry: Entry | None = None) -> Run:
    """Create a run, unless an entry of the outbox has created it before.

    Parameters
    ----------
    server : Server
        Where.
    name : str
        The entry's, or that of the entry that there would be.
    opened : ManualRun
        What to create.
    entry : Entry, optional
        If it is sent from there.
    """
    client, parent = server.client, opened.parent
    if parent is None:
        where, tags = experiment_id(server, opened.experiment), {}
    else:
        above = run_of_entry(server, opened.experiment, parent)
        where, tags = above.experiment_id, {"mlflow.parentRunId": above.run_id}
    run_id = find_run(server, where, OPENED, name) if entry else None
    if run_id is None:
        with once(entry, "run") if entry else nullcontext():
            run: Run = server.call(
                client.create_run,
                where,
                start_time=opened.started_ms,
                tags={**(opened.origin or origin()), **tags, OPENED: name},
                run_name=opened.run_name,
            )
    else:
        run = server.call(client.get_run, run_id)
    if opened.ended:
        server.call(client.set_terminated, run.info.run_id, **asdict(opened.ended))
    return run


def record(server: Server, said: ManualValues) -> OpenRun:
    """Record parameters, metrics or the end of a run; all of it can be said twice.

    Parameters
    ----------
    server : Server
        Where.
    said : ManualValues
        What to record.
    """
    run = run_of_entry(server, said.experiment, said.run)
    if said.params or said.metrics:
        for batch in batches(said):
            server.call(server.client.log_batch, run.run_id, **batch)
    if said.ended:
        server.call(server.client.set_terminated, run.run_id, **asdict(said.ended))
    return run


def send(
    server: Server, entry: Entry, manual: Manual, registered: Callable[[int, OpenRun], None]
) -> None:
    """Bring the server to have what an entry says; see ``publish.send``."""
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
        registered(version_of(server, entry, name, path, run, {}), run)
