"""Train a calibrated model: fit on all rows, calibrate on the held-out rows of each fold."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise

import numpy as np

from vigie.detectors.base import Detector, Fitted, Floats, Progress, no_progress
from vigie.detectors.calibration.p_values import Calibration
from vigie.detectors.calibration.trend import Trend
from vigie.detectors.data.matrices import Table
from vigie.detectors.data.quality import frozen_after, magnitude
from vigie.detectors.scoring import averages, raw_scores
from vigie.detectors.trained import TrainedModel
from vigie.errors import InvalidDataError

logger = logging.getLogger(__name__)

MOST_CALIBRATED = 32_768
"""Most held-out examples that are scored, evenly spread. The alarm rate at 1 % then has a relative
standard error of 5.5 %; with all of 100 000 it would be 3.1 %."""
MATCHING_EXAMPLES = 512
"""Examples on which the scores of two fits are matched; with four times as many, the mean alarm
rate is the same to 2 %."""
LEVELS = np.linspace(0.0, 0.95, 20)
"""Quantiles of these scores that are matched."""


def train(
    detector: Detector,
    table: Table,
    *,
    threshold: float,
    folds: int,
    time_ordered: bool,
    random_state: int,
    trend_window: int = 0,
    progress: Progress = no_progress,
) -> TrainedModel:
    """Fit a detector and calibrate its scores.

    With rows in time order, the model has a second one in its ``trend``: the same algorithm on
    averages of ``trend_window`` rows. It has none if rows are unordered or too few.

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
        else random folds. Windows need an order, so their folds are always blocks.
    random_state : int
        Seed of the random folds.
    trend_window : int, default 0
        Rows in an average; 0 for no trend.
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
    trend_detector = Trend(detector, trend_window)
    with_trend = trend_window > 0 and time_ordered
    if with_trend and len(table.values) < 4 * trend_detector.window:
        with_trend = False
        logger.warning(
            "%d rows are too few to learn the trend of an asset, which takes %d; the state of an "
            "asset will depend on its single readings alone.",
            len(table.values),
            4 * trend_detector.window,
        )
    total = _TotalProgress(1 + with_trend, progress)
    model = _calibrated(
        detector, table, threshold, folds, time_ordered, random_state, total.part(0)
    )
    if 1.0 - threshold < detector.window / (model.calibration.n_samples + 1):
        logger.warning(
            "%s: %d rows are too few for a rate of one in %.0f, so the threshold is extrapolated. "
            "Train on some %.0f rows, or raise the contamination.",
            detector.algorithm,
            len(table.values),
            1.0 / (1.0 - threshold),
            detector.window / (1.0 - threshold) + folds * (detector.window - 1),
        )
    if not with_trend:
        return model
    trend = _calibrated(trend_detector, table, threshold, folds, True, random_state, total.part(1))
    return replace(model, trend=replace(trend, estimator=None, loss_by_epoch=()))


def _calibrated(
    detector: Detector,
    table: Table,
    threshold: float,
    folds: int,
    time_ordered: bool,
    random_state: int,
    progress: Progress,
) -> TrainedModel:
    X, window = table.values, detector.window
    folds = min(folds, len(X) // (2 * window))
    if folds < 2:
        raise InvalidDataError(
            f"{len(X)} rows are too few.",
            field="data",
            remedy=f"Training needs at least {4 * window} rows"
            + (f" with sequence_length={window}." if window > 1 else "."),
        )
    scorer = detector.noisy if isinstance(detector, Trend) else detector
    every = -(-len(X) // MOST_CALIBRATED)
    total = _TotalProgress(folds + 1, progress)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        whole = pool.submit(_fit, detector, [X], total.part(0))
        sensor_facts = pool.submit(magnitude, X), pool.submit(frozen_after, X)
        parts = [
            pool.submit(
                _score_held_out,
                detector.for_part(sum(map(len, rest)) / len(X)),
                scorer,
                held_out[::every],
                rest,
                total.part(number),
            )
            for number, (held_out, rest) in enumerate(
                _folds(X, scorer.window, folds, time_ordered, random_state), start=1
            )
        ]
        fitted = whole.result()
        scores = [_matched(part.result(), scorer, fitted) for part in parts]
    calibration = Calibration.fit(np.concatenate(scores), overlap=-(-scorer.window // every))
    detector.set_threshold(fitted.estimator, calibration.raw_threshold(1.0 - threshold))
    inputs = X
    if isinstance(detector, Trend):
        inputs = averages(fitted.arrays, X, detector.n_rows, detector.n_rows)
    low, usual, high = np.percentile(inputs, [0.5, 50.0, 99.5], axis=0)
    return TrainedModel(
        algorithm=detector.algorithm,
        feature_names=table.feature_names,
        window=window,
        params=detector.params,
        threshold=threshold,
        arrays=fitted.arrays,
        calibration=calibration,
        usual=usual,
        low=low,
        high=high,
        magnitude=sensor_facts[0].result(),
        frozen_after=sensor_facts[1].result(),
        n_samples=len(X),
        data_fingerprint=table.fingerprint,
        libraries={name: version(name) for name in ("numpy", "scikit-learn", "pyod", "torch")},
        estimator=fitted.estimator,
        loss_by_epoch=fitted.loss_by_epoch,
    )


class _TotalProgress:
    """The mean progress of concurrent fits."""

    def __init__(self, n: int, progress: Progress):
        self._shares = [0.0] * n
        self._progress = progress

    def part(self, number: int) -> Progress:
        def report(step: str, share: float) -> None:
            self._shares[number] = share
            self._progress(step, sum(self._shares) / len(self._shares))

        return report


def _fit(detector: Detector, segments: list[Floats], progress: Progress) -> Fitted:
    fitted = detector.fit(segments, progress)
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
    detector: Detector, scorer: Detector, held_out: Floats, rest: list[Floats], progress: Progress
) -> _Part:
    fitted = _fit(detector, rest, progress)
    scores = _scores(scorer, fitted, held_out)
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


def _matched(part: _Part, scorer: Detector, whole: Fitted) -> Floats:
    """Return the scores of a partial fit in the unit of the fit to all rows.

    Quantile matching on examples that both were fitted to. The largest scores are left out, since
    there two fits differ by chance. Beyond the matched quantiles, scores are scaled by the
    distance to the saturation, or, if there is none, by the spread of the upper half.
    """
    if part.seen is None:
        return part.scores
    source = np.quantile(_scores(scorer, part.fitted, part.seen), LEVELS)
    target = np.quantile(_scores(scorer, whole, part.seen), LEVELS)
    half = LEVELS.size // 2
    source_spread, target_spread = source[-1] - source[half], target[-1] - target[half]
    below_scale = target_spread / source_spread if source_spread > 0 and target_spread > 0 else 1.0
    above_scale = below_scale
    if np.isfinite(whole.saturation):
        above_scale = (whole.saturation - target[-1]) / (part.fitted.saturation - source[-1])
    above, below = np.maximum(part.scores - source[-1], 0), np.minimum(part.scores - source[0], 0)
    matched: Floats = (
        np.interp(part.scores, source, target) + above_scale * above + below_scale * below
    )
    return matched


def _scores(scorer: Detector, fitted: Fitted, examples: Floats) -> Floats:
    return raw_scores(scorer.algorithm, fitted.arrays, scorer.params, examples)


def _folds(
    X: Floats, window: int, folds: int, time_ordered: bool, random_state: int
) -> Iterator[tuple[Floats, list[Floats]]]:
    """Yield the held-out examples of each fold, and the segments of rows to fit to."""
    if window == 1 and not time_ordered:
        order = np.random.default_rng(random_state).permutation(len(X))
        for part in np.array_split(order, folds):
            yield X[part], [np.delete(X, part, axis=0)]
        return
    edges = np.linspace(0, len(X), folds + 1).astype(int)
    for start, stop in pairwise(edges):
        held_out = X[start:stop]
        rest = [part for part in (X[:start], X[stop:]) if len(part) >= window]
        yield _examples(held_out, window), rest


def _examples(X: Floats, window: int) -> Floats:
    """Return the rows, or their windows of shape (n, window, n_features)."""
    if window == 1:
        return X
    views = np.lib.stride_tricks.sliding_window_view(X, window, axis=0)
    return np.moveaxis(views, -1, 1)
