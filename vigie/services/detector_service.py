"""The base service of one detector: train, record, predict, load another version."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from vigie.config import Settings
from vigie.detectors.base import Detector, Floats, in_words
from vigie.detectors.catalogue import algorithm
from vigie.detectors.data.context import as_word
from vigie.detectors.data.matrices import as_row, training_table
from vigie.detectors.trained import TrainedModel
from vigie.errors import InvalidDataError, NotTrainedError
from vigie.faults import nearest
from vigie.registry import lookup
from vigie.registry.version import Version
from vigie.services.mlflow_service import MLflowService
from vigie.serving import saved
from vigie.serving.follower import open_served
from vigie.serving.served import Served
from vigie.training.train import keep_record, metrics_of, parameters, settings_for, train

logger = logging.getLogger(__name__)


class DetectorService:
    """Train one kind of detector, predict with it, and record every training in MLflow.

    A subclass defines ``name`` and a constructor with the hyper-parameters as arguments; for other
    algorithms of the catalogue, use ``new_service``. Each hyper-parameter is an attribute; by
    default its value comes from the settings.

    It is also an outlier detector in the manner of scikit-learn: ``fit``, ``get_params``,
    ``set_params``, ``score_samples`` (lower is more unusual, as there) and ``clone``. As in PyOD,
    and unlike scikit-learn, ``predict`` returns 1 for an anomaly and 0 for a usual row. It can be
    pickled and copied; a pickle holds the settings, with the passwords in them, so give others
    what ``save`` writes.

    Attributes
    ----------
    algorithm : Algorithm
        The catalogue's entry.
    is_trained : bool
        Whether there is a model.
    model : object or None
        The fitted estimator of the library (PyOD, PyTorch); after ``load`` the ``TrainedModel``,
        since opening a version does not unpickle the estimator; None without a model.
    feature_names : list of str or None
        The columns, in order; None without a model.
    threshold : float
        A score above it is an anomaly: ``1 - contamination`` unless set.
    """

    name: str
    """Registered name."""
    algorithm_name: str = ""
    """Name in the catalogue; by default the registered name."""

    contamination: float

    def __init__(
        self,
        given: Mapping[str, Any],
        settings: Settings | None = None,
        mlflow_service: MLflowService | None = None,
        *,
        name: str | None = None,
    ):
        self.name = name or self.name
        self.algorithm = algorithm(self.algorithm_name or self.name)
        self.settings = settings_for(self.algorithm, settings, given)
        for hyper_parameter, value in parameters(self.algorithm, self.settings).items():
            setattr(self, hyper_parameter, value)
        self.mlflow_service = mlflow_service or MLflowService(self.settings)
        self._served: Served | None = None
        self._changing = threading.Lock()
        self._threshold: float | None = None

    def new_detector(self) -> Detector:
        """Return an untrained detector with this service's hyper-parameters."""
        return self.algorithm.new_detector(self._params, self.settings.random_state)

    @property
    def is_trained(self) -> bool:
        return self._served is not None

    @property
    def served(self) -> Served | None:
        """The model, with its version and stage; None without one."""
        return self._served

    @property
    def model(self) -> Any:
        if self._served is None:
            return None
        trained = self._served.model
        return trained if trained.estimator is None else trained.estimator

    @property
    def feature_names(self) -> list[str] | None:
        return list(self._served.model.feature_names) if self._served else None

    @property
    def threshold(self) -> float:
        if self._served is not None:
            return self._served.model.threshold
        return 1.0 - self.contamination if self._threshold is None else self._threshold

    def train(
        self,
        X: Any,
        feature_names: Sequence[Any] | None = None,
        *,
        context_features: Sequence[str] = (),
        nested: bool = False,
        stage: str | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> dict[str, Any]:
        """Train on healthy rows, record the run, and register a new version.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Readings of healthy operation, in time order (or see ``time_ordered`` in the
            settings). Of a DataFrame, columns with times are no features; rows with the newest
            time first are turned round.
        feature_names : sequence of str, optional
            Names of the columns; a DataFrame brings its own. By default ``feature_1`` ...
        context_features : sequence of str, optional
            Columns that say how the machine is run, with numbers or words. The sensors are judged
            given these, and need not be usual by themselves.
        nested : bool, default False
            Record in a nested run even if the open run holds no training yet.
        stage : {'Staging', 'Production'}, optional
            The stage to which the version is moved once it is registered, possibly later.
        progress : callable, optional
            Called with the current step and the share of it that is complete.

        Returns
        -------
        dict
            ``n_samples``, ``n_features``, ``n_anomalies_detected``, ``anomaly_rate``,
            ``mean_score``, ``std_score``, ``threshold``, ``training_seconds``; where they are
            measured and finite, ``detectable_step_20`` and ``detectable_step_200``; for the LSTM
            autoencoder also ``n_sequences``, ``final_loss``, ``mean_reconstruction_error`` and
            ``reconstruction_error_threshold``.

        Raises
        ------
        InvalidDataError
            If the data cannot be used; the previous model, if any, stays.
        ModelNotFoundError
            If there is no such stage.
        """
        record = train(
            self.algorithm,
            training_table(X, feature_names, self.settings.sensor_ranges, context_features),
            self.settings,
            self.mlflow_service.recorder,
            name=self.name,
            params=self._params,
            threshold=self._threshold,
            stage=stage,
            progress=in_words(progress),
        )
        with self._changing:
            self._served = Served(record.model)
        keep_record(
            self.mlflow_service.recorder, record, partial(self.note, record.model), nested=nested
        )
        return metrics_of(record)

    def fit(self, X: Any, y: None = None, **options: Any) -> Self:
        """Train as with ``train``, whose further arguments it takes, and return the service.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Readings of healthy operation.
        y : None
            Ignored; scikit-learn passes it.
        """
        self.train(X, **options)
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the hyper-parameters by name; ``deep`` changes nothing."""
        return {name: deepcopy(value) for name, value in self._params.items()}

    def set_params(self, **params: Any) -> Self:
        """Set hyper-parameters for the next training, and return the service.

        Raises
        ------
        InvalidDataError
            If there is no such hyper-parameter, or a value is out of range; none is set then.
        """
        present = self.get_params()
        for name in params:
            if name not in present:
                raise InvalidDataError(
                    f"{self.name} has no such hyper-parameter.",
                    field=name,
                    remedy=nearest(name, present),
                )
        settings = settings_for(self.algorithm, self.settings, present | params)
        for name, value in parameters(self.algorithm, settings).items():
            setattr(self, name, value)
        return self

    def score_samples(self, X: Any) -> Floats:
        """Return p for each row of X, shape (n_samples,): the lower, the more unusual.

        The share of healthy readings that are at least as unusual, so ``1 - predict_scores(X)``.
        scikit-learn's detectors have the same orientation.
        """
        return 1.0 - self.predict_scores(X)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return 1 for each anomalous row of X and 0 for the others, shape (n_samples,)."""
        return self._ready().model.predict(X)

    def unseen_context(self, X: Any) -> NDArray[np.bool_]:
        """Return which rows of X are run as training has not seen it, shape (n_samples,).

        These have no verdict: their score is NaN, and their prediction 0.
        """
        return self._ready().model.unseen_context(X)

    def predict_scores(self, X: Any) -> Floats:
        """Return the anomaly score of each row of X, shape (n_samples,), in [0, 1].

        A score of 0.99 means that one healthy reading in a hundred is at least as unusual. NaN for
        a row of ``unseen_context``.
        Models of windows treat the rows of X as consecutive.
        """
        return self._ready().model.predict_scores(X)

    def predict_proba(self, X: Any) -> Floats:
        """Return ``[1 - score, score]`` for each row of X, shape (n_samples, 2)."""
        return self._ready().model.predict_proba(X)

    def detect_anomaly(
        self, features: Mapping[str, Any], threshold: float | None = None
    ) -> dict[str, Any]:
        """Assess one reading.

        Parameters
        ----------
        features : mapping of str to float
            Values by feature name, those of the context too; names that the model does not know
            are ignored.
        threshold : float in [0, 1], optional
            By default the model's.

        Returns
        -------
        dict
            ``score``, ``is_anomaly``, ``threshold`` and ``prediction`` (0 or 1); for the LSTM
            autoencoder also ``reconstruction_error`` and ``window_filled``: the number of earlier
            rows of the window that are copies of the reading. ``sensors`` has, for an anomaly,
            the sensors that explain it, the largest ``share`` first: a list of dicts with
            ``name``, ``share``, ``value``, ``usual``, ``low``, ``high`` and ``direction``, as in
            ``SensorContribution``; otherwise it is empty. Of a model with a context also
            ``unseen``: by name, the values of the context that training has not seen. With any,
            there is no verdict: ``score`` is NaN, and ``prediction`` 0.

        Raises
        ------
        NotTrainedError
            If there is no model yet.
        InvalidDataError
            If a feature is missing or not a finite number.
        """
        model = self._ready().model
        limit = model.threshold if threshold is None else checked_threshold(threshold)
        row = as_row(features, model.feature_names, model.words)
        raw = model.raw_scores(model.examples(row[None]))
        score = float(1.0 - model.calibration.p_value(raw)[0])
        verdict: dict[str, Any] = {
            "score": score,
            "is_anomaly": score > limit,
            "threshold": limit,
            "prediction": int(score > limit),
            "sensors": model.sensors(row) if score > limit else [],
        }
        if model.reconstructs:
            verdict |= {"reconstruction_error": float(raw[0]), "window_filled": model.window - 1}
        if (context := model.context) is not None:
            names = np.compress(context.unseen(row[None])[0], context.columns)
            verdict["unseen"] = {
                model.feature_names[column]: as_word(features[model.feature_names[column]])
                if column in context.words
                else float(row[column])
                for column in names.tolist()
            }
        return verdict

    def get_model_info(self) -> dict[str, Any]:
        """Return the facts of the model, or of the service before training."""
        served = self._served
        params = {name: getattr(self, name) for name in self.algorithm.parameters}
        info: dict[str, Any] = {
            "model_type": self.name,
            "is_trained": self.is_trained,
            "n_features": served.model.n_features if served else None,
            "feature_names": self.feature_names,
            "context_features": served and sorted(served.model.context_names),
            "contamination": self.contamination,
            "threshold": self.threshold,
            **params,
        }
        if served:
            info |= {k: v for k, v in served.model.params.items() if k in info}
            info |= {
                "version": served.version,
                "stage": served.stage,
                "n_samples": served.model.n_samples,
                "data_fingerprint": served.model.data_fingerprint,
                **self.algorithm.details(served.model.params, served.model.n_samples),
            }
        else:
            info |= {"version": None, "stage": None}
        return info

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder, as data without code: arrays and a card.

        ``load(folder=...)`` opens it, and so does ``vigie detect --load FOLDER``.

        Parameters
        ----------
        folder : str or Path
            Created if it does not exist. It may hold models of several algorithms; one of the same
            is replaced.

        Raises
        ------
        NotTrainedError
            If there is no model yet.
        InvalidDataError
            If a file cannot be written.
        """
        saved.save([self._ready().model], Path(folder))

    def load(
        self,
        stage: str | None = None,
        version: int | str | None = None,
        *,
        folder: str | Path | None = None,
    ) -> Version | None:
        """Load a registered version, or what ``save`` has written, in place of the present model.

        Parameters
        ----------
        stage, version : optional
            See ``MLflowService.load_model``.
        folder : str or Path, optional
            A folder of ``save``; nothing in it is executed, and the registry is not asked.

        Returns
        -------
        Version or None
            The version; None from a folder, and when tracking is disabled.

        Raises
        ------
        ModelNotFoundError
            If the registry has no such version.
        ModelRefusedError
            If the model is damaged, or one of another algorithm.
        """
        if folder is not None:
            found = saved.load(Path(folder))
            if self.algorithm.name not in found:
                raise InvalidDataError(
                    f"{folder} has no model of {self.algorithm.name}.",
                    field="folder",
                    remedy=f"It has {', '.join(found)}.",
                )
            with self._changing:
                self._served = found[self.algorithm.name]
            return None
        if not self.mlflow_service.enabled:
            return None
        server = self.mlflow_service.server
        picked = lookup.pick(server, self.name, stage=stage, version=version)
        cache = self.settings.model_cache
        served = open_served(server, cache, self.algorithm.name, picked, self._served)
        with self._changing:
            self._served = served
        return picked

    def __repr__(self) -> str:
        given = [f"{name}={value!r}" for name, value in self._params.items()]
        if type(self) is DetectorService:
            given.insert(0, f"name={self.name!r}")
        state = "not trained"
        if (served := self._served) is not None:
            model = served.model
            n_sensors = model.n_features - len(model.context_names)
            sensors = "1 sensor" if n_sensors == 1 else f"{n_sensors} sensors"
            state = f"trained on {model.n_samples} rows of {sensors}"
            state += "" if served.version is None else f", version {served.version}"
        return f"<{type(self).__name__}({', '.join(given)}): {state}>"

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: all but the connection to MLflow and the estimator."""
        state = {**self.__dict__}
        for name in ("_changing", "mlflow_service", "algorithm"):
            del state[name]
        if (served := self._served) is not None:
            # As after ``load``: the arrays score, and the estimator is for other tools.
            state["_served"] = replace(served, model=replace(served.model, estimator=None))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.algorithm = algorithm(self.algorithm_name or self.name)
        self.mlflow_service = MLflowService(self.settings)
        self._changing = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        # The model is immutable, and the connection to MLflow may be shared.
        shared = {
            name: getattr(self, name)
            for name in ("settings", "algorithm", "mlflow_service", "_served")
        }
        own = {name: value for name, value in self.__getstate__().items() if name not in shared}
        copied.__dict__.update(deepcopy(own, memo) | shared)
        copied._changing = threading.Lock()
        return copied

    def __copy__(self) -> Self:
        return deepcopy(self)

    def __sklearn_clone__(self) -> Self:
        """Return an untrained service with the same hyper-parameters."""
        clone = deepcopy(self)
        clone._served = None
        return clone

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn asks of an estimator, for example as a step of a pipeline."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type="outlier_detector",
            target_tags=TargetTags(required=False),
            input_tags=InputTags(),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return self.is_trained

    def note(self, trained: TrainedModel, **facts: Any) -> None:
        """Set fields of ``served`` for a model, if that is still the present one."""
        with self._changing:
            served = self._served
            if served is not None and served.model is trained:
                self._served = replace(served, **facts)

    @property
    def _params(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*self.algorithm.parameters, "contamination")}

    def _ready(self) -> Served:
        if self._served is None:
            raise NotTrainedError(
                f"The model '{self.name}' is not trained yet.",
                remedy="Call train(X) with healthy rows, or load() a registered version.",
            )
        return self._served


def new_service(
    name: str, settings: Settings | None = None, mlflow_service: MLflowService | None = None
) -> DetectorService:
    """Return an untrained service of an algorithm in the catalogue.

    Raises
    ------
    KeyError
        If the catalogue has no such name.
    """
    return DetectorService({}, settings, mlflow_service, name=name)


def checked_threshold(threshold: Any, within: Literal["[0, 1]", "(0, 1)"] = "[0, 1]") -> float:
    """Return a threshold as a float.

    Raises
    ------
    InvalidDataError
        If it is not a number, or out of range.
    """
    is_number = isinstance(threshold, int | float | np.number) and not isinstance(threshold, bool)
    number = float(threshold) if is_number else float("nan")
    if not 0.0 <= number <= 1.0 or (within == "(0, 1)" and number in (0.0, 1.0)):
        raise InvalidDataError(
            f"{threshold!r} is not a score.",
            field="threshold",
            remedy=f"Give a number in {within}.",
        )
    return number
