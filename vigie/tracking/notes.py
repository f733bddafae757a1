"""What a program records by hand: a run that it opens, values in it, a model, its end.

All of it is sent at once. What the server does not take goes to the journal, and is sent from there
later, by the same functions: as it was, when it was, and no part of it twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigie.tracking import artifacts, runs
from vigie.tracking.journal import Entry
from vigie.tracking.publish import (
    OPENED,
    Facts,
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
from vigie.tracking.server import Server

if TYPE_CHECKING:
    from mlflow.entities import Run


def opening(
    experiment: str, run_name: str | None, parent: runs.OpenRun | None, *, ended: bool = False
) -> dict[str, Any]:
    """Return the facts of a run that is opened now, and at once ended where nobody will end it."""
    now = round(time.time() * 1000)
    return {
        "what": f"run {run_name or ''}".strip(),
        "experiment": experiment,
        "run_name": run_name,
        "parent": None if parent is None else parent.as_facts(),
        "started_ms": now,
        "ended": {"status": "FINISHED", "end_time": now} if ended else None,
    }


def values(
    experiment: str,
    run: runs.OpenRun,
    *,
    params: Mapping[str, str] | None = None,
    metrics: Sequence[tuple[str, float, int, int]] = (),
    status: str | None = None,
) -> dict[str, Any]:
    """Return the facts of parameters, metrics, or the end of a run."""
    now = round(time.time() * 1000)
    what = "parameters" if params else "metrics" if metrics else "the end of a run"
    return {
        "what": what,
        "experiment": experiment,
        "run": run.as_facts(),
        "params": dict(params or {}),
        "metrics": list(metrics),
        "tags": {},
        "ended": {"status": status, "end_time": now} if status else None,
    }


def model(experiment: str, run: runs.OpenRun, path: str, name: str | None) -> dict[str, Any]:
    """Return the facts of a model, whose files are the entry's artifacts."""
    return values(experiment, run) | {
        "what": f"model {name or path}",
        "artifact_path": path,
        "model_name": name,
    }


def write(facts: Facts, unanswered: bool, folder: Path, name: str) -> dict[str, Any]:
    """Write into the folder of a journal's entry what the server has not taken; return its facts.

    Parameters
    ----------
    facts : mapping
        See ``opening`` and ``values``.
    unanswered : bool
        Whether the server may still do what it was asked.
    folder : Path
        The entry's.
    name : str
        The entry's.
    """
    if "run" in facts:
        return dict(facts)
    if unanswered:
        mark(folder, "run").touch()
    return {**facts, "origin": origin()}


def open_run(server: Server, name: str, facts: Facts, entry: Entry | None = None) -> Run:
    """Create a run, unless an entry of the journal has created it before.

    Parameters
    ----------
    server : Server
        Where.
    name : str
        The entry's, or that of the entry that there would be.
    facts : mapping
        See ``opening``.
    entry : Entry, optional
        If it is sent from there.
    """
    client, parent = server.client, facts["parent"]
    if parent is None:
        where, tags = experiment_id(server, facts["experiment"]), {}
    else:
        above = run_of_entry(server, facts["experiment"], parent)
        where, tags = above.experiment_id, {"mlflow.parentRunId": above.run_id}
    run_id = find_run(server, where, OPENED, name) if entry else None
    if run_id is None:
        with once(entry, "run") if entry else nullcontext():
            run: Run = server.call(
                client.create_run,
                where,
                start_time=facts["started_ms"],
                tags={**(facts.get("origin") or origin()), **tags, OPENED: name},
                run_name=facts["run_name"],
            )
    else:
        run = server.call(client.get_run, run_id)
    if facts["ended"]:
        server.call(client.set_terminated, run.info.run_id, **facts["ended"])
    return run


def record(server: Server, facts: Facts) -> runs.OpenRun:
    """Record parameters, metrics or the end of a run; all of it can be said twice.

    Parameters
    ----------
    server : Server
        Where.
    facts : mapping
        See ``values``.
    """
    run = run_of_entry(server, facts["experiment"], facts["run"])
    if facts["params"] or facts["metrics"]:
        for batch in batches(facts):
            server.call(server.client.log_batch, run.run_id, **batch)
    if facts["ended"]:
        server.call(server.client.set_terminated, run.run_id, **facts["ended"])
    return run


def send(
    server: Server, entry: Entry, facts: Facts, registered: Callable[[int, runs.OpenRun], None]
) -> None:
    """Bring the server to have what an entry says; see ``publish.send``."""
    if "run" not in facts:
        open_run(server, entry.name, facts, entry)
        return
    run = record(server, facts)
    if (path := facts.get("artifact_path")) is None:
        return
    name_run(entry, path, run)
    artifacts.upload(server, run.run_id, entry.artifacts)
    if (name := facts["model_name"]) is not None:
        registered(version_of(server, entry, name, path, run, {}), run)
