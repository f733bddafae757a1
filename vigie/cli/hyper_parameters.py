"""The hyper-parameters of one training, from options."""

from __future__ import annotations

from collections.abc import Sequence

from vigie.errors import InvalidDataError

OPTION = "--param"


def by_detector(words: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return hyper-parameters by detector.

    Parameters
    ----------
    words : sequence of str
        Such as ``epochs=50``, or ``lstm_autoencoder.epochs=50``.
    names : sequence of str
        The detectors that are trained.

    Raises
    ------
    InvalidDataError
        If one is none of a detector that is trained, or is given twice.
    """
    from vigie.detectors.catalogue import algorithms
    from vigie.faults import nearest

    found: dict[str, dict[str, str]] = {}
    for word in words:
        place, equals, value = word.partition("=")
        detector, dot, parameter = place.strip().rpartition(".")
        if not (equals and value.strip()):
            raise InvalidDataError(
                f"{word!r} gives no value.", field=OPTION, remedy="Write it as epochs=50."
            )
        detectors = [detector] if dot else [n for n in names if parameter in _own(n)]
        if not detectors:
            of_others = [name for name in algorithms() if parameter in _own(name)]
            known = [name for detector in names for name in _own(detector)]
            raise InvalidDataError(
                f"No detector that is trained has a parameter {parameter!r}.",
                field=OPTION,
                remedy=f"It belongs to {', '.join(of_others)}."
                if of_others
                else "Give it as --contamination."
                if parameter == "contamination"
                else nearest(parameter, known),
            )
        for name in detectors:
            if parameter in found.setdefault(name, {}):
                raise InvalidDataError(
                    f"{name}.{parameter} is given twice.", field=OPTION, remedy="Give it once."
                )
            found[name][parameter] = value.strip()
    return found


def _own(detector: str) -> list[str]:
    from vigie.detectors.catalogue import algorithms

    entry = algorithms().get(detector)
    return [] if entry is None else entry.own_parameters


def as_options(error: InvalidDataError) -> InvalidDataError:
    """Return an error of ``checked_parameters`` with its place as an option."""
    field = error.field or ""
    if field == "contamination":
        field = "--contamination"
    elif "." in field:
        field = f"{OPTION} {field}"
    remedy = (error.remedy or "").replace("model_names", "--model")
    remedy = remedy.replace("contamination beside parameters", "--contamination")
    return InvalidDataError(error.message, field=field, remedy=remedy)
