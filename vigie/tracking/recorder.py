"""Record runs and trainings: in the outbox first, then on the server.

No training may fail for its record: whatever is wrong with the server is logged once, and the
record stays in the outbox until it can be sent.
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
from vigie.registry.server import Server, impatiently, server_at
from vigie.tracking import active_runs, background, flavors, manual_runs
from vigie.tracking.active_runs import OpenRun
from vigie.tracking.manual_runs import Manual
from vigie.tracking.outbox import ARTIFACTS, Entry, Journal, new_name
from vigie.tracking.publish import TrainingRecord, write
from vigie.tracking.records import Metric, Record, TrainingEntry
from vigie.tracking.sync import WAIT_S, OnEntry, Registered, send, sync

if TYPE_CHECKING:
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

SERVERS_SHARE = 0.75
"""Of the patience, however long a record takes to be written."""

T = TypeVar("T")


class Recorder:
    """Records to the tracking server of the settings; without effect where tracking is disabled.

    Parameters
    ----------
    settings : Settings
        Which server, which experiment, and where the outbox is.
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
    def journal(self) -> Journal:
        """What MLflow may not have yet; it goes to the server that is set when it is sent."""
        return Journal(self._settings.state_dir / "journal")

    def start_run(self, run_name: str | None) -> Run | None:
        """Open a run for this thread or task; see ``MLflowService.start_run``."""
        run, made = self._open(run_name, active_runs.current(self.server.uri))
        if run is not None:
            active_runs.opened(run)
        return made

    def end_run(self, status: str) -> None:
        """Close the run that this thread or task opened last; without one, do nothing."""
        if run := active_runs.close(self.server.uri):
            self._record(run, status=status)
            if self.journal.waiting():
                background.send("what was recorded by hand", self._send_rest)

    def record_values(
        self, *, params: Mapping[str, str] = {}, metrics: Sequence[Metric] = ()
    ) -> None:
        """Record values in the open run, the last one of this thread or task, or a new one."""
        if run := self._target():
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
            Writes the model into a folder that does not exist yet, given that and the name that
            stands in place of the run's id.
        artifact_path : str
            Folder among the run's artifacts.
        registered_model_name : str or None
            Makes it a new version of this registered model.

        Returns
        -------
        int or None
            The version, if one was registered by now.
        """
        if (run := self._target()) is None:
            return None

        def write(folder: Path, name: str) -> Record:
            target = folder / ARTIFACTS / artifact_path
            target.parent.mkdir(parents=True)
            write_files(target, name)
            experiment = self._settings.mlflow_experiment_name
            return manual_runs.model(experiment, run, artifact_path, registered_model_name)

        written = self._written(write, f"The model in {artifact_path}")
        made: list[int] = []
        if written is not None:
            self._send(*written, lambda version, run: made.append(version))
        return made[0] if made else None

    def record_training(
        self, record: TrainingRecord, *, nested: bool, on_version: Callable[[int, str], None]
    ) -> str | None:
        """Keep a training in the journal, send it, and wait no longer than the server answers.

        Run, files of the model and version are there then; figures follow, see ``pending``. What
        could not be sent stays in the journal.

        Parameters
        ----------
        record : TrainingRecord
            What to keep and send.
        nested : bool
            Put it into a run of its own below the open run, even where it could go into that.
        on_version : callable
            Told the version and the run once it is registered, from another thread.

        Returns
        -------
        str or None
            The content hash of the model's serving form; None if there is no record of it.
        """
        if not self.enabled:
            return None
        began = time.monotonic()
        parent = active_runs.current(self.server.uri)
        if parent is not None and nested:
            parent.holds_training = True
        experiment, address = self._settings.mlflow_experiment_name, self.server.masked_uri
        graphs = self._settings.state_dir / "networks"
        how = functools.partial(write, record, experiment, parent, graphs, address)
        found = self._written(how, f"The training of {record.model_name}")
        if found is None:
            return None
        journal, entry = found
        registered: Future[OpenRun] = Future()

        def note(version: int, run: OpenRun) -> None:
            on_version(version, run.run_id)
            registered.set_result(run)

        training = entry.record()
        assert isinstance(training, TrainingEntry)
        upload = background.send(record.run_name, self._send, journal, entry, note)
        self._await(registered, upload, time.monotonic() - began)
        if registered.done():
            active_runs.made(registered.result())
        return training.content_hash

    def prepare(self, *, windows: bool) -> None:
        """Import what a record takes, and see if the server is there, while the model is fitted.

        The import takes longer than a small training's whole record, as does a server's silence.

        Parameters
        ----------
        windows : bool
            Whether a detector of windows is to be recorded, or one of single rows.
        """
        if not self.enabled:
            return
        background.submit(self._look)
        if f"mlflow.{'models' if windows else 'sklearn'}" not in sys.modules:
            background.submit(flavors.take_in, windows)

    def sync(self, on_entry: OnEntry = lambda entry, outcome: None, *, again: bool = False) -> None:
        """Send what is in the outbox, and wait for what another process is sending.

        See ``vigie.tracking.sync.sync``.

        Raises
        ------
        TrackingUnavailableError
            If the server does not answer.
        """
        if self.enabled:
            sync(self.server, self.journal, on_entry, again=again, within_s=WAIT_S)

    def warn_of_journal(self) -> None:
        """Log a warning if much has been waiting in the journal, or for long."""
        kept = self.journal.summary()
        if kept.overdue:
            logger.warning(
                "The journal in %s is not sent: %s. `vigie doctor` says why.",
                self.journal.folder,
                kept,
            )

    def _open(
        self, run_name: str | None, parent: OpenRun | None, *, ended: bool = False
    ) -> tuple[OpenRun | None, Run | None]:
        """Create a run; where the server does not, have the journal create it later."""
        name, uri = new_name(), self.server.uri
        experiment = self._settings.mlflow_experiment_name
        opened = manual_runs.opening(experiment, run_name, parent, ended=ended)
        made, kept = self._at_once_or_kept(
            name, opened, parent, lambda: manual_runs.open_run(self.server, name, opened)
        )
        if made is not None:
            return OpenRun(uri, made.info.experiment_id, made.info.run_id), made
        return (OpenRun(uri, "", "", entry=name) if kept else None), None

    def _record(self, run: OpenRun, **what: Any) -> None:
        """Record values, or the end, of a run: at once, or by the outbox."""
        said = manual_runs.values(self._settings.mlflow_experiment_name, run, **what)
        self._at_once_or_kept(new_name(), said, run, lambda: manual_runs.record(self.server, said))

    def _at_once_or_kept(
        self, name: str, manual: Manual, run: OpenRun | None, send: Callable[[], T]
    ) -> tuple[T | None, bool]:
        """Send what was recorded by hand; return what comes of it, or whether it is kept.

        Parameters
        ----------
        name, manual : str and record
            Of the entry that keeps it.
        run : OpenRun or None
            Where it belongs. What belongs to a run in the journal goes there too.
        send : callable
            Sends it.
        """
        unanswered = False
        try:
            if run is None or run.run_id:
                # Asked first, since an absent server should not even cost the import of MLflow.
                self.server.require()
                with impatiently():
                    return send(), False
        except TrackingUnavailableError as error:
            unanswered = error.timed_out
            error.message += _kept_in(self.journal)
            self.server.log_outage(error)
        except (TrackingRefusedError, ModelNotFoundError) as error:
            logger.error("Not recorded in MLflow: %s. %s", manual.what, error)
            return None, False
        except TrackingError as error:
            self.server.log_refusal(error, f"Not recorded in MLflow yet: {manual.what}.")
        try:
            self.journal.write(
                functools.partial(manual_runs.write, manual, unanswered), name
            ).release()
        except OSError as error:
            logger.error(
                "Lost, for the journal cannot be written (%s): %s. Set VIGIE_STATE_DIR to a folder "
                "that can be written.",
                error,
                manual.what,
            )
            return None, False
        return None, True

    def _written(
        self, write: Callable[[Path, str], Record], what: str
    ) -> tuple[Journal, Entry] | None:
        """Write an entry into the journal, or else where it can be sent from at once."""
        try:
            try:
                return self.journal, self.journal.write(write)
            except OSError as error:
                logger.error(
                    "The journal in %s cannot be written (%s). %s is lost if the MLflow server "
                    "does not take it now. Set VIGIE_STATE_DIR to a folder that can be written.",
                    self.journal.folder,
                    error,
                    what,
                )
                journal = Journal(Path(tempfile.mkdtemp(prefix="vigie-journal-")))
                return journal, journal.write(write)
        except Exception:
            # Whatever is wrong with its record, the model is fitted and shall be used.
            logger.exception("%s is not recorded.", what)
            return None

    def _send(self, journal: Journal, entry: Entry, registered: Registered) -> None:
        """Send an entry that was just written, and then what earlier ones have left."""
        try:
            # Asked first, since an absent server should not even cost a try.
            self.server.require()
            into = entry.record().goes_into
            if into and into.entry:
                # The run that it goes into comes first.
                sync(self.server, journal)
            send(self.server, journal, entry, registered)
        except TrackingUnavailableError as error:
            error.message += (
                _kept_in(journal)
                if journal.folder == self.journal.folder
                else " This record is lost to it, for the journal cannot be written."
            )
            self.server.log_outage(error)
            self.warn_of_journal()
            return
        finally:
            entry.release()
            if journal.folder != self.journal.folder:
                shutil.rmtree(journal.folder, ignore_errors=True)
        self._send_rest()

    def _look(self) -> None:
        """Find out whether the server answers; whoever needs it says so if it does not."""
        with suppress(TrackingUnavailableError):
            self.server.require()

    def _send_rest(self) -> None:
        try:
            # Impatiently: the end of the program waits for this.
            self.server.require()
            sync(self.server, self.journal)
        except TrackingUnavailableError as error:
            self.server.log_outage(error)

    def _await(self, registered: Future[Any], upload: Future[Any], spent_s: float) -> None:
        """Wait for a version, or for the end of an upload without one, but not for long.

        To have written the record counts too, which in a new process takes as long as the server
        takes for it; but most of the patience is the server's.
        """
        patience = self._settings.tracking_patience_s
        left = max(patience - spent_s, SERVERS_SHARE * patience) if self.server.is_remote else None
        wait([registered, upload], timeout=left, return_when=FIRST_COMPLETED)
        if not registered.done() and not upload.done():
            logger.warning(
                "The MLflow server at %s has not taken all of it after %.1f s; the training goes "
                "on, and its record is completed in the background.",
                self.server.masked_uri,
                left,
            )

    def _target(self) -> OpenRun | None:
        """Return the run that a value without a run goes to; None if none can be made or kept."""
        run = active_runs.current(self.server.uri) or active_runs.last(self.server.uri)
        if run is None:
            run, _ = self._open("custom_metrics", None, ended=True)
            if run is not None:
                active_runs.made(run)
        return run


def _kept_in(journal: Journal) -> str:
    return f" What is recorded is kept in {journal.folder} until it is there."
