"""Vector autoregression: what a row is, compared with what the rows before it announce."""

from __future__ import annotations

from collections.abc import Sequence

from vigie.detectors.base import Algorithm, Arrays, Detector, Floats, Params, StepScorer
from vigie.detectors.vector_autoregression.check import check


def _new_detector(params: Params, random_state: int) -> Detector:
    from vigie.detectors.vector_autoregression.detector import VectorAutoregression

    return VectorAutoregression(**{**params, "horizons": tuple(params["horizons"])})


def _score(arrays: Arrays, params: Params, windows: Floats) -> Floats:
    from vigie.detectors.vector_autoregression.score import raw_scores

    return raw_scores(arrays, params, windows)


def _errors(arrays: Arrays, params: Params, rows: Floats) -> Floats:
    from vigie.detectors.vector_autoregression.score import whitened_errors

    return whitened_errors(arrays, params, rows)


def _score_errors(arrays: Arrays, all_params: Sequence[Params], errors: Floats) -> list[Floats]:
    from vigie.detectors.vector_autoregression.score import scores_of_errors

    return scores_of_errors(arrays, all_params, errors)


def _explain(arrays: Arrays, params: Params, windows: Floats) -> Floats:
    from vigie.detectors.vector_autoregression.score import contributions

    return contributions(arrays, params, windows)


def _with_step(arrays: Arrays, params: Params, rows: Floats, first: int) -> StepScorer:
    from vigie.detectors.vector_autoregression.score import with_step

    return with_step(arrays, params, rows, first)


def _rows(params: Params) -> int:
    rows: int = max(params["horizons"]) + max(params["accumulated_rows"], 1)
    return rows + int(params["baseline_rows"])


ALGORITHM = Algorithm(
    name="vector_autoregression",
    parameters=("horizons", "penalty"),
    new_detector=_new_detector,
    score=_score,
    errors=_errors,
    score_errors=_score_errors,
    with_step=_with_step,
    check=check,
    rows=_rows,
    compiled=("vigie.detectors.vector_autoregression.score",),
    takes_missing=True,
    explain=_explain,
)
