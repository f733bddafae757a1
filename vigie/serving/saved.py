"""Models in a folder, each by its algorithm: for use without a registry.

A folder holds serving forms, which are data: opening them runs no code. Models that answer for one
asset are in a folder of its name below.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vigie.detectors.catalogue import algorithms
from vigie.detectors.trained import CARD, TrainedModel
from vigie.errors import InvalidDataError, ModelRefusedError
from vigie.registry.scopes import EVERYTHING, slug
from vigie.serving.served import Served
from vigie.serving.trial import require_verdicts


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


def folder_of(scope: str, folder: Path) -> Path:
    """Return the folder with the models that answer for a scope."""
    return folder if scope == EVERYTHING else folder / slug(scope)


def algorithms_in(folder: Path) -> list[str]:
    """Return the algorithms of which a folder has a model itself."""
    return [name for name in algorithms() if (folder / name / CARD).is_file()]


def folders_of_assets(folder: Path) -> list[Path]:
    """Return the folders below with models that answer for one asset."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and algorithms_in(path))


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
    for name in algorithms_in(folder):
        try:
            model = TrainedModel.load(folder / name)
            require_verdicts(model)
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
