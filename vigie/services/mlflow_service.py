"""MLflowService: the guide's access to MLflow.

If the server does not answer, methods that *record* (``start_run``, ``log_...``, ``end_run``) log
one error, leave the record in the outbox and return, so that no training fails for its record.
Methods that *query* (``load_model``, ``transition_model_stage``, ``get_latest_versions``,
``search_runs``) raise. With ``MLFLOW_ENABLED=false`` all do nothing, and MLflow is not imported.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigie.config import Settings
from vigie.detectors.trained import TrainedModel
from vigie.errors import InvalidDataError, ModelRefusedError
from vigie.registry import cache, history, lookup, pages, stages
from vigie.registry.history import Move
from vigie.registry.server import Server
from vigie.registry.version import Version, stage_name
from vigie.tracking import background, flavors
from vigie.tracking.outbox import Outbox
from vigie.tracking.publish import experiment_id
from vigie.tracking.recorder import Recorder
from vigie.tracking.sync import OnEntry

if TYPE_CHECKING:
    from mlflow.entities import Run


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

    @cached_property
    def recorder(self) -> Recorder:
        """The recorder of manual records and trainings."""
        return Recorder(self.settings)

    @property
    def server(self) -> Server:
        """The server as this process sees it; shared by all services with the same URI."""
        return self.recorder.server

    def start_run(self, run_name: str | None = None) -> Run | None:
        """Open a run for this thread or task, nested in its open run, if any.

        Parameters
        ----------
        run_name : str, optional
            By default MLflow generates one.

        Returns
        -------
        mlflow.entities.Run or None
            The run; None if tracking is disabled, or if the server does not answer: then the run
            and its contents go to the outbox.
        """
        return self.recorder.start_run(run_name)

    def end_run(self, status: str = "FINISHED") -> None:
        """Close the run that this thread or task opened last; without one, do nothing.

        Parameters
        ----------
        status : {'FINISHED', 'FAILED', 'KILLED'}
            How it ended.
        """
        self.recorder.end_run(status)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters to the open run, the last one, or a new one."""
        if self.enabled:
            entries = {str(name): str(value) for name, value in params.items()}
            self.recorder.record_values(params=entries)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics to the open run, else to the last run of this thread, else to a new one.

        Parameters
        ----------
        metrics : mapping of str to float
            Values by name.
        step : int, optional
            The epoch or other step of the values.

        Raises
        ------
        InvalidDataError
            If a value is not a number.
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
        self.recorder.record_values(metrics=entries)

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
            Folder in the run's artifacts.
        registered_model_name : str, optional
            Registers the model as a new version of this name.
        signature, input_example : optional
            See MLflow's ``log_model``.

        Returns
        -------
        int or None
            The version, if one has been registered.
        """

        def write(folder: Path, run_id: str) -> None:
            flavors.write_estimator(
                model, folder, run_id, signature=signature, input_example=input_example
            )

        return self.recorder.record_model(write, artifact_path, registered_model_name)

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
            'Production' or 'Staging': the newest version in this stage.
        version : int, optional
            This version. With neither, the version that serves: the newest in Production, or
            the newest of all.
        allow_pickle : bool, default False
            Also open versions that Vigie did not make, with MLflow's loader. That may run any code
            that their author put there.

        Returns
        -------
        TrainedModel or None
            With ``predict``, ``predict_scores`` and ``predict_proba``; None if tracking is
            disabled.

        Raises
        ------
        ModelNotFoundError
            If there is no such model, version or stage.
        ModelRefusedError
            If the version is damaged, or must not be opened.
        TrackingUnavailableError
            If the server does not answer.
        """
        if not self.enabled:
            return None
        picked = lookup.pick(self.server, name, stage=stage, version=version)
        try:
            return self.open_version(picked)
        except ModelRefusedError:
            if allow_pickle and picked.card_sha256 is None:
                return cache.open_foreign(self.server, picked)
            raise

    def transition_model_stage(
        self,
        model_name: str,
        version: int | str,
        stage: str,
        *,
        reason: str | None = None,
        by: str | None = None,
        compared: str | None = None,
    ) -> Version | None:
        """Move a version to a stage; the previous one in Staging or Production is archived.

        The alias of the same name (``@staging``, ``@production``) moves with it.

        Parameters
        ----------
        model_name, version, stage
            The registered name, the version, and 'Production', 'Staging', 'Archived' or 'None'.
        reason : str, optional
            Why, for the history of the model; at most 1000 characters.
        by : str, optional
            Who; by default the user who runs this process.
        compared : str, optional
            What a comparison with the version before says; it follows the reason.

        Returns
        -------
        Version or None
            The version after the move; None if tracking is disabled.

        Raises
        ------
        ModelNotFoundError
            If there is no such model, version or stage.
        InvalidDataError
            If the reason is no text, or too long.
        TrackingUnavailableError
            If the server does not answer.
        """
        if not self.enabled:
            return None
        why = history.because(by or history.user(), reason, compared)
        return stages.move(self.server, model_name, version, stage, why=why)[1]

    def rollback(
        self, model_name: str, *, reason: str | None = None, by: str | None = None
    ) -> tuple[Version, Version] | None:
        """Promote the version that was in Production before the current one.

        Parameters
        ----------
        model_name : str
            The registered name.
        reason, by : str, optional
            See ``transition_model_stage``.

        Returns
        -------
        tuple of Version or None
            The version that was rolled back and the one now in Production; None if tracking is
            disabled.

        Raises
        ------
        ModelNotFoundError
            If no version is in Production, or none was before it.
        """
        if not self.enabled:
            return None
        return stages.rollback(
            self.server, model_name, history.because(by or history.user(), reason)
        )

    def history(self, name: str) -> list[Move]:
        """Return the moves of a model's versions between stages, newest first.

        An unknown name has none, as has every name if tracking is disabled.
        """
        return history.of(self.list_versions(name))

    def get_latest_versions(self, name: str, stages: Sequence[str] | None = None) -> list[Version]:
        """Return the newest version of a model in each stage, newest first.

        Parameters
        ----------
        name : str
            The registered name; an unknown one has no versions.
        stages : sequence of str, optional
            Only these stages.
        """
        if not self.enabled:
            return []
        wanted = {stage_name(stage) for stage in stages} if stages else None
        newest: dict[str, Version] = {}
        for version in lookup.versions(self.server, name):
            if wanted is None or version.stage in wanted:
                newest.setdefault(version.stage, version)
        return list(newest.values())

    def list_versions(self, name: str) -> list[Version]:
        """Return all versions of a model, newest first; none if there is no such model."""
        return lookup.versions(self.server, name) if self.enabled else []

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
            Most runs to return.
        order_by : sequence of str, optional
            In MLflow's syntax, such as ``metrics.final_loss ASC``.
        """
        if not self.enabled:
            return []
        experiment = experiment_id(self.server, self.settings.mlflow_experiment_name)
        runs = self.server.call(
            self.server.client.search_runs,
            [experiment],
            filter_string=filter_string,
            max_results=max_results,
            order_by=list(order_by) if order_by else None,
        )
        return list(runs)

    def open_version(self, version: Version) -> TrainedModel:
        """Open the serving form of a version."""
        return cache.open_version(self.server, version, self.settings.model_cache)

    def open_cached(self, version: Version) -> TrainedModel:
        """Open the serving form of a version from the local cache."""
        return cache.open_cached(version, self.settings.model_cache)

    def run_metrics(self, version: Version) -> tuple[str | None, dict[str, float]]:
        """Return the name and the metrics of a version's run."""
        return lookup.run_metrics(self.server, version)

    def run_params(self, version: Version) -> dict[str, str]:
        """Return the parameters of a version's run; none if the run no longer exists."""
        return lookup.run_params(self.server, version)

    def run_page(self, run_id: str) -> str | None:
        """Return the address of MLflow's page of a run; None if the store has no pages.

        Raises
        ------
        TrackingError
            If the server does not answer.
        """
        if not self.enabled or not self.server.is_remote:
            return None
        run = self.server.call(self.server.client.get_run, run_id)
        return pages.run_page(self.server.uri, run.info.experiment_id, run_id)

    @property
    def outbox(self) -> Outbox:
        """The records to be sent; they go to the server that is configured at that time."""
        return self.recorder.outbox

    def sync(self, on_entry: OnEntry | None = None, *, again: bool = False) -> None:
        """Send the outbox, and wait for entries that another process is sending.

        See ``vigie.tracking.sync.sync``.

        Raises
        ------
        TrackingUnavailableError
            If the server does not answer.
        """
        self.recorder.sync(on_entry, again=again)

    def pending(self) -> list[str]:
        """Return the unfinished uploads of this process, trainings by run name."""
        return background.pending()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all uploads have finished.

        Parameters
        ----------
        timeout : float, optional
            How long to wait, in seconds; by default without limit.

        Returns
        -------
        bool
            Whether all have finished; a failed upload has been logged, and counts as finished.
        """
        return background.flush(timeout)
