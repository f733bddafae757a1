"""Record runs and trainings: in the outbox first, then on the server.

A failed record never fails a training: faults of the server are logged once, and the record stays
in the outbox until it can be sent.
"""

from __future__ import annotations

import functools
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vigie.config import Settings
from vigie.errors import (
    ModelNotFoundError,
    TrackingError,
    TrackingRefusedError,
    TrackingUnavailableError,
)
from vigie.registry.server import Server, server_at, short_timeout
from vigie.tracking import active_runs, background, flavors, manual_runs
from vigie.tracking.active_runs import OnRegistered, OpenRun
from vigie.tracking.manual_runs import Manual
from vigie.tracking.outbox import ARTIFACTS, Entry, Outbox, new_name
from vigie.tracking.publish import TrainingRecord, write
from vigie.tracking.records import Metric, Record, TrainingEntry
from vigie.tracking.sync import WAIT_S, OnEntry, ignore, send, sync

if TYPE_CHECKING:
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

SERVERS_SHARE = 0.75
"""Share of the patience reserved for the server, however long it takes to write the record."""

T = TypeVar("T")


class Recorder:
    """Record to the tracking server of the settings; do nothing if tracking is disabled.

    Parameters
    ----------
    settings : Settings
        The server, the experiment and the state folder with the outbox.
    """

    def __init__(self, settings: Settings):
        self._settings = settings

    @property
    def enabled(self) -> bool:
        return self._settings.mlflow_enabled

    @property
    def server(self) -> Server:
        """The server as this process sees it; shared by all services with the same URI."""
        return server_at(self._settings.mlflow_tracking_uri)

    @property
    def outbox(self) -> Outbox:
        """The records to be sent; they go to the server that is configured at that time."""
        return Outbox(self._settings.state_dir / "journal")

    def start_run(self, run_name: str | None) -> Run | None:
        """Open a run for this thread or task; see ``MLflowService.start_run``."""
        if not self.enabled:
            return None
        run, created = self._open(run_name, active_runs.current(self.server.uri))
        if run is not None:
            active_runs.push(run)
        return created

    def end_run(self, status: str) -> None:
        """Close the run that this thread or task opened last; without one, do nothing."""
        if self.enabled and (run := active_runs.close(self.server.uri)):
            self._record(run, status=status)
            if self.outbox.waiting():
                background.send("manual records", self._send_rest)

    def record_values(
        self, *, params: Mapping[str, str] = {}, metrics: Sequence[Metric] = ()
    ) -> None:
        """Record values in the open run, the last one of this thread or task, or a new one."""
        if self.enabled and (run := self._target()):
            self._record(run, params=params, metrics=metrics)

    def record_model(
        self,
        write_files: Callable[[Path, str], None],
        artifact_path: str,
        registered_model_name: str | None,
    ) -> int | None:
        """Record a model in the open run, the last one of this thread or task, or a new one.

        Parameters
        ----------
        write_files : callable
            Called with a folder that does not exist yet, and the name to use in place of the run
            id; writes the model there.
        artifact_path : str
            Folder in the run's artifacts.
        registered_model_name : str or None
            Registers the model as a new version of this name.

        Returns
        -------
        int or None
            The version, if one has been registered.
        """
        if not self.enabled or (run := self._target()) is None:
            return None

        def write(folder: Path, name: str) -> Record:
            target = folder / ARTIFACTS / artifact_path
            target.parent.mkdir(parents=True)
            write_files(target, name)
            experiment = self._settings.mlflow_experiment_name
            return manual_runs.model(experiment, run, artifact_path, registered_model_name)

        written = self._write(write, f"The model in {artifact_path}")
        versions: list[int] = []
        if written is not None:
            self._send(*written, lambda version, run: versions.append(version))
        return versions[0] if versions else None

    def record_training(
        self, record: TrainingRecord, *, nested: bool, on_version: Callable[[int, str], None]
    ) -> str | None:
        """Write a training to the outbox, send it, and wait for the version within the patience.

        On return the run, the model's files and the version exist; figures follow, see
        ``pending``. What could not be sent stays in the outbox.

        Parameters
        ----------
        record : TrainingRecord
            The training.
        nested : bool
            Use a nested run even if the open run holds no training yet.
        on_version : callable
            Called from another thread with the version and the run id, once registered.

        Returns
        -------
        str or None
            The content hash of the model's serving form; None if it could not be recorded.
        """
        if not self.enabled:
            return None
        began = time.monotonic()
        parent = active_runs.current(self.server.uri)
        if parent is not None and nested:
            parent.holds_training = True
        settings, address = self._settings, self.server.masked_uri
        write_entry = functools.partial(
            write,
            record,
            settings.mlflow_experiment_name,
            parent,
            settings.state_dir / "networks",
            address,
            settings.figures,
        )
        written = self._write(write_entry, f"The training of {record.model_name}")
        if written is None:
            return None
        outbox, entry = written
        registered: Future[OpenRun] = Future()

        def on_registered(version: int, run: OpenRun) -> None:
            on_version(version, run.run_id)
            registered.set_result(run)

        training = entry.record()
        assert isinstance(training, TrainingEntry)
        upload = background.send(record.run_name, self._send, outbox, entry, on_registered)
        self._await(registered, upload, time.monotonic() - began)
        if registered.done():
            active_runs.set_last(registered.result())
        return training.content_hash

    def prepare(self, flavor: str) -> None:
        """Import what a record needs and probe the server, in the background of the training.

        The import, like the timeout of a silent server, takes longer than the record of a small
        training.

        Parameters
        ----------
        flavor : {'sklearn', 'torch'}
            The MLflow flavor of the detector.
        """
        if not self.enabled:
            return
        background.submit(self._probe)
        if f"mlflow.{'models' if flavor == 'torch' else 'sklearn'}" not in sys.modules:
            background.submit(flavors.take_in, flavor)

    def sync(self, on_entry: OnEntry | None = None, *, again: bool = False) -> None:
        """Send the outbox, and wait for entries that another process is sending.

        See ``vigie.tracking.sync.sync``.

        Raises
        ------
        TrackingUnavailableError
            If the server does not answer.
        """
        if self.enabled:
            sync(self.server, self.outbox, on_entry or ignore, again=again, within_s=WAIT_S)

    def warn_of_outbox(self) -> None:
        """Log a warning if the outbox is large, or holds old records."""
        summary = self.outbox.summary()
        if summary.overdue:
            logger.warning(
                "The outbox in %s has not been sent: %s. `vigie doctor` shows why.",
                self.outbox.folder,
                summary,
            )

    def _open(
        self, run_name: str | None, parent: OpenRun | None, *, ended: bool = False
    ) -> tuple[OpenRun | None, Run | None]:
        """Create a run on the server; if that fails, through the outbox."""
        name, uri = new_name(), self.server.uri
        experiment = self._settings.mlflow_experiment_name
        opened = manual_runs.opening(experiment, run_name, parent, ended=ended)
        created, is_queued = self._send_or_queue(
            name, opened, parent, lambda: manual_runs.open_run(self.server, name, opened)
        )
        if created is not None:
            return OpenRun(uri, created.info.experiment_id, created.info.run_id), created
        return (OpenRun(uri, "", "", entry=name) if is_queued else None), None

    def _record(self, run: OpenRun, **what: Any) -> None:
        """Record values or the end of a run on the server; if that fails, through the outbox."""
        values = manual_runs.values(self._settings.mlflow_experiment_name, run, **what)
        self._send_or_queue(
            new_name(), values, run, lambda: manual_runs.record(self.server, values)
        )

    def _send_or_queue(
        self, name: str, manual: Manual, run: OpenRun | None, send: Callable[[], T]
    ) -> tuple[T | None, bool]:
        """Send a manual record; return the result, and whether it went to the outbox instead.

        Parameters
        ----------
        name, manual : str and record
            Of the outbox entry.
        run : OpenRun or None
            The run of the record. If that is still in the outbox, the record goes there too.
        send : callable
            Sends it.
        """
        unanswered = False
        try:
            if run is None or run.run_id:
                # Probed first, so that an absent server does not cost the import of MLflow.
                self.server.require()
                with short_timeout():
                    return send(), False
        except TrackingUnavailableError as error:
            unanswered = error.timed_out
            error.message += _kept_in(self.outbox)
            self.server.log_outage(error)
        except (TrackingRefusedError, ModelNotFoundError) as error:
            logger.error("Not recorded in MLflow: %s. %s", manual.what, error)
            return None, False
        except TrackingError as error:
            self.server.log_refusal(error, f"Not recorded in MLflow yet: {manual.what}.")
        try:
            self.outbox.write(
                functools.partial(manual_runs.write, manual, unanswered), name
            ).release()
        except OSError as error:
            logger.error(
                "The outbox cannot be written (%s); lost: %s. Set VIGIE_STATE_DIR to a writable "
                "folder.",
                error,
                manual.what,
            )
            return None, False
        return None, True

    def _write(
        self, write: Callable[[Path, str], Record], what: str
    ) -> tuple[Outbox, Entry] | None:
        """Write an entry to the outbox; if that fails, to a temporary one."""
        try:
            try:
                return self.outbox, self.outbox.write(write)
            except OSError as error:
                logger.error(
                    "The outbox in %s cannot be written (%s). %s is lost if it cannot be sent to "
                    "the MLflow server now. Set VIGIE_STATE_DIR to a writable folder.",
                    self.outbox.folder,
                    error,
                    what,
                )
                outbox = Outbox(Path(tempfile.mkdtemp(prefix="vigie-outbox-")))
                return outbox, outbox.write(write)
        except Exception:
            # The fitted model is usable whatever the fault of its record.
            logger.exception("%s is not recorded.", what)
            return None

    def _send(self, outbox: Outbox, entry: Entry, on_registered: OnRegistered) -> None:
        """Send a new entry, then the entries that earlier attempts have left."""
        try:
            self.server.require()
            run = entry.record().goes_into
            if run and run.entry:
                # The outbox entry that creates the run must be sent first.
                sync(self.server, outbox)
            send(self.server, outbox, entry, on_registered)
        except TrackingUnavailableError as error:
            error.message += (
                _kept_in(outbox)
                if outbox.folder == self.outbox.folder
                else " This record is lost, since the outbox cannot be written."
            )
            self.server.log_outage(error)
            self.warn_of_outbox()
            return
        finally:
            entry.release()
            if outbox.folder != self.outbox.folder:
                shutil.rmtree(outbox.folder, ignore_errors=True)
        self._send_rest()

    def _probe(self) -> None:
        """Probe the server, for the circuit breaker; later calls report an outage."""
        with suppress(TrackingUnavailableError):
            self.server.require()

    def _send_rest(self) -> None:
        try:
            # A probe with the short timeout, since the program's exit waits for this.
            self.server.require()
            sync(self.server, self.outbox)
        except TrackingUnavailableError as error:
            self.server.log_outage(error)

    def _await(self, registered: Future[Any], upload: Future[Any], spent_s: float) -> None:
        """Wait until the version is registered or the upload ends, within the patience.

        The time spent on writing the record counts, but at least ``SERVERS_SHARE`` of the patience
        is left for the server.
        """
        patience = self._settings.tracking_patience_s
        left = max(patience - spent_s, SERVERS_SHARE * patience) if self.server.is_remote else None
        wait([registered, upload], timeout=left, return_when=FIRST_COMPLETED)
        if not registered.done() and not upload.done():
            logger.warning(
                "The MLflow server at %s has not received the whole record after %.1f s; the "
                "training continues, and the upload completes in the background.",
                self.server.masked_uri,
                left,
            )

    def _target(self) -> OpenRun | None:
        """Return the open, the last or a new run of this thread or task; None if that fails."""
        run = active_runs.current(self.server.uri) or active_runs.last(self.server.uri)
        if run is None:
            run, _ = self._open("custom_metrics", None, ended=True)
            if run is not None:
                active_runs.set_last(run)
        return run


def _kept_in(outbox: Outbox) -> str:
    return (
        f" Records stay in the outbox ({outbox.folder.absolute()}) until they are sent: by "
        f"`vigie sync` in {Path.cwd()}, or by a service that runs there."
    )
