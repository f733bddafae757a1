"""Models in a folder, each by its registered name: for use without a registry.

A folder holds serving forms, which are data: opening them runs no code.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vigie.detectors.catalogue import algorithms
from vigie.detectors.trained import CARD, TrainedModel
from vigie.errors import InvalidDataError, ModelRefusedError
from vigie.serving.served import Served


def save(models: Iterable[TrainedModel], folder: Path) -> None:
    """Write models into a folder; those of the same names there are replaced.

    Raises
    ------
    InvalidDataError
        If a file cannot be written.
    """
    for model in models:
        try:
            model.save(folder / model.algorithm)
        except OSError as error:
            raise InvalidDataError(
                f"{model.algorithm} cannot be saved in {folder} ({error.strerror}).",
                remedy="Give a folder on a disk with space, and the right to write there.",
            ) from error


def load(folder: Path) -> dict[str, Served]:
    """Open the models in a folder.

    Raises
    ------
    InvalidDataError
        If there is no such folder, or no model in it.
    ModelRefusedError
        If a model is damaged, or of an unknown format.
    """
    served = {}
    for name in algorithms():
        if not (folder / name / CARD).is_file():
            continue
        try:
            model = TrainedModel.load(folder / name)
        except ModelRefusedError as error:
            error.message = f"{folder / name}: {error.message}"
            raise
        if model.algorithm != name:
            raise ModelRefusedError(
                f"{folder / name} holds a model of {model.algorithm}.",
                remedy=f"Name its folder {model.algorithm}.",
            )
        served[name] = Served(model)
    if not served:
        what = f"no saved model in {folder}" if folder.is_dir() else f"no folder {folder}"
        raise InvalidDataError(
            f"There is {what}.",
            remedy="Give a folder that `vigie train FILE --save FOLDER` has written.",
        )
    return served
