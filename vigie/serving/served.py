"""The models that serve, by scope and algorithm, with their versions in the registry."""

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
from vigie.registry.scopes import EVERYTHING


class ModelKey(NamedTuple):
    """The scope for which a model answers, and its algorithm."""

    scope: str
    algorithm: str


@dataclass(frozen=True)
class Served:
    """A model that serves, and its version in the registry once it has one."""

    model: TrainedModel
    version: int | None = None
    stage: str = "None"
    run_id: str | None = None
    card_sha256: str | None = None
    """Hash of its serving form, None if it was not recorded."""


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
    """The models that serve at one moment; each request uses a single snapshot."""

    served: Mapping[ModelKey, Served]
    for_everything: Answering

    def for_asset(self, asset_id: str) -> Answering:
        """Return the models that serve an asset: those for everything, the only scope so far."""
        return self.for_everything


class ServedModels:
    """The models that serve, replaced atomically.

    Parameters
    ----------
    settings : Settings
        The contamination, the longest gap and the sensor ranges of the ensemble.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._changing = threading.Lock()
        self._current = Snapshot({}, self._together({}, None))

    @property
    def current(self) -> Snapshot:
        """The models that serve now."""
        return self._current

    def get(self, key: ModelKey) -> Served | None:
        """Return the model that serves under a key, if any."""
        return self._current.served.get(key)

    def change(
        self, coming: Mapping[ModelKey, Served], going: Mapping[ModelKey, Served] = {}
    ) -> None:
        """Add, replace and remove models in one step.

        Parameters
        ----------
        coming : mapping of ModelKey to Served
            They replace the models under their keys.
        going : mapping of ModelKey to Served
            They are removed, unless they have been replaced meanwhile.
        """
        with self._changing:
            staying = {
                key: served
                for key, served in self._current.served.items()
                if going.get(key) is not served
            }
            self._replace({**staying, **coming})

    def instead(self, key: ModelKey, served: Served) -> Snapshot:
        """Return what would serve if this model replaced the one under its key."""
        return self._snapshot({**self._current.served, key: served})

    def note(self, model: TrainedModel, **facts: Any) -> None:
        """Set fields of ``Served`` for a model, if it still serves."""
        with self._changing:
            self._replace(
                {
                    key: replace(served, **facts) if served.model is model else served
                    for key, served in self._current.served.items()
                }
            )

    def _replace(self, models: Mapping[ModelKey, Served]) -> None:
        self._current = self._snapshot(models)

    def _snapshot(self, models: Mapping[ModelKey, Served]) -> Snapshot:
        # A fixed order, since the last digit of a sum depends on the order of its terms.
        order = list(algorithms())
        models = dict(sorted(models.items(), key=lambda item: order.index(item[0].algorithm)))
        for_everything = {
            key.algorithm: served for key, served in models.items() if key.scope == EVERYTHING
        }
        before = self._current.for_everything.ensemble
        return Snapshot(models, self._together(for_everything, before))

    def _together(self, served: Mapping[str, Served], before: Ensemble | None) -> Answering:
        """Combine models; the same models keep their ensemble object.

        Cached look-backs are valid only for the ensemble object that made them.
        """
        models = {name: entry.model for name, entry in served.items()}
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
                self._settings.false_alarms_per_month,
            )
        return Answering(served, before)
