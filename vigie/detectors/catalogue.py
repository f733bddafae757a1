"""The catalogue of algorithms: the one table that names them.

A line here, or an entry point of the group ``vigie.detectors`` in another distribution, is all
that an algorithm needs to be trained, registered, served, and listed by the API and the command
line. Both name an ``Algorithm`` as ``module:attribute``::

    [project.entry-points."vigie.detectors"]
    mahalanobis = "my_package.mahalanobis:ALGORITHM"
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from vigie.detectors.base import Algorithm
from vigie.errors import InvalidDataError

GROUP = "vigie.detectors"
BUILT_IN = {
    "isolation_forest": "vigie.detectors.isolation_forest:ALGORITHM",
    "one_class_svm": "vigie.detectors.one_class_svm:ALGORITHM",
    "lstm_autoencoder": "vigie.detectors.lstm_autoencoder:ALGORITHM",
}
COMPILED = ("averaging", "evidence", "odds", "rows")
"""Modules of ``vigie.detectors.compiled`` that every algorithm needs."""


@cache
def algorithms() -> dict[str, Algorithm]:
    """Return every algorithm by its name, those of other distributions after our own.

    Raises
    ------
    InvalidDataError
        If an entry point cannot be loaded, is no algorithm of that name, or takes the name of
        another.
    """
    found: dict[str, Algorithm] = {}
    built_in = [EntryPoint(name, line, GROUP) for name, line in BUILT_IN.items()]
    for line in (*built_in, *entry_points(group=GROUP)):
        if line.name in found:
            raise InvalidDataError(
                f"There are two detectors with the name '{line.name}'; one is {line.value}.",
                field=GROUP,
                remedy="Give it another name in the entry point and in its Algorithm.",
            )
        found[line.name] = _loaded(line)
    return found


def algorithm(name: str) -> Algorithm:
    """Return one algorithm.

    Raises
    ------
    KeyError
        If the catalogue has no such name.
    """
    return algorithms()[name]


def checked_names(model_names: Sequence[str] | None) -> list[str]:
    """Return the names of some algorithms, each once; by default of all.

    Raises
    ------
    InvalidDataError
        If none is named, or one that there is not.
    """
    if model_names is None:
        return list(algorithms())
    for position, name in enumerate(model_names):
        if name not in algorithms():
            raise InvalidDataError(
                f"There is no detector '{name}'.",
                field=f"model_names[{position}]",
                remedy=f"Detectors: {', '.join(algorithms())}.",
            )
    if not model_names:
        raise InvalidDataError(
            "No detector is named.", field="model_names", remedy="Leave it out to train all."
        )
    return list(dict.fromkeys(model_names))


def warm_up(*, to_fit: bool = False) -> None:
    """Compile every kernel, or read what was compiled before, so that no score waits for it.

    May be called any number of times, from any thread.

    Parameters
    ----------
    to_fit : bool, default False
        Also those that only training takes.
    """
    for name in COMPILED:
        import_module(f"vigie.detectors.compiled.{name}")
    for entry in algorithms().values():
        for module in (*entry.compiled, *(entry.compiled_to_fit if to_fit else ())):
            import_module(module)


def _loaded(line: EntryPoint) -> Algorithm:
    try:
        found = line.load()
    except (ImportError, AttributeError) as error:
        raise InvalidDataError(
            f"The detector '{line.name}' cannot be loaded from {line.value}: {error}.",
            field=GROUP,
            remedy="Repair or uninstall the distribution that names it.",
        ) from error
    if not isinstance(found, Algorithm) or found.name != line.name:
        raise InvalidDataError(
            f"{line.value} is no Algorithm with the name '{line.name}'.",
            field=GROUP,
            remedy="Name an Algorithm of that name in the entry point.",
        )
    return found
