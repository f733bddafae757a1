"""Which versions can take the place of others, beside the models that judge the same readings."""

from __future__ import annotations

from collections.abc import Mapping

from vigie.errors import ModelRefusedError
from vigie.serving.served import Served


def incompatible(
    serving: Mapping[str, Served], coming: Mapping[str, Served]
) -> dict[str, ModelRefusedError]:
    """Return which models must not come yet, for they need sensors that no reading brings.

    Readings bring what the models that serve know. A model that needs more than that would never
    answer, so it waits until all models that judge the same readings come to know its sensors.

    Parameters
    ----------
    serving, coming : mapping of str to Served
        What serves, and what is to take its place, by name. Who takes nobody's place is fit.
    """
    found: dict[str, ModelRefusedError] = {}
    while True:
        fit = {name: served for name, served in coming.items() if name not in found}
        waiting = {
            name: ModelRefusedError(
                f"Version {served.version} of '{name}' needs {', '.join(sorted(unknown))}, which "
                "the models beside it do not know.",
                field="feature_names",
                remedy="It serves as soon as all of them are promoted in versions that do.",
            )
            for name, served in fit.items()
            if (unknown := _unknown_sensors(name, serving, fit))
        }
        if not waiting:
            return found
        # Whoever relied on one that has to wait now has to wait as well.
        found |= waiting


def _unknown_sensors(
    name: str, serving: Mapping[str, Served], coming: Mapping[str, Served]
) -> set[str]:
    """Return the sensors of a model that is to come which are new, and not to all beside it."""
    if name not in serving:
        return set()
    sensors = {who: set(served.model.feature_names) for who, served in serving.items()}
    then = sensors | {who: set(served.model.feature_names) for who, served in coming.items()}
    new = then[name].difference(*sensors.values())
    beside = [then[who] for who in sensors if who != name and sensors[who] & sensors[name]]
    return {sensor for sensor in new if not all(sensor in known for known in beside)}
