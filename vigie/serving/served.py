"""What serves: models by scope and algorithm, with their places in the registry."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import is_
from typing import Any, NamedTuple

from vigie.assessment.ensemble import Ensemble
from vigie.config import Settings
from vigie.detectors.catalogue import algorithms
from vigie.detectors.trained import TrainedModel

EVERYTHING = ""
"""The widest scope, and the only one yet: its models answer for every asset."""


class ModelKey(NamedTuple):
    """Whom a model answers for, and what kind it is."""

    scope: str
    algorithm: str


@dataclass(frozen=True)
class Served:
    """A model that answers, and its place in the registry once it has one."""

    model: TrainedModel
    version: int | None = None
    stage: str = "None"
    run_id: str | None = None
    card_sha256: str | None = None
    """Of its serving form: by this a model is known in the registry that had no version yet."""


@dataclass(frozen=True, eq=False)
class Answering:
    """The models that answer for an asset.

    Attributes
    ----------
    served : mapping of str to Served
        By algorithm.
    ensemble : Ensemble
        The same models together.
    """

    served: Mapping[str, Served]
    ensemble: Ensemble


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What serves at one moment; a request takes one and keeps to it."""

    served: Mapping[ModelKey, Served]
    for_everything: Answering

    def for_asset(self, asset_id: str) -> Answering:
        """Return the models that answer for an asset: those of the narrowest scope that has any."""
        return self.for_everything


class ServedModels:
    """What serves, replaced all at once.

    Parameters
    ----------
    settings : Settings
        How models answer together: contamination, gaps and the ranges of sensors.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._changing = threading.Lock()
        self._current = Snapshot({}, self._together({}, None))

    @property
    def current(self) -> Snapshot:
        """What serves now."""
        return self._current

    def get(self, key: ModelKey) -> Served | None:
        """Return what serves under a key."""
        return self._current.served.get(key)

    def change(
        self, coming: Mapping[ModelKey, Served], going: Mapping[ModelKey, Served] = {}
    ) -> None:
        """Let models answer from now on, and others no more.

        Parameters
        ----------
        coming : mapping of ModelKey to Served
            They take the place of what serves under their keys.
        going : mapping of ModelKey to Served
            They go, unless another has taken their place by now.
        """
        with self._changing:
            staying = {
                key: one for key, one in self._current.served.items() if going.get(key) is not one
            }
            self._replace({**staying, **coming})

    def note(self, model: TrainedModel, **facts: Any) -> None:
        """Note what has become known of a model, if it still serves."""
        with self._changing:
            self._replace(
                {
                    key: replace(one, **facts) if one.model is model else one
                    for key, one in self._current.served.items()
                }
            )

    def _replace(self, served: Mapping[ModelKey, Served]) -> None:
        # In the order of the catalogue, since sums of the same numbers differ in their last digit.
        order = list(algorithms())
        served = dict(sorted(served.items(), key=lambda item: order.index(item[0].algorithm)))
        for_everything = {
            key.algorithm: one for key, one in served.items() if key.scope == EVERYTHING
        }
        before = self._current.for_everything.ensemble
        self._current = Snapshot(served, self._together(for_everything, before))

    def _together(self, served: Mapping[str, Served], before: Ensemble | None) -> Answering:
        """Put models together; the same ones stay the ensemble that they were.

        By an ensemble it is known that what was kept of an asset's past still fits.
        """
        models = {name: one.model for name, one in served.items()}
        if (
            before is None
            or list(before.models) != list(models)
            or not all(map(is_, before.models.values(), models.values()))
        ):
            before = Ensemble(
                models,
                self._settings.contamination,
                self._settings.max_gap_s,
                self._settings.sensor_ranges,
            )
        return Answering(served, before)
