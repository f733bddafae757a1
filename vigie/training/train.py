"""Training as a function: from healthy rows to a calibrated model and its record."""

from __future__ import annotations

import functools
import logging
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any

import numpy as np

from vigie import __version__
from vigie.assessment.false_alarms import FEWEST_ROWS, too_short
from vigie.assessment.status import OF_AVERAGES, OF_CHANGES, OF_FORECASTS
from vigie.assessment.timeline import Times
from vigie.config import Settings
from vigie.detectors import training
from vigie.detectors.base import Algorithm, Epoch, Floats, Params, Progress, no_progress
from vigie.detectors.catalogue import algorithm, algorithms
from vigie.detectors.data.matrices import Table
from vigie.detectors.power import AlarmLimits
from vigie.detectors.trained import OPTIONAL_PER_SENSOR, TrainedModel
from vigie.errors import InvalidDataError, VigieError
from vigie.faults import nearest
from vigie.registry.scopes import EVERYTHING, SCOPE, registered_name
from vigie.registry.version import stage_name
from vigie.serving.served import Served
from vigie.tables.file_form import FileForm
from vigie.tracking.publish import TrainingRecord
from vigie.tracking.recorder import Recorder
from vigie.training.messages import Failed, Trained

logger = logging.getLogger(__name__)

LONGEST_MESSAGE = 300
"""Characters of a message about a hyper-parameter, which quotes its value."""
Note = Callable[..., None]
"""Called with a ``TrainedModel`` and, as keywords, the new values of fields of ``Served``."""


class Training:
    """A model that was just trained, and its version, which is set while it is recorded.

    Parameters
    ----------
    record : TrainingRecord
        Of the training.
    on_note : callable
        Called with each update; see ``Note``.
    """

    def __init__(self, record: TrainingRecord, on_note: Note):
        self.name = record.model.algorithm
        self._metrics, self._on_note = metrics_of(record), on_note
        self._served = Served(record.model)
        self._changing = threading.Lock()

    @property
    def served(self) -> Served:
        """The model, with its version as soon as it has one."""
        return self._served

    @property
    def outcome(self) -> Trained:
        """The message for the service, without the model."""
        served = self._served
        return Trained(self.name, self._metrics, served.version, served.run_id, served.card_sha256)

    def note(self, **facts: Any) -> None:
        """Set fields of ``served``."""
        with self._changing:
            self._served = replace(self._served, **facts)
        self._on_note(self._served.model, **facts)


def train(
    algorithm: Algorithm,
    table: Table,
    settings: Settings,
    recorder: Recorder,
    *,
    name: str | None = None,
    scope: str = EVERYTHING,
    params: Params | None = None,
    threshold: float | None = None,
    stage: str | None = None,
    source: Mapping[str, Any] | None = None,
    times: Times | None = None,
    file_form: FileForm | None = None,
    progress: Progress = no_progress,
) -> TrainingRecord:
    """Fit and calibrate a model, and compute its metrics on the training rows.

    Parameters
    ----------
    algorithm : Algorithm
        Of the catalogue.
    table : Table
        Healthy rows, checked.
    settings : Settings
        The calibration settings and the seed; see ``settings_for``.
    recorder : Recorder
        Prepared for the record here; the caller records with ``keep_record``.
    name : str, optional
        The registered name; by default that of the algorithm and the scope.
    scope : str, optional
        The asset for which the model answers; by default every one.
    params : mapping, optional
        The hyper-parameters; by default those of the settings.
    threshold : float in (0, 1), optional
        The score above which a reading is an anomaly; by default ``1 - contamination``.
    stage : {'Staging', 'Production'}, optional
        The stage to which the version is moved.
    source : mapping, optional
        What was understood of the file with the rows, as JSON-compatible values.
    times : ndarray of datetime64 of shape (n_samples,), optional
        When the rows were measured, in UTC.
    file_form : FileForm, optional
        How the file with the rows writes dates and units.
    progress : callable, optional
        Called with the current step and the share of it that is complete.

    Raises
    ------
    InvalidDataError
        If the rows are too few.
    ModelNotFoundError
        If there is no such stage.
    """
    started_ms, started = round(time.time() * 1000), time.perf_counter()
    stage = None if stage is None else stage_name(stage)
    params = parameters(algorithm, settings) if params is None else params
    detector = algorithm.new_detector(params, settings.random_state)
    # Only now, since the detector has imported its libraries: two threads must not do that at once.
    recorder.prepare(algorithm.flavor)
    model = training.train(
        detector,
        table,
        threshold=1.0 - params["contamination"] if threshold is None else threshold,
        folds=settings.calibration_folds,
        time_ordered=settings.time_ordered,
        random_state=settings.random_state,
        trend_window=settings.trend_window,
        limits=alarm_limits(params["contamination"]),
        progress=progress,
    )
    if file_form is not None:
        model = replace(model, file_form=file_form.of(model.feature_names))
    raw = model.raw_scores_of_rows(table.values)
    scores = 1.0 - model.calibration.p_value(raw)
    metrics = _metrics(model, raw, scores)
    if settings.time_ordered:
        metrics["slow_share"] = table.slow_share
    metrics["training_seconds"] = time.perf_counter() - started
    return TrainingRecord(
        model_name=name or registered_name(algorithm.name, scope),
        model=model,
        X=table.values,
        scores=scores,
        quality=table.quality,
        params=_logged(algorithm, params, model, settings),
        metrics=metrics,
        tags=_tags(model, scope),
        stage=stage,
        started_ms=started_ms,
        ended_ms=round(time.time() * 1000),
        source=source,
        times=times,
    )


def keep_record(
    recorder: Recorder, training: TrainingRecord, note: Callable[..., None], *, nested: bool
) -> None:
    """Record a training.

    Parameters
    ----------
    recorder : Recorder
        Records it.
    training : TrainingRecord
        What to record.
    note : callable
        Called with new values of fields of ``Served``, possibly from other threads.
    nested : bool
        Record in a nested run even if the open run holds no training yet.
    """
    card_sha256 = recorder.record_training(
        training,
        nested=nested,
        on_version=lambda version, run_id: note(version=version, run_id=run_id),
    )
    note(card_sha256=card_sha256)


def train_each(
    names: Sequence[str],
    table: Table,
    settings: Settings,
    recorder: Recorder,
    *,
    scope: str = EVERYTHING,
    stage: str | None = None,
    source: Mapping[str, Any] | None = None,
    times: Times | None = None,
    file_form: FileForm | None = None,
    given: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    progress: Progress = no_progress,
    on_note: Note = lambda model, **facts: None,
) -> Iterator[Training | Failed]:
    """Train and record detectors one after the other; one that fails does not stop the others.

    Parameters
    ----------
    names : sequence of str
        In the catalogue.
    table : Table
        Healthy rows, checked.
    settings : Settings
        Of the trainings.
    recorder : Recorder
        Records them.
    scope : str, optional
        The asset whose rows these are, if its models answer for it alone.
    stage : {'Staging', 'Production'}, optional
        The stage to which each version is moved.
    source : mapping, optional
        What was understood of the file with the rows; it goes into each run.
    times : ndarray of datetime64 of shape (n_samples,), optional
        When the rows were measured, in UTC.
    file_form : FileForm, optional
        How the file with the rows writes dates and units.
    given : mapping, optional
        Contamination and hyper-parameters by detector, as ``checked_parameters`` returns them.
    progress : callable, optional
        Called with the current step and the share of it that is complete.
    on_note : callable, optional
        Called with each update of a model's version; see ``Note``.

    Yields
    ------
    Training or Failed
        For each name, as soon as it is trained and recorded.
    """
    if short := too_short(settings.false_alarms_per_month, len(table.values)):
        logger.warning("%s", short)
    costs = [algorithm(name).relative_cost for name in names]
    for number, name in enumerate(names):
        part = _part(progress, name, sum(costs[:number]), costs[number], sum(costs))
        try:
            entry = algorithm(name)
            own = settings_for(entry, settings, given.get(name))
            fitted = train(
                entry,
                table,
                own,
                recorder,
                scope=scope,
                stage=stage,
                source=source,
                times=times,
                file_form=file_form,
                progress=part,
            )
            part("recording", 1.0)
            training = Training(fitted, on_note)
            keep_record(recorder, fitted, training.note, nested=len(names) > 1)
        except VigieError as error:
            logger.error("%s was not trained. %s", name, error, extra={"model": name})
            yield Failed(name, str(error))
        except Exception:
            # A library may raise anything; that must not stop the other detectors.
            incident = uuid.uuid4().hex
            logger.exception(
                "%s was not trained. Incident %s", name, incident, extra={"model": name}
            )
            message = f"Internal error; the data is not at fault. See the log, incident {incident}."
            yield Failed(name, message)
        else:
            yield training


def checked_parameters(
    names: Sequence[str],
    settings: Settings,
    contamination: float | None = None,
    parameters: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    field: str = "parameters",
) -> dict[str, dict[str, Any]]:
    """Check what is given for one training; return it by detector, for ``train_each``.

    Parameters
    ----------
    names : sequence of str
        The detectors to train.
    settings : Settings
        The defaults.
    contamination : float, optional
        Of all of them.
    parameters : mapping of str to mapping, optional
        Hyper-parameters by detector.
    field : str, optional
        The argument with the parameters; empty if each is one by itself.

    Raises
    ------
    InvalidDataError
        If a name is unknown, or a value is out of range; its field is the place of the fault.
    """
    prefix = f"{field}." if field else ""
    for detector, values in parameters.items():
        place = f"{prefix}{detector}"
        if detector not in names:
            if detector in algorithms():
                raise InvalidDataError(
                    f"{detector} is not trained here.",
                    field=place,
                    remedy="Name it in model_names too, or leave its parameters out.",
                )
            raise InvalidDataError(
                f"There is no detector {detector!r}.", field=place, remedy=nearest(detector, names)
            )
        known = algorithm(detector).own_parameters
        for name, value in values.items():
            if isinstance(value, bool):
                raise InvalidDataError(
                    f"A number or a word is expected, but it is {str(value).lower()}.",
                    field=f"{place}.{name}",
                    remedy=_see_range(detector),
                )
            if name not in known:
                raise InvalidDataError(
                    f"{detector} has no parameter {name!r}.",
                    field=f"{place}.{name}",
                    remedy="Give contamination beside parameters, for all detectors."
                    if name == "contamination"
                    else nearest(name, known),
                )
    given = {}
    for detector in names:
        given[detector] = dict(parameters.get(detector, {}))
        if contamination is not None:
            given[detector]["contamination"] = contamination
        try:
            own = settings_for(algorithm(detector), settings, given[detector])
        except InvalidDataError as error:
            if error.field in parameters.get(detector, {}):
                error.field = f"{prefix}{detector}.{error.field}"
                error.remedy = _see_range(detector)
            if len(error.message) > LONGEST_MESSAGE:
                error.message = f"{error.message[:LONGEST_MESSAGE]}..."
            raise
        # As they are used: numbers in an address are text.
        given[detector] = {name: getattr(own, name) for name in given[detector]}
    return given


def _see_range(detector: str) -> str:
    return f"See the settings of {detector} in the reference for its range."


def as_given(given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the hyper-parameters that ``checked_parameters`` returned, as JSON has them."""
    return {
        detector: {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if name != "contamination"
        }
        for detector, values in given.items()
        if values.keys() - {"contamination"}
    }


def require_rows(
    names: Sequence[str],
    n_rows: int,
    settings: Settings,
    given: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Check that there are rows enough to train one of the detectors.

    Raises
    ------
    InvalidDataError
        If there are too few for each of them.
    """
    fewest = []
    for name in names:
        entry = algorithm(name)
        params = parameters(entry, settings_for(entry, settings, given.get(name)))
        fewest.append(training.fewest_rows(entry.new_detector(params, settings.random_state)))
        if n_rows >= fewest[-1]:
            return
    raise InvalidDataError(
        f"{n_rows} {'row is' if n_rows == 1 else 'rows are'} too few.",
        field="data",
        remedy=f"Give at least {min(fewest)}, better {FEWEST_ROWS}.",
    )


def settings_for(
    algorithm: Algorithm, settings: Settings | None = None, given: Mapping[str, Any] | None = None
) -> Settings:
    """Return settings that have a field for each hyper-parameter of an algorithm.

    Parameters
    ----------
    algorithm : Algorithm
        Of the catalogue.
    settings : Settings, optional
        Defaults; read from the environment and ``.env`` if not given.
    given : mapping, optional
        Hyper-parameters that override them, unless they are None.

    Raises
    ------
    InvalidDataError
        If one of them is out of range.
    """
    kind = Settings if algorithm.settings is None else resolve_name(algorithm.settings)
    overrides = {name: value for name, value in (given or {}).items() if value is not None}
    if settings is not None and not overrides and isinstance(settings, kind):
        return settings
    defaults = {} if settings is None else settings.model_dump()
    try:
        return kind(**{**defaults, **overrides})
    except InvalidDataError as error:
        argument = {kind.variable(name): name for name in overrides}.get(error.field or "")
        raise InvalidDataError(
            error.message,
            field=argument or error.field,
            remedy="See the hyper-parameters of `Settings`.",
        ) from None


def parameters(algorithm: Algorithm, settings: Settings) -> dict[str, Any]:
    """Return the hyper-parameters of an algorithm, with the contamination, from settings."""
    values = {name: getattr(settings, name) for name in (*algorithm.parameters, "contamination")}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }


def alarm_limits(contamination: float) -> AlarmLimits:
    """Return the p-values below which a model raises an alarm if no other model serves."""
    changed, changed_anew = OF_CHANGES.at(contamination)
    return AlarmLimits(
        averages=OF_AVERAGES.at(contamination)[1],
        forecasts=OF_FORECASTS.at(contamination)[1],
        changes=changed,
        changes_from_drift=changed_anew,
    )


def metrics_of(record: TrainingRecord) -> dict[str, Any]:
    """Return all metrics of a training, and two counts that MLflow has as parameters."""
    model = record.model
    return {"n_samples": model.n_samples, "n_features": model.n_features, **record.metrics}


def _metrics(model: TrainedModel, raw: Floats, scores: Floats) -> dict[str, Any]:
    anomalies = int((scores > model.threshold).sum())
    metrics: dict[str, Any] = {
        "n_anomalies_detected": anomalies,
        "anomaly_rate": anomalies / len(scores),
        "mean_score": float(scores.mean()),
        "std_score": float(scores.std()),
        "threshold": model.threshold,
    }
    metrics |= _detectable_steps(model)
    if model.reconstructs:
        metrics["n_sequences"] = model.n_samples - model.window + 1
        if model.loss_by_epoch:
            metrics["final_loss"] = float(model.loss_by_epoch[-1])
        metrics |= {
            "mean_reconstruction_error": float(raw.mean()),
            "reconstruction_error_threshold": float(
                model.calibration.raw_threshold(1.0 - model.threshold)
            ),
        }
    return metrics


def _detectable_steps(model: TrainedModel) -> dict[str, float]:
    """Return the median over the sensors of the smallest steps, in usual ranges of each.

    A median is left out if it is infinite, which MLflow's databases do not all hold.
    """
    medians = {}
    for name in OPTIONAL_PER_SENSOR:
        steps = getattr(model, name)
        if steps is None:
            continue
        measured = ~np.isnan(steps)
        if measured.any():
            widths = (model.high - model.low)[measured]
            median = float(np.percentile(steps[measured] / widths, 50.0, method="higher"))
            if np.isfinite(median):
                medians[name.replace("smallest", "detectable")] = median
    return medians


def _logged(
    algorithm: Algorithm, params: Params, model: TrainedModel, settings: Settings
) -> dict[str, Any]:
    return {
        **{name: params[name] for name in algorithm.parameters},
        "contamination": params["contamination"],
        "threshold": model.threshold,
        "n_samples": model.n_samples,
        "n_features": model.n_features,
        "calibration_folds": settings.calibration_folds,
        "time_ordered": settings.time_ordered,
        "calibrated_on": model.params["calibrated_on"],
        "trend_window": settings.trend_window,
        "random_state": settings.random_state,
        **algorithm.details(model.params, model.n_samples),
        **({"context_features": sorted(model.context_names)} if model.context else {}),
    }


def _tags(model: TrainedModel, scope: str) -> dict[str, str]:
    tags = {
        "vigie.version": __version__,
        "vigie.algorithm": model.algorithm,
        "vigie.data_fingerprint": model.data_fingerprint,
    }
    if scope != EVERYTHING:
        tags[SCOPE] = scope
    if commit := _git_commit():
        tags["mlflow.source.git.commit"] = commit
    return tags


@functools.lru_cache
def _git_commit() -> str | None:
    """Return the commit of the working directory, if it is a git checkout."""
    try:
        process = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() or None


def _part(progress: Progress, name: str, before: float, cost: float, total: float) -> Progress:
    def report(step: str, share: float, epoch: Epoch | None = None, /) -> None:
        progress(f"{name}: {step}", (before + cost * share) / total, epoch)

    return report
