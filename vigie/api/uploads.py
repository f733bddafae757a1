"""A training whose rows are a file in the body; everything else stands in the address."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from vigie.api.bodies import LONGEST_WORD, word_of
from vigie.api.files import (
    EXTENSIONS,
    OPEN,
    check_words,
    kind_of,
    media_type_of,
    name_of,
    stated,
    too_often,
)
from vigie.errors import InvalidDataError
from vigie.faults import told
from vigie.models.training import UploadedFile
from vigie.services.inspection_process import actual_extension

MOST_NAMES = 1000
"""Values of a parameter that may come several times."""
WAIT = "wait"
_NAMES = {"type": "array", "items": {"type": "string"}}
PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    WAIT: (
        {"type": "boolean", "default": False},
        "Answer when the training has ended, with its outcome.",
    ),
    "model": (_NAMES, "Of a file: only this detector. May come several times."),
    "exclude": (_NAMES, "Of a file: a column that is not a feature, such as a label."),
    "feature": (_NAMES, "Of a file: exactly these columns."),
    "context": (_NAMES, "Of a file: a column that says how the machine is run."),
    "asset": ({"type": "string"}, "Of a file with several machines: the one to train on."),
    "rows": ({"type": "string"}, "Of a file: only these rows, such as 1:400."),
    "contamination": ({"type": "number"}, "With a file: the false-alarm rate of each model."),
}
"""What the address of a training may have, besides the options of ``inspect`` and hyper-parameters
such as ``lstm_autoencoder.epochs=50``."""
REPEATABLE = ("model", "exclude", "feature", "context")


def is_file(request: Request) -> bool:
    """Return whether the headers of a request declare a file rather than JSON."""
    return media_type_of(request) in (*EXTENSIONS, OPEN)


def uploaded(request: Request) -> UploadedFile:
    """Return what the headers and the address say of a file.

    Raises
    ------
    InvalidDataError
        If a parameter is unknown, or has no usable value.
    UnsupportedBody
        If the body is encoded.
    """
    query = request.query_params
    given = [name for name in dict.fromkeys(query.keys()) if "." in name]
    reading = stated(query, [*PARAMETERS, *given])
    parameters: dict[str, dict[str, Any]] = {}
    for place in given:
        detector, _, parameter = place.partition(".")
        parameters.setdefault(detector, {})[parameter] = _only(query, place)
    try:
        return UploadedFile(
            extension=kind_of(request),
            filename=name_of(query),
            reading=reading,
            rows=_only(query, "rows"),
            asset=_only(query, "asset"),
            model_names=_all(query, "model") or None,
            contamination=_share(query),
            parameters=parameters,
            **{name: _all(query, name) for name in REPEATABLE[1:]},
        )
    except ValidationError as error:
        raise _refused(error) from None


def with_kind(file: UploadedFile, body: bytes) -> UploadedFile:
    """Return a file whose first bytes may show what kind it is.

    Raises
    ------
    InvalidDataError
        If it is empty.
    """
    return file.model_copy(update={"extension": actual_extension(body, file.extension)})


def _refused(error: ValidationError) -> InvalidDataError:
    """Return the error for a name that the address has and no detector can have."""
    fault = error.errors(include_url=False)[0]
    named = [str(part)[:LONGEST_WORD] for part in fault["loc"] if part != "[key]"]
    return InvalidDataError(
        f"{told(fault)}.",
        field="model" if named[0] == "model_names" else ".".join(named[1:]) or named[0],
        remedy="Write a detector as model=isolation_forest, and its hyper-parameter as "
        "isolation_forest.n_estimators=100.",
    )


def _only(query: QueryParams, name: str) -> str | None:
    if (word := word_of(query, name)) is not None:
        check_words(name, [word])
    return word


def _all(query: QueryParams, name: str) -> list[str]:
    values = query.getlist(name)
    check_words(name, values)
    if len(values) > MOST_NAMES:
        raise too_often(name, len(values), MOST_NAMES)
    return values


def _share(query: QueryParams) -> float | None:
    if (word := _only(query, "contamination")) is None:
        return None
    try:
        share = float(word)
    except ValueError:
        share = 0.0
    if not 1e-9 <= share < 0.5:
        raise InvalidDataError(
            f"A share from 0.000000001 to 0.5 is expected, but it is {word[:40]!r}.",
            field="contamination",
            remedy="For example 0.01.",
        )
    return share
