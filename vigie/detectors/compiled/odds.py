"""Conversion of raw scores to p-values, in one pass."""

from __future__ import annotations

import math

import numpy as np
from numba import boolean, float64
from numpy.typing import NDArray

from vigie.detectors.base import CREDIBLE, MAX_SURPRISE, Floats
from vigie.detectors.compiled.blocks import in_blocks
from vigie.detectors.compiled.compiler import compiled, helper, read_only, writable

BLOCK, BATCH = 16384, 256
LN_10 = math.log(10.0)


@helper
def _find(raw_scores: Floats, knots: Floats, places: NDArray[np.int32]) -> None:
    """Write the index of the last knot not above each raw score; 0 if all knots are above it.

    A branch-free binary search, in lockstep over all scores: searching one by one mispredicts
    every other branch.
    """
    places[:] = 0
    left = np.uintp(len(knots))
    while left > np.uintp(1):
        half = left >> np.uintp(1)
        for i in range(len(raw_scores)):
            at = np.uintp(places[i])
            places[i] = at + (half & (np.uintp(0) - np.uintp(knots[at + half] <= raw_scores[i])))
        left -= half


@helper
def _interpolated(raw: float, at: int, knots: Floats, p_values: Floats) -> float:
    """Return the p-value of a raw score that lies between the knot ``at`` and the next."""
    p: float = p_values[at]
    if raw > knots[at]:
        after = at + 1
        p += (p_values[after] - p) / (knots[after] - knots[at]) * (raw - knots[at])
    return p


@helper
def _tail_depth(raw: float, start: float, scale: float, shape: float) -> float:
    """Return minus the natural logarithm of the tail's survival function."""
    depth = (raw - start) / scale
    return math.log1p(shape * depth) / shape if shape > 0.0 else depth


@compiled(
    *(read_only(float64, 1), read_only(float64, 1), *4 * [float64], read_only(float64, 1), boolean),
    writable(float64, 1),
    fastmath=False,
)
def _convert(
    knots: Floats,
    p_values: Floats,
    start: float,
    scale: float,
    shape: float,
    body_scale: float,
    raw_scores: Floats,
    as_surprise: bool,
    answers: Floats,
) -> None:
    """Write p-values, or their surprise ``-log10 p``, as ``Calibration`` defines them."""
    lowest, highest = knots[0], knots[-1]
    last_depth = _tail_depth(highest, start, scale, shape)
    places = np.empty(min(len(raw_scores), BATCH), np.int32)
    for i in range(len(raw_scores)):
        if i % BATCH == 0:
            _find(raw_scores[i : i + BATCH], knots, places)
        raw = raw_scores[i]
        if raw <= highest:
            if raw < lowest:
                rest = (1.0 - p_values[0]) * math.exp((raw - lowest) / body_scale)
                surprise = -math.log1p(-rest) / LN_10
            else:
                p = _interpolated(raw, places[i % BATCH], knots, p_values)
                if not as_surprise and p > 10.0**-CREDIBLE:
                    answers[i] = p
                    continue
                surprise = -math.log10(p)
        else:
            depth = _tail_depth(raw, start, scale, shape) - last_depth
            surprise = depth / LN_10 - math.log10(p_values[-1])
        if surprise > CREDIBLE:
            surprise = MAX_SURPRISE - CREDIBLE * (MAX_SURPRISE - CREDIBLE) / surprise
        answers[i] = surprise if as_surprise else 10.0**-surprise


def p_values(
    knots: Floats,
    at_knots: Floats,
    tail_start: float,
    tail_scale: float,
    tail_shape: float,
    body_scale: float,
    raw_scores: Floats,
    *,
    as_surprise: bool,
) -> Floats:
    """Return the p-values of raw scores of shape (n,), or their surprise.

    The other parameters are those of ``vigie.detectors.calibration.p_values.Calibration``, with
    its ``p_values`` as ``at_knots``.
    """
    raw = np.ascontiguousarray(raw_scores, dtype=np.float64)
    answers = np.empty(raw.shape)
    calibration = knots, at_knots, tail_start, tail_scale, tail_shape, body_scale
    if len(raw) <= BLOCK:
        _convert(*calibration, raw, as_surprise, answers)
        return answers

    def work(start: int, stop: int) -> None:
        _convert(*calibration, raw[start:stop], as_surprise, answers[start:stop])

    in_blocks(work, len(raw), BLOCK)
    return answers
