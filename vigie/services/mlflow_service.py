"""MLflowService: the guide's window on MLflow.

Two kinds of methods, two manners when the server is away. What *records* (``start_run``,
``log_...``, ``end_run``) logs one error, leaves the record to the journal and returns, because no
training may fail for its record. What *asks* (``load_model``, ``transition_model_stage``,
``get_latest_versions``, ``search_runs``) raises, because there is no answer. With
``MLFLOW_ENABLED=false`` both return at once without effect, and MLflow is not even imported.
"""

from __future__ import annotations

import functools
import logging
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vigie.config import Settings
from vigie.detectors.trained import TrainedModel
from vigie.errors import (
    InvalidDataError,
    ModelNotFoundError,
    ModelRefusedError,
    TrackingError,
    TrackingRefusedError,
    TrackingUnavailableError,
)
from vigie.tracking import flavors, notes, registry, runs, stages
from vigie.tracking.journal import ARTIFACTS, Entry, Journal, new_name
from vigie.tracking.publish import TrainingRecord, experiment_id, write
from vigie.tracking.registry import Version
from vigie.tracking.server import Server, impatiently, server_at
from vigie.tracking.sync import WAIT_S, OnEntry, Registered, send, sync

if TYPE_CHECKING:
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

SERVERS_SHARE = 0.75
"""Of the patience, however long a record takes to be written."""
_uploads = ThreadPoolExecutor(thread_name_prefix="vigie-upload")
_pending: dict[Future[Any], str] = {}

T = TypeVar("T")


class MLflowService:
    """Runs, models and versions on the tracking server of the settings.

    Parameters
    ----------
    settings : Settings, optional
        By default read from the environment and ``.env``.

    Attributes
    ----------
    enabled : bool
        ``MLFLOW_ENABLED``.
    """

    def __init__(self, settings: Settings | None = None):
        self.settings = settings or Settings()

    @property
    def enabled(self) -> bool:
        return self.settings.mlflow_enabled

    @property
    def server(self) -> Server:
        """The server as this process sees it; shared by all services with the same URI."""
        return server_at(self.settings.mlflow_tracking_uri)

    def start_run(self, run_name: str | None = None) -> Run | None:
        """Open a run for this thread or task, nested in the one that it has open, if any.

        Parameters
        ----------
        run_name : str, optional
            By default MLflow makes one up.

        Returns
        -------
        mlflow.entities.Run or None
            The run; None when tracking is disabled, or when the server is away: then the journal
            keeps the run with all that goes into it.
        """
        if not self.enabled:
            return None
        run, made = self._open(run_name, runs.current(self.server.uri))
        if run is not None:
            runs.opened(run)
        return made

    def end_run(self, status: str = "FINISHED") -> None:
        """Close the run that this thread or task opened last; without one, do nothing.

        Parameters
        ----------
        status : {'FINISHED', 'FAILED', 'KILLED'}
            How it ended.
        """
        if self.enabled and (run := runs.close(self.server.uri)):
            self._record(run, status=status)
            if self.journal.waiting():
                _in_background("what was recorded by hand", self._send_rest)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters to the open run, the last one, or a new one."""
        if self.enabled:
            entries = {str(name): str(value) for name, value in params.items()}
            self._record(self._target(), params=entries)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics to the open run, else to the last run of this thread, else to a new one.

        Parameters
        ----------
        metrics : mapping of str to float
            Values by name.
        step : int, optional
            The epoch or other step that the values belong to.

        Raises
        ------
        InvalidDataError
            If a value is no number.
        """
        if not self.enabled:
            return
        now, entries = round(time.time() * 1000), []
        for name, value in metrics.items():
            try:
                entries.append((str(name), float(value), now, step or 0))
            except (TypeError, ValueError, OverflowError) as error:
                raise InvalidDataError(
                    f"{value!r} is not a number.",
                    field=f"metrics.{name}",
                    remedy="Log text with log_params.",
                ) from error
        self._record(self._target(), metrics=entries)

    def log_model(
        self,
        model: Any,
        artifact_path: str,
        registered_model_name: str | None = None,
        *,
        signature: Any = None,
        input_example: Any = None,
    ) -> int | None:
        """Log a model to the open run, else to the last run of this thread, else to a new one.

        Parameters
        ----------
        model : object
            A scikit-learn compatible estimator or a torch module.
        artifact_path : str
            Folder among the run's artifacts.
        registered_model_name : str, optional
            Makes it a new version of this registered model.
        signature, input_example : optional
            As MLflow takes them.

        Returns
        -------
        int or None
            The version, if one was registered by now.
        """
        if not self.enabled or (run := self._target()) is None:
            return None
        experiment = self.settings.mlflow_experiment_name

        def write(folder: Path, name: str) -> dict[str, Any]:
            target = folder / ARTIFACTS / artifact_path
            target.parent.mkdir(parents=True)
            flavors.write_estimator(
                model, target, name, signature=signature, input_example=input_example
            )
            return notes.model(experiment, run, artifact_path, registered_model_name)

        found = self._written(write, f"The model in {artifact_path}")
        made: list[int] = []
        if found is not None:
            self._send(*found, lambda version, run: made.append(version))
        return made[0] if made else None

    def load_model(
        self,
        name: str,
        stage: str | None = None,
        version: int | str | None = None,
        *,
        allow_pickle: bool = False,
    ) -> Any:
        """Open a registered model, ready to ``predict``.

        Parameters
        ----------
        name : str
            The registered name, such as ``isolation_forest``.
        stage : str, optional
            'Production' or 'Staging': the newest version there.
        version : int, optional
            This version. With neither, the version that serves: the newest in Production, or
            the newest of all.
        allow_pickle : bool, default False
            Also open versions that Vigie did not make, by MLflow's own loader. That runs the
            code of whoever made them.

        Returns
        -------
        TrainedModel or None
            With ``predict``, ``predict_scores`` and ``predict_proba``; None when disabled.

        Raises
        ------
        ModelNotFoundError
            If there is no such model, version or stage.
        ModelRefusedError
            If the version is damaged, or must not be opened.
        TrackingUnavailableError
            If the server is away.
        """
        if not self.enabled:
            return None
        found = registry.pick(self.server, name, stage=stage, version=version)
        try:
            return self.open_version(found)
        except ModelRefusedError:
            if allow_pickle and found.card_sha256 is None:
                return registry.open_foreign(self.server, found)
            raise

    def transition_model_stage(
        self, model_name: str, version: int | str, stage: str
    ) -> Version | None:
        """Move a version to a stage; what was in Staging or Production before is archived.

        The alias of the same name (``@staging``, ``@production``) moves along.

        Returns
        -------
        Version or None
            The version as it is now; None when disabled.

        Raises
        ------
        ModelNotFoundError
            If there is no such model, version or stage.
        TrackingUnavailableError
            If the server is away.
        """
        if not self.enabled:
            return None
        return stages.move(self.server, model_name, version, stage)

    def rollback(self, model_name: str) -> tuple[Version, Version] | None:
        """Put into Production again what served before; return both versions, the old one first.

        Returns
        -------
        tuple of Version or None
            The version that served until now and the one that serves from now on; None when
            disabled.

        Raises
        ------
        ModelNotFoundError
            If nothing is in Production, or nothing was before it.
        """
        if not self.enabled:
            return None
        return stages.rollback(self.server, model_name)

    def get_latest_versions(self, name: str, stages: Sequence[str] | None = None) -> list[Version]:
        """Return the newest version of a model in each stage, newest first.

        Parameters
        ----------
        name : str
            The registered name; one that is not there has no versions.
        stages : sequence of str, optional
            Only these stages.
        """
        if not self.enabled:
            return []
        wanted = {registry.stage_name(stage) for stage in stages} if stages else None
        newest: dict[str, Version] = {}
        for version in registry.versions(self.server, name):
            if wanted is None or version.stage in wanted:
                newest.setdefault(version.stage, version)
        return list(newest.values())

    def list_versions(self, name: str) -> list[Version]:
        """Return all versions of a model, newest first; none where there is no such model."""
        return registry.versions(self.server, name) if self.enabled else []

    def search_runs(
        self,
        filter_string: str = "",
        max_results: int = 100,
        order_by: Sequence[str] | None = None,
    ) -> list[Run]:
        """Return runs of the experiment, newest first.

        Parameters
        ----------
        filter_string : str, optional
            In MLflow's search syntax, such as ``metrics.anomaly_rate < 0.05``.
        max_results : int
            How many at the most.
        order_by : sequence of str, optional
            In MLflow's syntax, such as ``metrics.final_loss ASC``.
        """
        if not self.enabled:
            return []
        where = experiment_id(self.server, self.settings.mlflow_experiment_name)
        found = self.server.call(
            self.server.client.search_runs,
            [where],
            filter_string=filter_string,
            max_results=max_results,
            order_by=list(order_by) if order_by else None,
        )
        return list(found)

    def open_version(self, version: Version) -> TrainedModel:
        """Open the serving form of a version."""
        return registry.open_version(self.server, version, self._cache)

    def open_kept(self, version: Version) -> TrainedModel:
        """Open the serving form of a version from its copy on this machine."""
        return registry.open_kept(version, self._cache)

    def measured(self, version: Version) -> tuple[str | None, dict[str, float]]:
        """Return the name and the metrics of the run that made a version."""
        return registry.measured(self.server, version)

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
        parent = runs.current(self.server.uri)
        if parent is not None and nested:
            parent.holds_training = True
        experiment, address = self.settings.mlflow_experiment_name, self.server.masked_uri
        how = functools.partial(write, record, experiment, parent, self._graphs, address)
        found = self._written(how, f"The training of {record.model_name}")
        if found is None:
            return None
        journal, entry = found
        registered: Future[runs.OpenRun] = Future()

        def note(version: int, run: runs.OpenRun) -> None:
            on_version(version, run.run_id)
            registered.set_result(run)

        content_hash = str(entry.facts()["content_hash"])
        upload = _in_background(record.run_name, self._send, journal, entry, note)
        self._await(registered, upload, time.monotonic() - began)
        if registered.done():
            runs.made(registered.result())
        return content_hash

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
        _uploads.submit(self._look)
        if f"mlflow.{'models' if windows else 'sklearn'}" not in sys.modules:
            _uploads.submit(flavors.take_in, windows)

    @property
    def journal(self) -> Journal:
        """What MLflow may not have yet; it goes to the server that is set when it is sent."""
        return Journal(self.settings.state_dir / "journal")

    def sync(self, on_entry: OnEntry = lambda entry, outcome: None, *, again: bool = False) -> None:
        """Send what is in the journal, and wait for what another process is sending.

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

    def pending(self) -> list[str]:
        """Return what of this process is still on its way, trainings by the run's name."""
        return list(_pending.values())

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until nothing is on its way any more.

        Parameters
        ----------
        timeout : float, optional
            For how long at most, in seconds.

        Returns
        -------
        bool
            Whether all has arrived, or has failed and been logged.
        """
        return not wait(list(_pending), timeout).not_done

    def _open(
        self, run_name: str | None, parent: runs.OpenRun | None, *, ended: bool = False
    ) -> tuple[runs.OpenRun | None, Run | None]:
        """Create a run; where the server does not, have the journal create it later."""
        name, uri = new_name(), self.server.uri
        facts = notes.opening(self.settings.mlflow_experiment_name, run_name, parent, ended=ended)
        made, kept = self._at_once_or_kept(
            name, facts, parent, lambda: notes.open_run(self.server, name, facts)
        )
        if made is not None:
            return runs.OpenRun(uri, made.info.experiment_id, made.info.run_id), made
        return (runs.OpenRun(uri, "", "", entry=name) if kept else None), None

    def _record(self, run: runs.OpenRun | None, **what: Any) -> None:
        """Record values, or the end, of a run: at once, or by the journal."""
        if run is not None:
            facts = notes.values(self.settings.mlflow_experiment_name, run, **what)
            self._at_once_or_kept(new_name(), facts, run, lambda: notes.record(self.server, facts))

    def _at_once_or_kept(
        self, name: str, facts: dict[str, Any], run: runs.OpenRun | None, send: Callable[[], T]
    ) -> tuple[T | None, bool]:
        """Send what was recorded by hand; return what comes of it, or whether it is kept.

        Parameters
        ----------
        name, facts : str and dict
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
            logger.error("Not recorded in MLflow: %s. %s", facts["what"], error)
            return None, False
        except TrackingError as error:
            self.server.log_refusal(error, f"Not recorded in MLflow yet: {facts['what']}.")
        try:
            self.journal.write(functools.partial(notes.write, facts, unanswered), name).release()
        except OSError as error:
            logger.error(
                "Lost, for the journal cannot be written (%s): %s. Set VIGIE_STATE_DIR to a folder "
                "that can be written.",
                error,
                facts["what"],
            )
            return None, False
        return None, True

    def _written(
        self, write: Callable[[Path, str], dict[str, Any]], what: str
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
            facts = entry.facts()
            into = facts.get("parent") or facts.get("run")
            if into and into["entry"]:
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
        patience = self.settings.tracking_patience_s
        left = max(patience - spent_s, SERVERS_SHARE * patience) if self.server.is_remote else None
        wait([registered, upload], timeout=left, return_when=FIRST_COMPLETED)
        if not registered.done() and not upload.done():
            logger.warning(
                "The MLflow server at %s has not taken all of it after %.1f s; the training goes "
                "on, and its record is completed in the background.",
                self.server.masked_uri,
                left,
            )

    @property
    def _cache(self) -> Path:
        return self.settings.state_dir / "models"

    @property
    def _graphs(self) -> Path:
        return self.settings.state_dir / "networks"

    def _target(self) -> runs.OpenRun | None:
        """Return the run that a value without a run goes to; None if none can be made or kept."""
        run = runs.current(self.server.uri) or runs.last(self.server.uri)
        if run is None:
            run, _ = self._open("custom_metrics", None, ended=True)
            if run is not None:
                runs.made(run)
        return run


def _in_background(what: str, function: Callable[..., None], *arguments: Any) -> Future[None]:
    """Have something sent by another thread, which the exit of the interpreter waits for."""
    upload = _uploads.submit(copy_context().run, function, *arguments)
    _pending[upload] = what
    upload.add_done_callback(lambda done: _pending.pop(done, None))
    return upload


def _finish() -> None:
    """Wait for what is on its way, lest anything be left when the program ends."""
    while _pending:
        wait(list(_pending))


# Before the interpreter joins threads: by then it starts no others, which drawing figures and
# uploading take. There is no public way to be asked that early (python/cpython#86813).
threading._register_atexit(_finish)  # type: ignore[attr-defined]


def _kept_in(journal: Journal) -> str:
    return f" What is recorded is kept in {journal.folder} until it is there."
