"""MLflowService: the guide's window on MLflow.

Two kinds of methods, two manners when the server is away. What *records* (``start_run``,
``log_...``, ``end_run``) logs one error, leaves the record to the journal and returns, because no
training may fail for its record. What *asks* (``load_model``, ``transition_model_stage``,
``get_latest_versions``, ``search_runs``) raises, because there is no answer. With
``MLFLOW_ENABLED=false`` both return at once without effect, and MLflow is not even imported.
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
from vigie.registry import cache, lookup, stages
from vigie.registry.server import Server
from vigie.registry.version import Version, stage_name
from vigie.tracking import background, flavors
from vigie.tracking.outbox import Journal
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
        """What records, for trainings too."""
        return Recorder(self.settings)

    @property
    def server(self) -> Server:
        """The server as this process sees it; shared by all services with the same URI."""
        return self.recorder.server

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
        return self.recorder.start_run(run_name) if self.enabled else None

    def end_run(self, status: str = "FINISHED") -> None:
        """Close the run that this thread or task opened last; without one, do nothing.

        Parameters
        ----------
        status : {'FINISHED', 'FAILED', 'KILLED'}
            How it ended.
        """
        if self.enabled:
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
        if not self.enabled:
            return None

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
        found = lookup.pick(self.server, name, stage=stage, version=version)
        try:
            return self.open_version(found)
        except ModelRefusedError:
            if allow_pickle and found.card_sha256 is None:
                return cache.open_foreign(self.server, found)
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
        wanted = {stage_name(stage) for stage in stages} if stages else None
        newest: dict[str, Version] = {}
        for version in lookup.versions(self.server, name):
            if wanted is None or version.stage in wanted:
                newest.setdefault(version.stage, version)
        return list(newest.values())

    def list_versions(self, name: str) -> list[Version]:
        """Return all versions of a model, newest first; none where there is no such model."""
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
        return cache.open_version(self.server, version, self._cache)

    def open_kept(self, version: Version) -> TrainedModel:
        """Open the serving form of a version from its copy on this machine."""
        return cache.open_kept(version, self._cache)

    def measured(self, version: Version) -> tuple[str | None, dict[str, float]]:
        """Return the name and the metrics of the run that made a version."""
        return lookup.measured(self.server, version)

    @property
    def journal(self) -> Journal:
        """What MLflow may not have yet; it goes to the server that is set when it is sent."""
        return self.recorder.journal

    def sync(self, on_entry: OnEntry = lambda entry, outcome: None, *, again: bool = False) -> None:
        """Send what is in the journal, and wait for what another process is sending.

        See ``vigie.tracking.sync.sync``.

        Raises
        ------
        TrackingUnavailableError
            If the server does not answer.
        """
        if self.enabled:
            self.recorder.sync(on_entry, again=again)

    def pending(self) -> list[str]:
        """Return what of this process is still on its way, trainings by the run's name."""
        return background.pending()

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
        return background.flush(timeout)

    @property
    def _cache(self) -> Path:
        return self.settings.state_dir / "models"
