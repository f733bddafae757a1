"""What every detection algorithm must give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
Params = Mapping[str, Any]
Progress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is finished, 0 to 1."""

CREDIBLE = 6.0
"""Surprise ``-log10 p`` up to which odds are taken at their word: one in a million."""
CEILING = 12.0
"""No reading is more surprising than this; it is where float64 still tells 1 - p from 1."""
FARTHEST = 1e100
"""In standard deviations; beyond it, squares and products would not stay finite."""


def no_progress(step: str, share: float) -> None:
    """Stand in for a ``Progress`` where nobody follows it."""


@dataclass(frozen=True)
class Fitted:
    """One fitted algorithm, in both of its forms.

    Attributes
    ----------
    estimator : object
        The library's own estimator, for every tool that knows it; None of what no tool is given:
        a fit to a part of the rows, or to averages.
    arrays : mapping of str to ndarray
        All that ``vigie.detectors.scoring`` needs to compute the estimator's raw scores.
    ceiling : float
        What the raw score nears in empty space, far from all it was fitted to; inf where it
        rises without end.
    loss_by_epoch : tuple of float
        The training loss of each epoch up to the one that is kept; empty for algorithms without
        epochs.
    """

    estimator: Any
    arrays: dict[str, NDArray[Any]]
    ceiling: float = math.inf
    loss_by_epoch: tuple[float, ...] = field(default=())


class Detector(Protocol):
    """An untrained algorithm with its hyper-parameters.

    Attributes
    ----------
    algorithm : str
        Its name in ``vigie.detectors.catalogue``.
    window : int
        Consecutive rows that one score looks at: 1, or the length of a sequence.
    comparable : bool
        Whether the raw scores of two fits to almost the same rows are in one unit.
    """

    @property
    def algorithm(self) -> str: ...

    @property
    def window(self) -> int: ...

    @property
    def comparable(self) -> bool: ...

    @property
    def params(self) -> dict[str, Any]:
        """Hyper-parameters by the names that the guide gives them."""
        ...

    def for_averages(self, n_rows: int) -> Detector:
        """Return the same algorithm, set up for averages of ``n_rows`` consecutive rows."""
        ...

    def for_part(self, share: float) -> Detector:
        """Return the same algorithm, set up to learn as long from that share of the rows."""
        ...

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        """Fit to healthy rows.

        Parameters
        ----------
        segments : sequence of ndarray of shape (n_samples_i, n_features)
            Stretches of consecutive rows; no sequence may reach from one into the next.
        progress : callable
            Called with how far the fit has come.
        """
        ...

    def set_threshold(self, estimator: Any, raw_threshold: float) -> None:
        """Make the estimator's own verdict agree with a threshold on its raw score."""
        ...


@dataclass(frozen=True)
class Algorithm:
    """All that the rest of Vigie has to know of an algorithm; one entry of the catalogue.

    Making an entry imports nothing heavy. ``score`` and ``explain`` import what they call, and a
    process that only serves calls nothing else.

    Attributes
    ----------
    name : str
        In the registry, the API, the settings and on the command line.
    parameters : tuple of str
        Its hyper-parameters, each a field of the settings, in the order in which they are logged.
    new_detector : callable
        From the hyper-parameters, the contamination among them, and a seed to a ``Detector``.
    score : callable
        From arrays, hyper-parameters and examples to raw scores of shape (n_examples,): larger is
        more unusual, NaN where a value is NaN, and the same to the last bit for an example alone
        and among others. Examples are rows (n, n_features), or windows (n, window, n_features).
    check : callable
        From arrays, hyper-parameters and the number of features to nothing; raises ``ValueError``
        or ``KeyError`` unless ``score`` may read these arrays. Compiled code does not check a
        length or an index, and the arrays come from a store that others may write to.
    compiled, compiled_to_fit : tuple of str
        Modules that compile when they are imported: those that ``score`` and ``explain`` take,
        which a service imports when it starts, and those that only training takes.
    flavor : {'sklearn', 'torch'}
        The MLflow flavor of its estimator.
    explain : callable, optional
        From arrays, hyper-parameters and examples to what each value adds to the raw score, never
        negative, of the shape (n, window, n_features). By default a sensor's share is what goes
        away when it alone is put back to its median.
    reconstructs : bool
        Whether the raw score is the error of a reconstruction.
    settings : str, optional
        ``module:class`` of a subclass of ``Settings`` that has the fields which that one has not.
    details : callable, optional
        From the hyper-parameters of a model and the number of rows that it was trained on to what
        is logged beside them.
    """

    name: str
    parameters: tuple[str, ...]
    new_detector: Callable[[Params, int], Detector]
    score: Callable[[Arrays, Params, Floats], Floats]
    check: Callable[[Arrays, Params, int], None]
    compiled: tuple[str, ...] = ()
    compiled_to_fit: tuple[str, ...] = ()
    flavor: Literal["sklearn", "torch"] = "sklearn"
    explain: Callable[[Arrays, Params, Floats], Floats] | None = None
    reconstructs: bool = False
    settings: str | None = None
    details: Callable[[Params, int], Params] = lambda params, n_samples: {}


def standardisation(X: Floats) -> tuple[Floats, Floats]:
    """Return centre and scale of each column, both of shape (n_features,).

    A column that hardly varies against its own size keeps its unit (scale 1): dividing by the
    rounding noise of a constant would turn that noise into the largest signal of all.
    """
    center, scale = X.mean(axis=0), X.std(axis=0)
    return center, np.where(scale > 1e-9 * np.maximum(np.abs(center), 1e-9), scale, 1.0)
