"""The catalogue of algorithms.

An entry in ``BUILT_IN``, or an entry point of the group ``vigie.detectors`` in another
distribution, makes an algorithm available for training, the registry, serving, the API and the
command line. Both name an ``Algorithm`` as ``module:attribute``::

    [project.entry-points."vigie.detectors"]
    mahalanobis = "my_package.mahalanobis:ALGORITHM"
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from vigie.detectors.base import Algorithm
from vigie.errors import InvalidDataError

GROUP = "vigie.detectors"
BUILT_IN = {
    "isolation_forest": "vigie.detectors.isolation_forest:ALGORITHM",
    "one_class_svm": "vigie.detectors.one_class_svm:ALGORITHM",
    "vector_autoregression": "vigie.detectors.vector_autoregression:ALGORITHM",
    "lstm_autoencoder": "vigie.detectors.lstm_autoencoder:ALGORITHM",
}
COMPILED = ("averaging", "evidence", "odds", "operating_points", "rows")
"""Modules of ``vigie.detectors.compiled`` that every algorithm needs."""


@cache
def algorithms() -> dict[str, Algorithm]:
    """Return every algorithm by its name: the built-in ones, then those of entry points.

    Raises
    ------
    InvalidDataError
        If an entry point cannot be loaded, is no ``Algorithm`` of that name, or its name is
        already taken.
    """
    catalogue: dict[str, Algorithm] = {}
    built_in = [EntryPoint(name, value, GROUP) for name, value in BUILT_IN.items()]
    for entry in (*built_in, *entry_points(group=GROUP)):
        if entry.name in catalogue:
            raise InvalidDataError(
                f"There are two detectors with the name '{entry.name}'; one is {entry.value}.",
                field=GROUP,
                remedy="Give it another name in the entry point and in its Algorithm.",
            )
        catalogue[entry.name] = _loaded(entry)
    return catalogue


def algorithm(name: str) -> Algorithm:
    """Return one algorithm.

    Raises
    ------
    KeyError
        If the catalogue does not have it.
    """
    return algorithms()[name]


def checked_names(model_names: Sequence[str] | None) -> list[str]:
    """Validate names of algorithms and drop duplicates; by default return all names.

    Raises
    ------
    InvalidDataError
        If the list is empty or a name is unknown.
    """
    if model_names is None:
        return list(algorithms())
    for position, name in enumerate(model_names):
        if name not in algorithms():
            raise InvalidDataError(
                f"There is no detector '{name}'.",
                field=f"model_names[{position}]",
                remedy=f"{_meant(name)}Detectors: {', '.join(algorithms())}.",
            )
    if not model_names:
        raise InvalidDataError(
            "No detector is named.", field="model_names", remedy="Leave it out to train all."
        )
    return list(dict.fromkeys(model_names))


def nearest_name(name: str) -> str | None:
    """Return the name of the algorithm that a wrong name means; None if it may be any."""
    wrong = name.lower()
    parts = [known for known in algorithms() if len(wrong) > 2 and wrong in known]
    near = get_close_matches(wrong, algorithms(), n=1) or (parts if len(parts) == 1 else [])
    return near[0] if near else None


def _meant(name: str) -> str:
    near = nearest_name(name)
    return f"Did you mean {near}? " if near else ""


def warm_up(*, to_fit: bool = False) -> None:
    """Compile every kernel, or load it from the cache, so that no score waits for it.

    May be called any number of times, from any thread.

    Parameters
    ----------
    to_fit : bool, default False
        Include the kernels that only training uses.
    """
    for name in COMPILED:
        import_module(f"vigie.detectors.compiled.{name}")
    for entry in algorithms().values():
        for module in (*entry.compiled, *(entry.compiled_to_fit if to_fit else ())):
            import_module(module)


def _loaded(entry: EntryPoint) -> Algorithm:
    try:
        loaded = entry.load()
    except (ImportError, AttributeError) as error:
        raise InvalidDataError(
            f"The detector '{entry.name}' cannot be loaded from {entry.value}: {error}.",
            field=GROUP,
            remedy="Repair or uninstall the distribution that names it.",
        ) from error
    if not isinstance(loaded, Algorithm) or loaded.name != entry.name:
        raise InvalidDataError(
            f"{entry.value} is no Algorithm with the name '{entry.name}'.",
            field=GROUP,
            remedy="Name an Algorithm of that name in the entry point.",
        )
    return loaded
