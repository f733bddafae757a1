"""Train a calibrated model: fit on all rows, calibrate on the held-out rows of each fold."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from vigie.detectors.base import Detector, Epoch, Fitted, Floats, Forecaster, Progress, no_progress
from vigie.detectors.calibration.blocks import PIECES, are_blind, blocks, pieces
from vigie.detectors.calibration.p_values import Calibration
from vigie.detectors.calibration.trend import Trend
from vigie.detectors.catalogue import algorithm
from vigie.detectors.data.coverage import MOSTLY
from vigie.detectors.data.matrices import Table
from vigie.detectors.data.quality import frozen_after, magnitude
from vigie.detectors.power import AlarmLimits, HeldOut, smallest_steps
from vigie.detectors.scoring import averages, raw_scores, raw_scores_along
from vigie.detectors.trained import TrainedModel
from vigie.errors import InvalidDataError

logger = logging.getLogger(__name__)

MOST_CALIBRATED = 32_768
"""Most held-out examples that are scored, evenly spread. The alarm rate at 1 % then has a relative
standard error of 5.5 %; with all of 100 000 it would be 3.1 %."""
MATCHING_EXAMPLES = 512
"""Examples on which the scores of two fits are matched; with four times as many, the mean alarm
rate is the same to 2 %."""
MOST_BASELINE_ROWS = 200
"""Most rows that a change is compared with. Within so many rows a drift moves little; a fault that
grows slower than that is a drift."""
BASELINES = 4
"""Baselines that the training rows hold at least, for the calibration of a change."""
LEVELS = np.linspace(0.0, 0.95, 20)
"""Quantiles of these scores that are matched."""

_limiting = threading.Lock()
_limits: Any = None
_training_now = 0


def train(
    detector: Detector,
    table: Table,
    *,
    threshold: float,
    folds: int,
    time_ordered: bool,
    random_state: int,
    trend_window: int = 0,
    limits: AlarmLimits | None = None,
    progress: Progress = no_progress,
) -> TrainedModel:
    """Fit a detector and calibrate its scores.

    With rows in time order, the model has a second one in its ``trend``: the same algorithm on
    averages of ``trend_window`` rows, or of so many rows together. A model that forecasts has a
    third one in its ``change``: of so many rows together, compared with the rows before them. It
    has none if rows are unordered or too few.

    Parameters
    ----------
    detector : Detector
        The algorithm with its hyper-parameters.
    table : Table
        Healthy rows.
    threshold : float
        The score above which a reading is an anomaly, in (0, 1).
    folds : int
        Number of folds of the calibration.
    time_ordered : bool
        Use contiguous blocks as folds, so that the drift from block to block counts as healthy;
        else random folds. Windows need an order, so their folds are always blocks. Where a mode
        of operation fills a block, the folds are made of shorter pieces.
    random_state : int
        Seed of the random folds.
    trend_window : int, default 0
        Rows in an average; 0 for no trend.
    limits : AlarmLimits, optional
        The p-values that raise an alarm, to measure the smallest steps that do; they are not
        measured without, or without a trend.
    progress : callable, optional
        Called with the current step and the share that is finished, 0 to 1.

    Returns
    -------
    TrainedModel

    Raises
    ------
    InvalidDataError
        If there are too few rows for a window in each fold.
    """
    n_rows = len(table.values)
    _require_rows(detector, n_rows)
    is_over_time = trend_window > 0 and time_ordered
    over_time = _over_time(detector, trend_window, n_rows) if is_over_time else {}
    enough = {name: part for name, part in over_time.items() if n_rows >= fewest_rows(part)}
    if "trend" in over_time and "trend" not in enough:
        _warn_once(
            table,
            f"{n_rows} rows are too few to average over, so the state of an asset depends on its "
            f"single readings alone. Record at least {fewest_rows(over_time['trend'])} rows.",
        )
    folding = _Folding(folds, time_ordered, random_state, time_ordered and _blind(table, folds))
    total = _TotalProgress(1 + len(enough), progress)
    model, _ = _calibrated(detector, table, threshold, folding, total.part(0))
    model = replace(model, operating_points=table.operating_points)
    own_rows = detector.window - _context_rows(detector)
    if 1.0 - threshold < own_rows / (model.calibration.n_samples + 1):
        needed = own_rows / (1.0 - threshold) + folds * (own_rows - 1)
        whose = f" of {detector.algorithm}" if own_rows > 1 else ""
        _warn_once(
            table,
            f"With {n_rows} rows the false-alarm rate{whose} is a guess. Record at least "
            f"{needed:.0f} rows.",
        )
    held_out: dict[str, HeldOut] = {}
    for number, (name, part) in enumerate(enough.items(), start=1):
        whole, held_out[name] = _calibrated(part, table, threshold, folding, total.part(number))
        kept: dict[str, Any] = {
            name: replace(whole, estimator=None, loss_by_epoch=(), validation_loss_by_epoch=())
        }
        model = replace(model, **kept)
    if limits is not None and "trend" in held_out:
        steps = smallest_steps(held_out, table.judged, model.high - model.low, limits)
        model = replace(model, smallest_step_20=steps[20], smallest_step_200=steps[200])
        _warn_if_blind(model, np.fmin(steps[20], steps[200]), limits)
    return model


def _warn_once(table: Table, warning: str) -> None:
    """Log a warning that does not depend on the detector once for a table."""
    if warning not in table.warnings:
        table.warnings.add(warning)
        logger.warning("%s", warning)


def _warn_if_blind(model: TrainedModel, steps: Floats, limits: AlarmLimits) -> None:
    """Warn if neither averages, as the smallest steps say, nor readings can raise an alarm."""
    measured = steps[~np.isnan(steps)]
    # Twice the median of p-values that are at least 1 / (n + 1).
    needed = math.ceil(2.0 / limits.forecasts)
    readings_suffice = model.window == 1 and model.calibration.n_samples >= needed
    if not len(measured) or np.isfinite(measured).any() or readings_suffice:
        return
    logger.warning(
        "%s: no step of one sensor raises an alarm by this model alone, as far as was measured: %d "
        "rows are few for %d sensors. %sleave columns out.",
        model.algorithm,
        model.n_samples,
        model.n_features,
        f"Train on more than {needed} rows, or " if model.window == 1 else "Add others, or ",
    )


def _over_time(detector: Detector, window: int, n_rows: int) -> dict[str, Detector]:
    """Return the detectors of ``window`` rows together, by the field of the model."""
    if isinstance(detector, Forecaster):
        changed = detector.over(window, min(MOST_BASELINE_ROWS, n_rows // BASELINES))
        return {"trend": detector.over(window), "change": changed}
    return {"trend": Trend(detector, window)}


def fewest_rows(detector: Detector) -> int:
    """Return the fewest rows for at least two folds."""
    context = _context_rows(detector)
    return max(4 * (detector.window - context), 3 * detector.window if context else 0)


def _require_rows(detector: Detector, n_rows: int) -> None:
    fewest, window = fewest_rows(detector), detector.window
    if n_rows >= fewest:
        return
    remedy = f"Training needs at least {fewest} rows"
    if window > 1 and not _context_rows(detector):
        # As many rows per window of the calibration as the fewest rows have.
        shorter = n_rows * window // fewest
        remedy += f" with sequence_length={window}"
        if shorter > 1:
            remedy += f"; or set VIGIE_SEQUENCE_LENGTH={shorter}"
    raise InvalidDataError(f"{n_rows} rows are too few.", field="data", remedy=f"{remedy}.")


def _context_rows(detector: Detector) -> int:
    return detector.context_rows if isinstance(detector, Forecaster) else 0


def _blind(table: Table, folds: int) -> bool:
    """Return whether contiguous blocks are blind; warn of the order of rows once for a table."""
    if folds in table.blind_blocks:
        return table.blind_blocks[folds]
    blind = len(table.values) >= 4 * folds * PIECES and are_blind(table.judged, folds)
    table.blind_blocks[folds] = blind
    if blind:
        logger.warning(
            "A mode of operation, or a stretch unlike all others, fills a block of the calibration "
            "and shows in no other. The scores are calibrated on shorter pieces instead; they "
            "tolerate less drift. Train on rows in which each mode occurs several times."
        )
    if table.slow_share >= MOSTLY:
        logger.warning(
            "%.0f %% of the sensors follow one slow curve from the first row to the last. If that "
            "is a part of something that repeats, such as a day, its other parts will look like a "
            "drift or a fault. Train on two such cycles or more.",
            100.0 * table.slow_share,
        )
    return blind


@dataclass(frozen=True)
class _Folding:
    """How rows are divided into folds; see ``train``."""

    folds: int
    time_ordered: bool
    random_state: int
    blind: bool
    fits: dict[Any, Fitted] = field(default_factory=dict)
    """Fits of a model that forecasts, which serve rows alone and together, by the held-out rows."""

    def kind(self, n_rows: int, folds: int, window: int, context: int) -> str:
        """Return what the folds hold out: ``rows`` at random, ``blocks``, or ``pieces``."""
        if window == 1 and not self.time_ordered:
            return "rows"
        # A piece has twice the rows that are judged together, at least.
        fewest = 2 * folds * PIECES * (window - context)
        return "pieces" if self.blind and n_rows >= fewest else "blocks"


def _calibrated(
    detector: Detector, table: Table, threshold: float, folding: _Folding, progress: Progress
) -> tuple[TrainedModel, HeldOut]:
    """Return the calibrated model, and the fit without the last fold."""
    X, window, context = table.judged, detector.window, _context_rows(detector)
    folds = min(folding.folds, len(X) // (2 * (window - context)))
    scorer = detector.noisy if isinstance(detector, Trend) else detector
    every = -(-len(X) // MOST_CALIBRATED)
    fits = min(algorithm(detector.algorithm).calibration_fits or folds, folds)
    total = _TotalProgress(fits + 1, progress)
    with _one_blas_thread(), ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        whole = pool.submit(_fit, detector, [X], total.part(0), folding, "whole")
        magnitudes = pool.submit(magnitude, table.values)
        longest_held = pool.submit(frozen_after, table.values)
        kind = folding.kind(len(X), folds, scorer.window, context)
        folds_of = [
            (stretches, *table.judged_by_fold(held_out, rest))
            for stretches, held_out, rest in _folds(
                table.values, scorer.window, context, folds, fits, kind, folding.random_state
            )
        ]
        parts = [
            pool.submit(
                _score_held_out,
                detector.for_part(sum(map(len, rest)) / len(X)),
                scorer,
                held_out,
                rest,
                every,
                total.part(number),
                folding,
                tuple(stretches),
            )
            for number, (stretches, held_out, rest) in enumerate(folds_of, start=1)
        ]
        fitted = whole.result()
        matched = [_matching(part.result(), scorer, fitted) for part in parts]
        scores = [match(part.result().scores) for match, part in zip(matched, parts, strict=True)]
    if not sum(map(len, scores)):
        raise InvalidDataError(
            "No row can be held out: its context is in no other block of the rows.",
            field="context_features",
            remedy="Give rows in which each setting comes several times, or leave the column out.",
        )
    overlap = -(-(scorer.window - context) // every)
    calibration = Calibration.fit(np.concatenate(scores), overlap=overlap)
    detector.set_threshold(fitted.estimator, calibration.raw_threshold(1.0 - threshold))
    inputs = X
    if isinstance(detector, Trend):
        inputs = averages(fitted.arrays, X, detector.n_rows, detector.n_rows)
    low, usual, high = np.percentile(inputs, [0.5, 50.0, 99.5], axis=0)
    # A setting may have any value, for as long as it likes.
    settings = list(() if table.context is None else table.context.columns)
    magnitudes.result()[settings] = 0.0
    longest_held.result()[settings] = 0
    model = TrainedModel(
        algorithm=detector.algorithm,
        feature_names=table.feature_names,
        window=window,
        params=detector.params | {"calibrated_on": kind},
        threshold=threshold,
        arrays=fitted.arrays,
        calibration=calibration,
        usual=usual,
        low=low,
        high=high,
        magnitude=magnitudes.result(),
        frozen_after=longest_held.result(),
        context=table.context,
        n_samples=len(X),
        data_fingerprint=table.fingerprint,
        libraries={name: version(name) for name in ("numpy", "scikit-learn", "pyod", "torch")},
        estimator=fitted.estimator,
        loss_by_epoch=fitted.loss_by_epoch,
        validation_loss_by_epoch=fitted.validation_loss_by_epoch,
    )
    without_last = replace(model, arrays=parts[-1].result().fitted.arrays, estimator=None)
    return model, HeldOut(without_last, tuple(folds_of[-1][0]), matched[-1])


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread: its threads spin while they wait, and fits run side by side."""
    global _training_now, _limits
    with _limiting:
        if _training_now == 0:
            _limits = threadpool_limits(1, "blas")
        _training_now += 1
    try:
        yield
    finally:
        with _limiting:
            _training_now -= 1
            if _training_now == 0:
                _limits.restore_original_limits()


class _TotalProgress:
    """The mean progress of concurrent fits.

    The step is that of the first one, which fits all rows: the others count epochs of their own.
    """

    def __init__(self, n: int, progress: Progress):
        self._shares = [0.0] * n
        self._step = "fit"
        self._epoch: Epoch | None = None
        self._progress = progress

    def part(self, number: int) -> Progress:
        def report(step: str, share: float, epoch: Epoch | None = None, /) -> None:
            self._shares[number] = share
            if number == 0:
                self._step, self._epoch = (step, epoch) if share < 1.0 else ("calibration", None)
            self._progress(self._step, sum(self._shares) / len(self._shares), self._epoch)

        return report


def _fit(
    detector: Detector, segments: list[Floats], progress: Progress, folding: _Folding, key: Any
) -> Fitted:
    if key in folding.fits:
        # The estimator is that of single rows.
        fitted = replace(folding.fits[key], estimator=None)
    else:
        fitted = detector.fit(segments, progress)
        if isinstance(detector, Forecaster):
            folding.fits[key] = fitted
    progress("fitted", 1.0)
    return fitted


@dataclass(frozen=True)
class _Part:
    """A fit to a part of the rows, its scores of the held-out rows, and examples it was fitted to.

    The examples are None if the scores need no matching.
    """

    fitted: Fitted
    scores: Floats
    seen: Floats | None = None


def _score_held_out(
    detector: Detector,
    scorer: Detector,
    held_out: list[Floats],
    rest: list[Floats],
    every: int,
    progress: Progress,
    folding: _Folding,
    key: Any,
) -> _Part:
    fitted = _fit(detector, rest, progress, folding, key)
    if isinstance(scorer, Forecaster):
        along = partial(raw_scores_along, scorer.algorithm, fitted.arrays, scorer.params)
        # The first block may be all context.
        parts = [along(rows, scorer.window)[::every] for rows in held_out]
        scores = np.concatenate([np.empty(0), *parts])
    else:
        examples = [_examples(rows, scorer.window)[::every] for rows in held_out]
        scores = _scores(scorer, fitted, np.concatenate(examples))
    # Rows of which nothing is known have no score.
    scores = scores[~np.isnan(scores)]
    if scorer.scores_comparable:
        return _Part(fitted, scores)
    return _Part(fitted, scores, _evenly_spread([_examples(part, scorer.window) for part in rest]))


def _evenly_spread(segments: list[Floats]) -> Floats:
    """Return ``MATCHING_EXAMPLES`` at most, without copying the segments, which are views."""
    step = -(-sum(map(len, segments)) // MATCHING_EXAMPLES)
    picked, first = [], 0
    for segment in segments:
        picked.append(segment[first::step])
        first = (first - len(segment)) % step
    return np.concatenate(picked)


def _matching(part: _Part, scorer: Detector, whole: Fitted) -> Callable[[Floats], Floats]:
    """Return a function from scores of a partial fit to the unit of the fit to all rows.

    Quantile matching on examples that both were fitted to. The largest scores are left out, since
    there two fits differ by chance. Beyond the matched quantiles, scores are scaled by the
    distance to the saturation, or, if there is none, by the spread of the upper half.
    """
    if part.seen is None:
        return lambda scores: scores
    source = np.quantile(_scores(scorer, part.fitted, part.seen), LEVELS)
    target = np.quantile(_scores(scorer, whole, part.seen), LEVELS)
    half = LEVELS.size // 2
    source_spread, target_spread = source[-1] - source[half], target[-1] - target[half]
    below_scale = target_spread / source_spread if source_spread > 0 and target_spread > 0 else 1.0
    above_scale = below_scale
    # With most rows out of reach of each other, the largest matched score is the saturation.
    if np.isfinite(whole.saturation) and (room := part.fitted.saturation - source[-1]) > 0:
        above_scale = (whole.saturation - target[-1]) / room

    def matched(scores: Floats) -> Floats:
        above, below = np.maximum(scores - source[-1], 0), np.minimum(scores - source[0], 0)
        in_unit: Floats = (
            np.interp(scores, source, target) + above_scale * above + below_scale * below
        )
        return in_unit

    return matched


def _scores(scorer: Detector, fitted: Fitted, examples: Floats) -> Floats:
    return raw_scores(scorer.algorithm, fitted.arrays, scorer.params, examples)


def _folds(
    X: Floats, window: int, context: int, folds: int, fits: int, kind: str, random_state: int
) -> Iterator[tuple[list[tuple[int, int]], list[Floats], list[Floats]]]:
    """Yield what each fit holds out, as rows with their context too, and the rows to fit to.

    With fewer fits than folds, each holds out every so many-th fold.
    """
    if kind == "rows":
        order = np.random.default_rng(random_state).permutation(len(X))
        for part in np.array_split(order, folds):
            yield [], [X[part]], [np.delete(X, part, axis=0)]
        return
    parts = (pieces if kind == "pieces" else blocks)(len(X), folds)
    for first in range(fits):
        stretches = sorted(chain(*parts[first::fits]))
        held_out = [X[max(start - context, 0) : stop] for start, stop in stretches]
        edges = [0, *(edge for stretch in stretches for edge in stretch), len(X)]
        rest = [X[start:stop] for start, stop in zip(edges[::2], edges[1::2], strict=True)]
        yield (
            stretches,
            [rows for rows in held_out if len(rows) >= window],
            [rows for rows in rest if len(rows) >= window - context],
        )


def _examples(X: Floats, window: int) -> Floats:
    """Return the rows, or their windows of shape (n, window, n_features)."""
    if window == 1:
        return X
    views = np.lib.stride_tricks.sliding_window_view(X, window, axis=0)
    return np.moveaxis(views, -1, 1)
