"""A trained model: arrays, calibration and a card."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from vigie.detectors import checks
from vigie.detectors.base import Floats
from vigie.detectors.calibration.explanation import Explanation, normalised, shares
from vigie.detectors.calibration.p_values import Calibration
from vigie.detectors.catalogue import algorithm, algorithms
from vigie.detectors.data.context import Context, code_of
from vigie.detectors.data.matrices import as_matrix
from vigie.detectors.data.operating_point import OperatingPoints
from vigie.detectors.scoring import IN_FULL, algorithm_inputs, raw_scores, raw_scores_along
from vigie.errors import InvalidDataError, ModelRefusedError
from vigie.printable import printable
from vigie.tables.file_form import FileForm

logger = logging.getLogger(__name__)

FORMAT = 3
MOST_BYTES = 2 << 30
"""Largest file of a serving form; a larger one is refused unread."""
MOST_CARD = 16 << 20
"""Largest card; Python needs ten times that to parse it."""
CARD, ARRAYS = "card.json", "arrays.safetensors"
PER_SENSOR = ("usual", "low", "high", "magnitude", "frozen_after")
OPTIONAL_PER_SENSOR = ("smallest_step_20", "smallest_step_200")
"""On the card if they were measured."""
OVER_TIME = ("trend", "change")
"""Fields with models of several rows together."""
CONTEXT_ARRAYS = ("center", "owner", "points", "effects", "log_ratios")
ON_CARD = (
    "algorithm",
    "feature_names",
    "window",
    "params",
    "threshold",
    "n_samples",
    "data_fingerprint",
    "libraries",
)


@dataclass(frozen=True)
class TrainedModel:
    """A trained detector; immutable, and independent of the library that fitted it.

    Attributes
    ----------
    algorithm : str
        Name of the algorithm that computes its raw scores.
    feature_names : tuple of str
        The columns, in the order of the rows.
    window : int
        Consecutive rows per score.
    params : dict
        Hyper-parameters.
    threshold : float
        A score above it is an anomaly.
    arrays : mapping of str to ndarray
        Input of the scoring kernel.
    calibration : Calibration
        Maps raw scores to p-values.
    usual, low, high : ndarray of shape (n_features,)
        Median, 0.5th and 99.5th percentile of each sensor in training, in the sensor's unit.
    magnitude, frozen_after : ndarray of shape (n_features,)
        Learnt for each sensor by ``vigie.detectors.data.quality``.
    n_samples : int
        Rows it was trained on.
    data_fingerprint : str
        SHA-256 of those rows and the feature names.
    libraries : dict
        Versions of the libraries that fitted it.
    trend : TrainedModel or None
        The same algorithm on averages of consecutive rows; None if training rows were unordered
        or too few.
    change : TrainedModel or None
        The same algorithm on consecutive rows compared with those before them, which tells a
        change from a drift; None unless the model forecasts, or if training rows were too few.
    smallest_step_20, smallest_step_200 : ndarray of shape (n_features,) or None
        The smallest lasting step of each sensor that raises an alarm within so many readings, in
        the sensor's unit; inf if none does, NaN if it was not measured. None without a trend, or
        from an older version. See ``vigie.detectors.power``.
    operating_points : OperatingPoints or None
        The ranges that training has seen of what the model sees; None from an older version.
    context : Context or None
        What each sensor reads by how the machine is run. The model sees rows less that; its
        ``usual``, ``low`` and ``high`` are those in the average context.
    file_form : FileForm
        How the file with its rows wrote dates and units.
    estimator : object or None
        The library's own estimator, in the process that fitted it; None once loaded.
    loss_by_epoch : tuple of float
        Training loss of each epoch up to the best one, in the process that fitted it.
    validation_loss_by_epoch : tuple of float
        The same of held-out windows, of all epochs.
    """

    algorithm: str
    feature_names: tuple[str, ...]
    window: int
    params: dict[str, Any]
    threshold: float
    arrays: Mapping[str, NDArray[Any]] = field(repr=False)
    calibration: Calibration = field(repr=False)
    usual: Floats = field(repr=False)
    low: Floats = field(repr=False)
    high: Floats = field(repr=False)
    magnitude: Floats = field(repr=False)
    frozen_after: NDArray[np.intp] = field(repr=False)
    n_samples: int
    data_fingerprint: str
    libraries: dict[str, str] = field(repr=False)
    trend: TrainedModel | None = field(default=None, repr=False)
    change: TrainedModel | None = field(default=None, repr=False)
    smallest_step_20: Floats | None = field(default=None, repr=False)
    smallest_step_200: Floats | None = field(default=None, repr=False)
    operating_points: OperatingPoints | None = field(default=None, repr=False, compare=False)
    context: Context | None = field(default=None, repr=False, compare=False)
    file_form: FileForm = field(default_factory=FileForm, repr=False, compare=False)
    estimator: Any = field(default=None, repr=False, compare=False)
    loss_by_epoch: tuple[float, ...] = field(default=(), repr=False, compare=False)
    validation_loss_by_epoch: tuple[float, ...] = field(default=(), repr=False, compare=False)

    @property
    def n_features(self) -> int:
        return len(self.feature_names)

    @property
    def reconstructs(self) -> bool:
        """Whether its raw score is a reconstruction error."""
        return algorithm(self.algorithm).reconstructs

    @property
    def takes_missing(self) -> bool:
        """Whether a missing value is NaN in its examples, instead of the usual one."""
        return algorithm(self.algorithm).takes_missing

    @cached_property
    def words(self) -> frozenset[str]:
        """The columns whose values are words."""
        of = {} if self.context is None else self.context.words
        return frozenset(self.feature_names[column] for column in of)

    @cached_property
    def context_names(self) -> frozenset[str]:
        """The columns that say how the machine is run."""
        columns = () if self.context is None else self.context.columns
        return frozenset(self.feature_names[column] for column in columns)

    @cached_property
    def usual_reading(self) -> dict[str, float | str]:
        """A reading as training has seen it most, by column, in a context that it has seen."""
        row, words = np.array(self.usual), {}
        if (context := self.context) is not None:
            for column in context.columns:
                if column in context.words:
                    words[column] = context.words[column][0]
                    row[column] = code_of(words[column])
                else:
                    # The median may be in a hole.
                    seen = np.clip(row[column], *context.seen[column].T)
                    row[column] = seen[np.abs(seen - row[column]).argmin()]
            [readings] = context.readings(row[None])(self.usual)
            row = np.where(np.isnan(readings), row, readings)
        return {
            name: words.get(column, float(f"{row[column]:.5g}"))
            for column, name in enumerate(self.feature_names)
        }

    def judged(self, rows: Floats) -> Floats:
        """Return what the model sees of rows (n, n_features): less what the context explains."""
        return rows if self.context is None else self.context.judged(rows)

    @cached_property
    def fewest_rows(self) -> int:
        """Fewest rows for a score; an average needs only half of its rows."""
        spare = self.params.get("averaged_rows", 0) - self.params.get("averaged_at_least", 0)
        spare = self.params.get("spare_rows", spare)
        return self.window - int(spare)

    def examples(self, X: Floats) -> Floats:
        """Return the example to score for each row of X (n_samples, n_features).

        For a model of single rows that is X; else the window that ends with each row, shape
        (n_samples, window, n_features), padded at the start with the first row.
        """
        X = self.judged(X)
        if self.window == 1 or len(X) == 0:
            return X
        views = np.lib.stride_tricks.sliding_window_view(self._padded(X), self.window, axis=0)
        return np.moveaxis(views, -1, 1)

    def raw_scores(self, examples: Floats) -> Floats:
        """Return the estimator's own scores of examples, shape (n_examples,)."""
        return raw_scores(self.algorithm, self.arrays, self.params, examples)

    def raw_scores_along(self, rows: Floats) -> Floats:
        """Return the scores of all examples in consecutive rows, (max(n_rows - window + 1, 0),).

        Equal to ``raw_scores`` of every window of consecutive rows, without copying the windows.
        """
        return raw_scores_along(self.algorithm, self.arrays, self.params, rows, self.window)

    @cached_property
    def parts(self) -> tuple[TrainedModel, ...]:
        """The model, its trend and its change, as far as it has them."""
        return tuple(part for part in (self, self.trend, self.change) if part is not None)

    @cached_property
    def forecasts(self) -> bool:
        """Whether all parts score the same forecast errors."""
        return algorithm(self.algorithm).errors is not None

    def errors(self, rows: Floats) -> Floats:
        """Return the forecast errors of consecutive rows, (max(n - window + 1, 0), n_errors)."""
        errors = algorithm(self.algorithm).errors
        assert errors is not None
        return errors(self.arrays, self.params, rows)

    def raw_scores_of_errors(self, errors: Floats) -> list[Floats]:
        """Return the scores of all parts for ``errors``.

        Of consecutive rows (n, n_errors), each array has one for each full window of the longest
        part; of the windows themselves (n, longest, n_errors), one for each.
        """
        score = algorithm(self.algorithm).score_errors
        assert score is not None
        return score(self.arrays, [part.params for part in self.parts], errors)

    def raw_scores_of_rows(self, X: Floats) -> Floats:
        """Return the score of each row of X (n_samples, n_features), padded as in ``examples``."""
        return self.raw_scores_along(self._padded(self.judged(X)))

    def surprise(self, examples: Floats) -> Floats:
        """Return ``-log10 p`` of examples, shape (n_examples,)."""
        return self.calibration.surprise(self.raw_scores(examples))

    def p_values(self, examples: Floats) -> Floats:
        """Return the share of healthy readings at least this unusual, shape (n_examples,)."""
        return self.calibration.p_value(self.raw_scores(examples))

    def explain(self, examples: Floats) -> Explanation:
        """Return the contribution of each sensor to the surprise of examples."""
        inputs = algorithm_inputs(self.arrays, self.params, examples)
        values = algorithm_inputs(IN_FULL, self.params, examples)
        entry = algorithm(self.algorithm)
        if entry.explain is not None:
            # A network spreads one sensor's fault over others, but its own error stays largest.
            parts = entry.explain(self.arrays, self.params, inputs)
            # Of equal parts the latest: rows before a gap have none at all.
            ago = parts[:, ::-1].argmax(axis=1)
            return Explanation(normalised(parts.sum(axis=1)), values[:, -1], ago)
        shared = shares(
            lambda rows: self.calibration.surprise(entry.score(self.arrays, self.params, rows)),
            inputs,
            self.usual,
            self.high - self.low,
        )
        return Explanation(shared, values)

    def predict_scores(self, X: Any) -> Floats:
        """Return ``1 - p`` for each row of X, shape (n_samples,), in [0, 1].

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Readings; in time order for a model of windows.

        Raises
        ------
        InvalidDataError
            If X is not a matrix of finite numbers with this model's columns.
        """
        rows = as_matrix(X, self.feature_names, words=self.words).values
        if self.context is not None and (unseen := self.context.unseen(rows).any(axis=1)).any():
            logger.warning(
                "%d of %d rows are run as training has not seen it (%s), so they have no verdict: "
                "the score is NaN, and the prediction 0. unseen_context(X) tells which rows.",
                np.count_nonzero(unseen),
                len(rows),
                ", ".join(sorted(self.context_names)),
            )
        return 1.0 - self.calibration.p_value(self.raw_scores_of_rows(rows))

    def unseen_context(self, X: Any) -> NDArray[np.bool_]:
        """Return which rows of X are run as training has not seen it, shape (n_samples,).

        These are the rows without a verdict: their score is NaN. Without a context, none is.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Readings.

        Raises
        ------
        InvalidDataError
            If X is not a matrix of finite numbers with this model's columns.
        """
        rows = as_matrix(X, self.feature_names, words=self.words).values
        if self.context is None:
            return np.zeros(len(rows), np.bool_)
        unseen: NDArray[np.bool_] = self.context.unseen(rows).any(axis=1)
        return unseen

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return 1 for each anomalous row of X and 0 for the others, shape (n_samples,).

        0 also for a row of ``unseen_context``, which has no verdict.
        """
        return (self.predict_scores(X) > self.threshold).astype(np.int64)

    def predict_proba(self, X: Any) -> Floats:
        """Return ``[p, 1 - p]`` for each row of X, shape (n_samples, 2); rows sum to 1."""
        scores = self.predict_scores(X)
        return np.column_stack([1.0 - scores, scores])

    def reconstruction_error(self, X: Any) -> Floats:
        """Return the reconstruction error of the window that ends with each row of X.

        The mean squared error in standard deviations², with a penalty for a row outside the
        bounding box of the training rows; see ``vigie.detectors.lstm_autoencoder.score``.

        Raises
        ------
        InvalidDataError
            If the model does not reconstruct windows.
        """
        if not self.reconstructs:
            raise InvalidDataError(f"{self.algorithm} reconstructs nothing.", field="model")
        return self.raw_scores_of_rows(as_matrix(X, self.feature_names, words=self.words).values)

    def sensors(self, row: Floats) -> list[dict[str, Any]]:
        """Return the sensors that explain one row of shape (n_features,), without a past.

        Returns
        -------
        list of dict
            ``name``, ``share`` of the surprise, ``value``, ``usual``, ``low``, ``high`` (in the
            row's context) and ``direction``, of each sensor; the largest share first.
        """
        rows = row[None]
        shares = self.explain(self.examples(rows)).shares[0]
        limits = np.array([self.usual, self.low, self.high])
        columns: Sequence[int] = ()
        if self.context is not None:
            limits, columns = self.context.readings(rows)(limits), self.context.columns
        return [
            {
                "name": self.feature_names[column],
                "share": float(shares[column]),
                "value": (value := float(row[column])),
                "usual": float(limits[0, column]),
                "low": (low := float(limits[1, column])),
                "high": (high := float(limits[2, column])),
                "direction": direction(value, low, high),
            }
            for column in np.argsort(-shares, kind="stable").tolist()
            if column not in columns
        ]

    def save(self, folder: Path | str) -> str:
        """Write the serving form into a folder and return its content hash."""
        folder = Path(folder)
        card, tensors = self._as_card()
        for part in OVER_TIME:
            if (model := getattr(self, part)) is not None:
                card[part], more = model._as_card()
                tensors |= {f"{part}.{name}": value for name, value in more.items()}
        if self.operating_points is not None:
            for item in fields(OperatingPoints):
                array = getattr(self.operating_points, item.name)
                tensors[f"operating_points.{item.name}"] = _contiguous(array)
        if self.context is not None:
            card["context"], more = _context_card(self.context)
            tensors |= more
        if self.file_form.day_first is not None:
            card["day_first"] = self.file_form.day_first
        if self.file_form.units:
            card["units"] = dict(self.file_form.units)
        data = save(tensors)
        card |= {"format": FORMAT, "arrays_sha256": hashlib.sha256(data).hexdigest()}
        text = json.dumps(card, indent=2, sort_keys=True, allow_nan=False)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ARRAYS).write_bytes(data)
        (folder / CARD).write_text(text, encoding="utf-8")
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def load(cls, folder: Path | str) -> TrainedModel:
        """Load a serving form; it is plain data, so nothing in it is executed.

        Raises
        ------
        ModelRefusedError
            If the folder has no complete, undamaged serving form of a known format.
        """
        try:
            folder = Path(folder)
            for file, most in ((CARD, MOST_CARD), (ARRAYS, MOST_BYTES)):
                if (size := (folder / file).stat().st_size) > most:
                    raise ModelRefusedError(
                        f"{file} has {size} bytes, more than any model.",
                        remedy="Train the model again; Vigie did not write this one.",
                    )
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            data = (folder / ARRAYS).read_bytes()
            if card["format"] != FORMAT or card["algorithm"] not in algorithms():
                raise ModelRefusedError(
                    f"Serving form {card['format']} of '{card['algorithm']}' is unknown.",
                    remedy="Upgrade Vigie, or train the model again.",
                )
            if hashlib.sha256(data).hexdigest() != card["arrays_sha256"]:
                raise ModelRefusedError(
                    f"{ARRAYS} does not match the checksum in {CARD}.",
                    remedy="Fetch the version again, or train the model again.",
                )
            tensors = load(data)
            for part in OVER_TIME:
                if part in card:
                    checks.check_part(card[part], card)
            n_features = len(card["feature_names"])
            context = _context_of(card, tensors, n_features)
            over_time: dict[str, Any] = {
                part: cls._from(card[part], _with_prefix(f"{part}.", tensors), context=context)
                for part in OVER_TIME
                if part in card
            }
            return cls._from(
                card,
                tensors,
                operating_points=_operating_points_of(tensors, n_features),
                context=context,
                file_form=_file_form_of(card),
                **over_time,
            )
        except (
            *(OSError, LookupError, TypeError, ValueError, AttributeError),
            *(ArithmeticError, RecursionError, SafetensorError),
        ) as error:
            raise ModelRefusedError(
                f"No usable serving form: {_fault(error)}.",
                remedy="Train the model again; versions made by other tools have none.",
            ) from error

    def _padded(self, X: Floats) -> Floats:
        """Return X with its first row repeated before it, for the first windows."""
        if self.window == 1 or len(X) == 0:
            return X
        return np.concatenate([np.repeat(X[:1], self.window - 1, axis=0), X])

    def _as_card(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the card of this model, and its arrays."""
        tensors = {f"model.{name}": _contiguous(value) for name, value in self.arrays.items()}
        for name in PER_SENSOR:
            tensors[name] = _contiguous(getattr(self, name))
        for name in OPTIONAL_PER_SENSOR:
            if (measured := getattr(self, name)) is not None:
                tensors[name] = _contiguous(measured)
        calibration = {}
        for item in fields(Calibration):
            value = getattr(self.calibration, item.name)
            if isinstance(value, np.ndarray):
                tensors[f"calibration.{item.name}"] = _contiguous(value)
            else:
                calibration[item.name] = value
        card = {name: getattr(self, name) for name in ON_CARD}
        return card | {
            "feature_names": list(self.feature_names),
            "calibration": calibration,
        }, tensors

    @classmethod
    def _from(
        cls,
        card: Mapping[str, Any],
        tensors: Mapping[str, NDArray[Any]],
        **others: Any,
    ) -> TrainedModel:
        checks.check_card(card)
        facts: dict[str, Any] = {name: card[name] for name in ON_CARD}
        facts |= {name: tensors[name] for name in PER_SENSOR}
        facts |= {name: tensors[name] for name in OPTIONAL_PER_SENSOR if name in tensors}
        calibration: dict[str, Any] = {
            **_with_prefix("calibration.", tensors),
            **card["calibration"],
        }
        facts["feature_names"] = tuple(card["feature_names"])
        arrays, n_features = _with_prefix("model.", tensors), len(facts["feature_names"])
        checks.check_arrays(card["algorithm"], arrays, card["params"], card["window"], n_features)
        checks.check_sensors(facts, n_features)
        checks.check_calibration(calibration)
        return cls(
            arrays=arrays,
            calibration=Calibration(**calibration),
            **others,
            **facts,
        )


def _fault(error: Exception) -> str:
    """Return what is wrong with a serving form, in words of no programming language."""
    match error:
        case OSError():
            return str(error.strerror)
        case json.JSONDecodeError() | UnicodeDecodeError() | RecursionError():
            return f"{CARD} is no JSON"
        case SafetensorError():
            return f"{ARRAYS} holds no arrays"
        case KeyError():
            return f"{printable(str(error.args[0]))} is missing"
        case ValueError():
            return printable(str(error))
    return "its facts have other types than a model's"


def direction(value: float, low: float, high: float) -> str:
    """Return where a value lies: above, below or within its usual range."""
    return "above" if value > high else "below" if value < low else "within"


def _with_prefix(prefix: str, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _contiguous(array: Any) -> NDArray[Any]:
    return np.ascontiguousarray(np.asarray(array))


def _operating_points_of(
    tensors: Mapping[str, NDArray[Any]], n_features: int
) -> OperatingPoints | None:
    """Return the checked operating points of a serving form; None if it has none."""
    if not (arrays := _with_prefix("operating_points.", tensors)):
        return None
    checks.check_operating_points(arrays, n_features)
    return OperatingPoints(**{item.name: arrays[item.name] for item in fields(OperatingPoints)})


def _file_form_of(card: Mapping[str, Any]) -> FileForm:
    """Return what the file of the training said, checked; nothing in an older serving form."""
    day_first, units = card.get("day_first"), card.get("units", {})
    if not (day_first is None or isinstance(day_first, bool)):
        raise TypeError(f"day_first is {day_first!r}, and neither true nor false")
    if not all(checks.is_text(text) for text in (*units, *units.values())):
        raise TypeError(f"units are {units!r}, and not all of them text")
    return FileForm(day_first, units)


def _context_card(context: Context) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    words = [[column, list(of)] for column, of in sorted(context.words.items())]
    arrays = {f"context.{name}": _contiguous(getattr(context, name)) for name in CONTEXT_ARRAYS}
    arrays |= {f"context.seen.{c}": _contiguous(ranges) for c, ranges in context.seen.items()}
    return {"columns": list(context.columns), "words": words}, arrays


def _context_of(
    card: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], n_features: int
) -> Context | None:
    """Return the checked context of a serving form; None if it has none."""
    if "context" not in card:
        return None
    facts, arrays = card["context"], _with_prefix("context.", tensors)
    words = {column: tuple(of) for column, of in facts["words"]}
    seen = {int(column): ranges for column, ranges in _with_prefix("seen.", arrays).items()}
    checks.check_context(facts["columns"], words, seen, arrays, n_features)
    own: dict[str, Any] = {name: arrays[name] for name in CONTEXT_ARRAYS}
    return Context(columns=tuple(facts["columns"]), words=words, seen=seen, **own)
