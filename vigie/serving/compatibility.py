"""Check whether new versions fit the other models that assess the same readings."""

from __future__ import annotations

from collections.abc import Mapping

from vigie.errors import ModelRefusedError
from vigie.serving.served import Served


def incompatible(
    serving: Mapping[str, Served], coming: Mapping[str, Served]
) -> dict[str, ModelRefusedError]:
    """Return the new models that cannot serve yet, because the others do not know their sensors.

    Readings hold the sensors of the models that serve. A model that needs more would never answer,
    so it waits until all models that assess the same readings have its sensors.

    Parameters
    ----------
    serving, coming : mapping of str to Served
        The models that serve, and the new ones, by name. One that replaces no other always fits.
    """
    misfits: dict[str, ModelRefusedError] = {}
    while True:
        fit = {name: served for name, served in coming.items() if name not in misfits}
        waiting = {
            name: ModelRefusedError(
                f"Version {served.version} of '{name}' needs {', '.join(sorted(unknown))}, which "
                "the other models do not know.",
                field="feature_names",
                remedy="It serves as soon as the others are promoted in versions that do.",
            )
            for name, served in fit.items()
            if (unknown := _unknown_sensors(name, serving, fit))
        }
        if not waiting:
            return misfits
        # Models that relied on the sensors of a misfit may not fit any more.
        misfits |= waiting


def _unknown_sensors(
    name: str, serving: Mapping[str, Served], coming: Mapping[str, Served]
) -> set[str]:
    """Return the new sensors of a model that not all models with shared sensors will have."""
    if name not in serving:
        return set()
    before = {model: set(served.model.feature_names) for model, served in serving.items()}
    after = before | {model: set(served.model.feature_names) for model, served in coming.items()}
    new = after[name].difference(*before.values())
    others = [after[model] for model in before if model != name and before[model] & before[name]]
    return {sensor for sensor in new if not all(sensor in known for known in others)}
