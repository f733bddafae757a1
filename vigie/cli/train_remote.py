"""``vigie train --server``: train on a file by a service, and follow the job."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer
from rich.markup import escape

from vigie.cli.environment import read_settings
from vigie.cli.options import print_notes
from vigie.cli.terminal import new_sheet, out, print_complaint, progress_bar
from vigie.errors import InvalidDataError, VigieError
from vigie.printable import printable

if TYPE_CHECKING:
    import httpx

    from vigie.tables.options import ReadOptions

CONNECT_S, ANSWER_S, SILENT_S = 10.0, 300.0, 60.0
"""Limits: to connect, for an answer, and between two signs of life of a stream."""
MOST_ATTEMPTS = 10
"""Attempts to reach the service again, a few seconds apart, before its job is given up."""
AGAIN_S = 3.0
CANCELLED_BY_USER = 130
HEADERS = {"Content-Type": "application/octet-stream"}
SET_KEY = (
    "Set VIGIE_API_KEY to a key with the scope train: `vigie keys create NAME --scope train` makes "
    "one on the service's machine."
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
    import httpx

    from vigie.local import client_of
    from vigie.tables.stated import as_parameters

    base = _base(server)
    query: list[tuple[str, str | int | float | bool | None]] = [
        ("filename", filename),
        *as_parameters(reading),
        *(("model", name) for name in names or ()),
        *(("exclude", name) for name in exclude),
        *(("feature", name) for name in feature),
        *(("context", name) for name in context),
        *(
            (f"{detector}.{name}", value)
            for detector, values in parameters.items()
            for name, value in values.items()
        ),
    ]
    optional = {"rows": rows, "asset": asset, "contamination": contamination}
    query += [(name, value) for name, value in optional.items() if value is not None]
    limits = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
    with client_of(read_settings(), limits, base) as client:
        try:
            sent = client.post(
                "/api/v1/anomalies/train",
                params=query,
                headers=HEADERS,
                content=file.read_bytes(),
            )
        except httpx.TransportError as error:
            raise _unreachable(client, error) from error
        job = _answered(sent)
        print_notes(job["data"]["notes"])
        try:
            with progress_bar() as progress:
                job = _followed(client, job, progress)
        except KeyboardInterrupt:
            client.delete(job["links"]["self"])
            print_complaint("The training on the server is cancelled.")
            raise typer.Exit(CANCELLED_BY_USER) from None
    return _print_outcome(job)


def _base(server: str) -> str:
    """Return the address before ``/api/v1``.

    Raises
    ------
    InvalidDataError
        If it is none.
    """
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidDataError(
            f"{server!r} is not the address of a service.",
            field="--server",
            remedy="Write it as http://localhost:8084.",
        )
    return server.rstrip("/").removesuffix("/api/v1")


def _followed(
    client: httpx.Client, job: dict[str, Any], progress: Callable[[str, float], None]
) -> dict[str, Any]:
    """Return a job once it has ended; tell its progress until then."""
    import httpx

    from vigie.models.jobs import JobState

    last, attempts = "", 0
    while not JobState(job["state"]).has_ended:
        try:
            for event, known in _events(client, job, last):
                job, last, attempts = known, event, 0
                progress(*_told(job))
        except httpx.TransportError as error:
            attempts += 1
            if attempts > MOST_ATTEMPTS:
                raise _unreachable(client, error) from error
            time.sleep(AGAIN_S)
        else:
            if not JobState(job["state"]).has_ended:
                # The stream ends when the service does; the job may go on with the next one.
                attempts += 1
                if attempts > MOST_ATTEMPTS:
                    raise VigieError(f"The service does not say how job {job['id']} ends.")
                time.sleep(AGAIN_S)
    return job


def _events(
    client: httpx.Client, job: Mapping[str, Any], last: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the id of each event of a job, and the job."""
    import httpx

    headers = {"Last-Event-ID": last} if last else {}
    limits = httpx.Timeout(SILENT_S, connect=CONNECT_S)
    with client.stream("GET", job["links"]["events"], headers=headers, timeout=limits) as stream:
        if stream.is_error:
            stream.read()
            _answered(stream)
        data = ""
        for line in stream.iter_lines():
            key, _, value = line.partition(": ")
            if key == "data":
                data = value
            elif key == "id" and data:
                yield value, json.loads(data)


def _told(job: Mapping[str, Any]) -> tuple[str, float]:
    """Return a job's step in words, and the share that is done."""
    progress = job["progress"]
    if job["state"] == "queued":
        before = (job["position"] or 1) - 1
        return f"waiting, {before} before it" if before else "waiting", 0.0
    step = f"{progress['model']}: {progress['step']}" if progress["model"] else progress["step"]
    if progress["loss"] is not None:
        step += f", loss {progress['loss']:.3g}"
    return printable(step), progress["percent"] / 100.0


def _print_outcome(job: Mapping[str, Any]) -> bool:
    if (error := job["error"]) is not None:
        place = f"{error['field']}: " if error["field"] else ""
        raise VigieError(f"{place}{error['detail']}", remedy=error["remedy"])
    if job["state"] != "succeeded":
        raise VigieError(f"The training did not end: it is {job['state']}.")
    sheet = new_sheet()
    for column in ("model", "version", "rows", "seconds"):
        sheet.add_column(column, justify="left" if column == "model" else "right")
    failed = []
    for name, model in job["models"].items():
        if model["status"] != "trained":
            failed.append(f"{name} ({model['error']})")
            continue
        metrics = model["metrics"]
        figures = f"{metrics['n_samples']:,}", f"{metrics['training_seconds']:.1f}"
        sheet.add_row(escape(name), str(model["version"] or "–"), *figures)
    out.print(sheet)
    for name, model in job["models"].items():
        if model["note"]:
            print_notes([f"{name}: {model['note']}"])
    if failed:
        print_complaint(f"Not trained: {', '.join(failed)}.")
    return not failed


def _answered(response: httpx.Response) -> dict[str, Any]:
    """Return what a service answers.

    Raises
    ------
    VigieError
        If that is an error, or nothing that Vigie would answer.
    """
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.is_error and isinstance(answer, dict) and "detail" in answer:
        needs_key = response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        remedy = SET_KEY if needs_key else answer.get("remedy")
        raise VigieError(printable(str(answer["detail"])), remedy=remedy)
    if response.is_error or not isinstance(answer, dict) or "links" not in answer:
        raise VigieError(
            f"No Vigie that trains by jobs answers at {_shown(response.request.url)}, but status "
            f"{response.status_code}.",
            remedy="Check the address and the path.",
        )
    return answer


def _unreachable(client: httpx.Client, error: Exception) -> VigieError:
    return VigieError(
        f"The service at {_shown(client.base_url)} cannot be reached: {error}.",
        field="--server",
        remedy="Check the address, and that `vigie serve` runs there.",
    )


def _shown(url: httpx.URL) -> str:
    """Return an address without its user and password."""
    return str(url.copy_with(userinfo=b"", query=None))
