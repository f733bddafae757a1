"""From healthy rows to a calibrated model: fit on all, calibrate on what each fold did not see."""

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
"""Held-out examples that are scored at most, spread evenly over all. The rate of alarms at 1 % then
has a standard error of 5.5 % of itself; by all of 100 000 it would be 3.1 %."""
DICTIONARY = 512
"""Examples that two fits are compared on; of four times as many, the mean alarm rate is the same to
2 %."""
LEVELS = np.linspace(0.0, 0.95, 20)
"""Quantiles of their scores that are matched."""


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

    Rows in time order leave a second model in the first one's ``trend``: the same algorithm on
    averages of ``trend_window`` rows. Rows without order leave none, nor do too few of them.

    Parameters
    ----------
    detector : Detector
        The algorithm with its hyper-parameters.
    table : Table
        Healthy rows.
    threshold : float
        The score above which a reading is an anomaly, in (0, 1).
    folds : int
        Parts that the calibration leaves out in turn.
    time_ordered : bool
        Leave out contiguous blocks, so that the drift from block to block counts as healthy;
        else random parts. Windows need an order, so their folds are always blocks.
    random_state : int
        Seed of the random parts.
    trend_window : int, default 0
        Rows in an average; 0 for no trend.
    progress : callable, optional
        Called with what is being done and the share of it that is finished.

    Returns
    -------
    TrainedModel

    Raises
    ------
    InvalidDataError
        If there are too few rows for a window in each fold.
    """
    averaged = Trend(detector, trend_window)
    with_trend = trend_window > 0 and time_ordered
    if with_trend and len(table.values) < 4 * averaged.window:
        with_trend = False
        logger.warning(
            "%d rows are too few to learn the trend of an asset, which takes %d; the state of an "
            "asset will rest on its single readings alone.",
            len(table.values),
            4 * averaged.window,
        )
    done = _Shares(1 + with_trend, progress)
    model = _calibrated(detector, table, threshold, folds, time_ordered, random_state, done.part(0))
    if 1.0 - threshold < detector.window / (model.calibration.n_samples + 1):
        logger.warning(
            "%s: %d rows cannot show what happens once in %.0f, so the threshold rests on an "
            "extrapolated tail. Train on some %.0f rows, or raise the contamination.",
            detector.algorithm,
            len(table.values),
            1.0 / (1.0 - threshold),
            detector.window / (1.0 - threshold) + folds * (detector.window - 1),
        )
    if not with_trend:
        return model
    trend = _calibrated(averaged, table, threshold, folds, True, random_state, done.part(1))
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
    judge = detector.noisy if isinstance(detector, Trend) else detector
    every = -(-len(X) // MOST_CALIBRATED)
    done = _Shares(folds + 1, progress)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        whole = pool.submit(_fit, detector, [X], done.part(0))
        of_sensors = pool.submit(magnitude, X), pool.submit(frozen_after, X)
        parts = [
            pool.submit(
                _score_held_out,
                detector.for_part(sum(map(len, rest)) / len(X)),
                judge,
                held_out[::every],
                rest,
                done.part(number),
            )
            for number, (held_out, rest) in enumerate(
                _folds(X, judge.window, folds, time_ordered, random_state), start=1
            )
        ]
        fitted = whole.result()
        scores = [_translated(part.result(), judge, fitted) for part in parts]
    calibration = Calibration.fit(np.concatenate(scores), overlap=-(-judge.window // every))
    detector.set_threshold(fitted.estimator, calibration.raw_threshold(1.0 - threshold))
    judged = X
    if isinstance(detector, Trend):
        judged = averages(fitted.arrays, X, detector.n_rows, detector.n_rows)
    low, usual, high = np.percentile(judged, [0.5, 50.0, 99.5], axis=0)
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
        magnitude=of_sensors[0].result(),
        frozen_after=of_sensors[1].result(),
        n_samples=len(X),
        data_fingerprint=table.fingerprint,
        libraries={name: version(name) for name in ("numpy", "scikit-learn", "pyod", "torch")},
        estimator=fitted.estimator,
        loss_by_epoch=fitted.loss_by_epoch,
    )


class _Shares:
    """The progress of fits that go on side by side, told as one."""

    def __init__(self, n: int, progress: Progress):
        self._shares = [0.0] * n
        self._progress = progress

    def part(self, number: int) -> Progress:
        def tell(step: str, share: float) -> None:
            self._shares[number] = share
            self._progress(step, sum(self._shares) / len(self._shares))

        return tell


def _fit(detector: Detector, segments: list[Floats], progress: Progress) -> Fitted:
    fitted = detector.fit(segments, progress)
    progress("fitted", 1.0)
    return fitted


@dataclass(frozen=True)
class _Part:
    """What a fit to a part of the rows says of the others, and examples that it has learnt from.

    There are none of these where nothing is to be translated.
    """

    fitted: Fitted
    scores: Floats
    seen: Floats | None = None


def _score_held_out(
    detector: Detector, judge: Detector, held_out: Floats, rest: list[Floats], progress: Progress
) -> _Part:
    fitted = _fit(detector, rest, progress)
    scores = _scores(judge, fitted, held_out)
    if judge.comparable:
        return _Part(fitted, scores)
    return _Part(fitted, scores, _dictionary([_examples(part, judge.window) for part in rest]))


def _dictionary(stretches: list[Floats]) -> Floats:
    """Return examples evenly spread over all stretches, which are views that nobody copies."""
    step = -(-sum(map(len, stretches)) // DICTIONARY)
    picked, first = [], 0
    for stretch in stretches:
        picked.append(stretch[first::step])
        first = (first - len(stretch)) % step
    return np.concatenate(picked)


def _translated(part: _Part, judge: Detector, whole: Fitted) -> Floats:
    """Return one fit's scores in the unit of another, which has learnt from the same rows.

    What both have seen is the dictionary: quantiles of the scores are matched. The largest are
    left out, for those are where two fits differ by chance. What lies beyond is measured by how
    much room there is up to the ceiling; or, without one, by how far the upper half spreads.
    """
    if part.seen is None:
        return part.scores
    here = np.quantile(_scores(judge, part.fitted, part.seen), LEVELS)
    there = np.quantile(_scores(judge, whole, part.seen), LEVELS)
    half = LEVELS.size // 2
    upper_here, upper_there = here[-1] - here[half], there[-1] - there[half]
    spread = upper_there / upper_here if upper_here > 0 and upper_there > 0 else 1.0
    room = spread
    if np.isfinite(whole.ceiling):
        room = (whole.ceiling - there[-1]) / (part.fitted.ceiling - here[-1])
    above, below = np.maximum(part.scores - here[-1], 0), np.minimum(part.scores - here[0], 0)
    translated: Floats = np.interp(part.scores, here, there) + room * above + spread * below
    return translated


def _scores(judge: Detector, fitted: Fitted, examples: Floats) -> Floats:
    return raw_scores(judge.algorithm, fitted.arrays, judge.params, examples)


def _folds(
    X: Floats, window: int, folds: int, time_ordered: bool, random_state: int
) -> Iterator[tuple[Floats, list[Floats]]]:
    """Yield what is held out, as examples ready to score, and the stretches of rows left."""
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
    """Return rows as a model of such a window is to score them."""
    if window == 1:
        return X
    views = np.lib.stride_tricks.sliding_window_view(X, window, axis=0)
    return np.moveaxis(views, -1, 1)
