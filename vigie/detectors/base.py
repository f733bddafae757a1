"""The interface of a detection algorithm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
Params = Mapping[str, Any]
StepScorer = Callable[[int, float, NDArray[np.intp]], Floats]
"""Maps a sensor, a step in its unit, and rows (n_ends,), counted from the first row with the step,
to the scores of the windows that end with these rows, (n_ends,)."""

CREDIBLE = 6.0
"""Largest credible surprise ``-log10 p``: one in a million. Beyond it, only the order counts."""
MAX_SURPRISE = 12.0
"""Upper limit of the surprise, where float64 still distinguishes 1 - p from 1."""
USUAL_SURPRISE = 0.4343
"""Mean surprise of a healthy reading: of a uniform p-value, the decimal logarithm of e."""
FARTHEST = 1e100
"""Largest distance in standard deviations, so that squares and products stay finite."""


class Level(IntEnum):
    """The evidence at a reading for a change of the asset's state."""

    UNKNOWN = 0
    NONE = 1
    ODD = 2
    """No evidence, but most of the latest readings are anomalies."""
    WEAK = 3
    DRIFTED = 4
    """Strong evidence, and no evidence of a change."""
    CHANGED = 5
    """Strong evidence, and a change that is not certain."""
    CHANGED_ANEW = 6
    """Strong evidence of both."""
    EASED = 7
    """Evidence that is hardly stronger than it was before the alarm."""


@dataclass(frozen=True)
class Epoch:
    """A pass over the training rows.

    Attributes
    ----------
    number, of : int
        Which one it was, and how many there are at most.
    loss : float
        Its mean training loss.
    """

    number: int
    of: int
    loss: float


class Progress(Protocol):
    """Called with the current step, the share that is finished, 0 to 1, and the last epoch."""

    def __call__(self, step: str, share: float, epoch: Epoch | None = None, /) -> None: ...


def no_progress(step: str, share: float, epoch: Epoch | None = None, /) -> None:
    """Ignore the progress."""


def in_words(callback: Callable[[str, float], None] | None) -> Progress:
    """Return a progress that tells a callback step and share, with the loss in the step."""
    if callback is None:
        return no_progress

    def report(step: str, share: float, epoch: Epoch | None = None, /) -> None:
        callback(step if epoch is None else f"{step}, loss {epoch.loss:.3g}", share)

    return report


@dataclass(frozen=True)
class Fitted:
    """A fitted algorithm, as an estimator and as arrays.

    Attributes
    ----------
    estimator : object
        The library's own estimator, for use by other tools; None for internal fits: to a part of
        the rows, or to averages.
    arrays : mapping of str to ndarray
        The arrays from which ``vigie.detectors.scoring`` computes the estimator's raw scores.
    saturation : float
        Limit of the raw score far from all training rows; inf if it is unbounded.
    loss_by_epoch : tuple of float
        Training loss of each epoch up to the best one; empty for algorithms without epochs.
    validation_loss_by_epoch : tuple of float
        The same of held-out windows, of all epochs; empty if none were held out.
    """

    estimator: Any
    arrays: dict[str, NDArray[Any]]
    saturation: float = math.inf
    loss_by_epoch: tuple[float, ...] = field(default=())
    validation_loss_by_epoch: tuple[float, ...] = field(default=())


class Detector(Protocol):
    """An untrained algorithm with its hyper-parameters.

    Attributes
    ----------
    algorithm : str
        Its name in ``vigie.detectors.catalogue``.
    window : int
        Consecutive rows per score: 1, or the length of a sequence.
    scores_comparable : bool
        Whether the raw scores of two fits to almost the same rows have the same unit.
    """

    @property
    def algorithm(self) -> str: ...

    @property
    def window(self) -> int: ...

    @property
    def scores_comparable(self) -> bool: ...

    @property
    def params(self) -> dict[str, Any]:
        """Hyper-parameters by their documented names."""
        ...

    def for_averages(self, n_rows: int) -> Detector:
        """Return the algorithm configured for averages of ``n_rows`` consecutive rows."""
        ...

    def for_part(self, share: float) -> Detector:
        """Return the algorithm configured to train equally long on that share of the rows."""
        ...

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        """Fit to healthy rows.

        Parameters
        ----------
        segments : sequence of ndarray of shape (n_samples_i, n_features)
            Segments of consecutive rows; no sequence may span two of them.
        progress : callable
            Called with the progress of the fit.
        """
        ...

    def set_threshold(self, estimator: Any, raw_threshold: float) -> None:
        """Set the estimator's own threshold on its raw score."""
        ...


@runtime_checkable
class Forecaster(Detector, Protocol):
    """A detector that compares rows with what earlier rows announce.

    Attributes
    ----------
    context_rows : int
        Rows at the start of a window that are only looked back on. Those of a held-out row may
        be rows that the detector was fitted to, as they are where a training ends.
    """

    @property
    def context_rows(self) -> int: ...

    def over(self, n_rows: int, baseline_rows: int = 0) -> Detector:
        """Return the detector of ``n_rows`` rows together, compared with so many before them."""
        ...


@dataclass(frozen=True)
class Algorithm:
    """An algorithm, as an entry of the catalogue.

    Creating an entry imports nothing heavy. ``score`` and ``explain`` import what they need, and
    a process that only serves calls nothing else.

    Attributes
    ----------
    name : str
        Its name in the registry, the API, the settings and on the command line.
    parameters : tuple of str
        Its hyper-parameters, each a field of the settings, in the order in which they are logged.
    new_detector : callable
        Maps the hyper-parameters, including the contamination, and a seed to a ``Detector``.
    score : callable
        Maps arrays, hyper-parameters and examples to raw scores of shape (n_examples,): larger
        is more unusual, NaN if a value is NaN, and bit-identical for an example alone and in a
        batch. Examples are rows (n, n_features), or windows (n, window, n_features).
    errors : callable, optional
        Maps arrays, hyper-parameters and consecutive rows (n, n_features) to the forecast errors
        of all rows but the first few, which have too few rows before them; (n_forecast, n_errors).
    score_errors : callable, optional
        Maps arrays, several sets of hyper-parameters and ``errors`` to the scores by each set:
        those of ``score``, with the errors computed only once. Of consecutive rows there is one for
        each full window of the longest set; of windows (n, longest, n_errors), one for each.
    with_step : callable, optional
        Maps arrays, hyper-parameters, consecutive rows, and the row from which on one sensor is to
        read too much, to a ``StepScorer``, where that costs less than to score changed rows.
    check : callable
        Takes arrays, hyper-parameters and the number of features, and raises ``ValueError`` or
        ``KeyError`` unless ``score`` can read these arrays safely. Compiled code does not check
        lengths or indices, and others may write to the store that the arrays come from.
    compiled, compiled_to_fit : tuple of str
        Modules that are compiled on import: those used by ``score`` and ``explain``, which a
        service imports when it starts, and those used only by training.
    flavor : {'sklearn', 'torch'}
        The MLflow flavor of its estimator.
    takes_missing : bool
        Whether ``score`` takes NaN for a missing value; else it is given the sensor's usual value.
    explain : callable, optional
        Maps arrays, hyper-parameters and examples to the non-negative contribution of each value
        to the raw score, shape (n, window, n_features). By default, a sensor's share is the
        surprise that disappears when that sensor alone is reset to its median.
    reconstructs : bool
        Whether the raw score is a reconstruction error.
    relative_cost : float
        How long its training takes, compared with that of a model of single rows, for the share of
        a whole training that is done.
    calibration_fits : int, optional
        Most fits of a calibration, for a costly algorithm; each then holds out several blocks. By
        default, there is one for each block.
    settings : str, optional
        ``module:class`` of a subclass of ``Settings`` with additional fields.
    rows : callable, optional
        Maps hyper-parameters to the consecutive rows that ``score`` takes together; 1 for single
        rows. A card that states another window is refused.
    details : callable, optional
        Maps a model's hyper-parameters and number of training rows to further values to log.
    """

    name: str
    parameters: tuple[str, ...]
    new_detector: Callable[[Params, int], Detector]
    score: Callable[[Arrays, Params, Floats], Floats]
    check: Callable[[Arrays, Params, int], None]
    compiled: tuple[str, ...] = ()
    compiled_to_fit: tuple[str, ...] = ()
    errors: Callable[[Arrays, Params, Floats], Floats] | None = None
    score_errors: Callable[[Arrays, Sequence[Params], Floats], list[Floats]] | None = None
    with_step: Callable[[Arrays, Params, Floats, int], StepScorer] | None = None
    flavor: Literal["sklearn", "torch"] = "sklearn"
    takes_missing: bool = False
    explain: Callable[[Arrays, Params, Floats], Floats] | None = None
    reconstructs: bool = False
    relative_cost: float = 1.0
    calibration_fits: int | None = None
    settings: str | None = None
    rows: Callable[[Params], int] | None = None
    details: Callable[[Params, int], Params] = lambda params, n_samples: {}

    @property
    def own_parameters(self) -> list[str]:
        """All hyper-parameters but the contamination, which every detector has."""
        return [name for name in self.parameters if name != "contamination"]


def standardisation(X: Floats) -> tuple[Floats, Floats]:
    """Return centre and scale of each column, both of shape (n_features,).

    A nearly constant column keeps its unit (scale 1): dividing a constant by its rounding noise
    would turn that noise into the largest signal.
    """
    center, scale = X.mean(axis=0), X.std(axis=0)
    noise = 1e-9 * np.maximum(np.abs(center), 1e-9)
    # The rounding noise of a number above 1e9 may exceed the unit.
    return center, np.where(scale > noise, scale, np.maximum(noise, 1.0))
