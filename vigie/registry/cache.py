"""Versions of models, opened as data from a copy on this machine."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from string import hexdigits
from typing import Any

from vigie.detectors.trained import ARRAYS, CARD, TrainedModel
from vigie.errors import (
    ModelNotFoundError,
    ModelRefusedError,
    TrackingError,
    TrackingUnavailableError,
)
from vigie.registry.client import download
from vigie.registry.lookup import registry_of
from vigie.registry.server import Server
from vigie.registry.version import SERVING, Version

logger = logging.getLogger(__name__)

DOWNLOAD_REMEDY = "See `vigie models list`; `vigie doctor` checks whether artifacts are readable."


def open_version(server: Server, version: Version, cache: Path) -> TrainedModel:
    """Open the serving form of a version, fetched once and kept.

    Raises
    ------
    ModelRefusedError
        If it has no serving form, or a damaged one.
    """
    if version.card_sha256 is None:
        raise ModelRefusedError(
            f"Version {version.version} of '{version.name}' has no serving form: it is a pickle, "
            "and opening it would run whatever its maker put there.",
            field="version",
            remedy="If you trust its maker, call load_model(..., allow_pickle=True).",
        )
    folder = _place(cache, version.name, version.version, version.card_sha256)
    if folder.exists():
        try:
            return _opened(version, folder)
        except ModelRefusedError as error:
            logger.warning("The local copy is fetched again. %s", error)
            _discard(folder)
    who = f"'{version.name}' version {version.version}"
    remedy = "Make room on the disk, or set VIGIE_STATE_DIR to a folder that can be written."
    try:
        return _fetched(server, version, folder)
    except OSError as error:
        logger.warning("%s is not kept: %s. %s", who, error, remedy)
    try:
        with tempfile.TemporaryDirectory(prefix="vigie-") as scratch:
            return _fetched(server, version, Path(scratch) / folder.name)
    except OSError as error:
        raise ModelRefusedError(
            f"{who} cannot be fetched: {error.strerror}.", remedy=remedy
        ) from error


def open_kept(version: Version, cache: Path) -> TrainedModel:
    """Open the serving form of a version that was fetched before, without asking the server.

    Raises
    ------
    ModelRefusedError
        If it is not there, or damaged.
    """
    return _opened(version, _place(cache, version.name, version.version, version.card_sha256 or ""))


def keep(cache: Path, name: str, version: int, card_sha256: str, serving_form: Path) -> None:
    """Copy the serving form of a version that was trained here, which saves fetching it."""
    folder = _place(cache, name, version, card_sha256)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".keep-", dir=folder.parent) as scratch:
        copied = Path(scratch) / SERVING
        shutil.copytree(serving_form, copied)
        _put_in_place(copied, folder)


def open_foreign(server: Server, version: Version) -> Any:
    """Open a version through MLflow's own loader, which runs the code of whoever made it."""
    import mlflow.pyfunc

    with tempfile.TemporaryDirectory(prefix="vigie-") as scratch, _readable(version):
        uri = registry_of(server).artifacts_of(version)
        return mlflow.pyfunc.load_model(str(download(server, uri, Path(scratch))))


def _place(cache: Path, name: str, version: int, card_sha256: str) -> Path:
    """Return where a serving form is kept.

    Raises
    ------
    ModelRefusedError
        If what the registry says would lead out of there.
    """
    is_hash = len(card_sha256) == 64 and not set(card_sha256) - set(hexdigits)
    if not is_hash or name in ("", ".", "..") or set(name) & {"/", "\\", "\0"}:
        raise ModelRefusedError(
            f"Version {version} of {name!r} is registered with the hash {card_sha256[:80]!r}, "
            "which is none.",
            remedy="Somebody has written it by hand; train the model again.",
        )
    return cache / name / f"{version}-{card_sha256[:16]}"


def _opened(version: Version, folder: Path) -> TrainedModel:
    """Open a folder, if it holds what was registered."""
    who = f"'{version.name}' version {version.version}"
    try:
        card = (folder / CARD).read_bytes()
    except OSError as error:
        raise ModelRefusedError(f"{who} is not kept here: {error}.") from error
    if hashlib.sha256(card).hexdigest() != version.card_sha256:
        raise ModelRefusedError(
            f"The card of {who} is not the one registered.",
            remedy="It is damaged, or has been replaced: train the model again.",
        )
    try:
        return TrainedModel.load(folder)
    except ModelRefusedError as error:
        raise ModelRefusedError(f"{who}: {error.message}", remedy=error.remedy) from error


def _fetched(server: Server, version: Version, folder: Path) -> TrainedModel:
    """Open what the artifact store holds, and keep it if it is what was registered."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as scratch:
        with _readable(version):
            registry = registry_of(server)
            uri = f"{registry.artifacts_of(version)}/{SERVING}"
            fetched = registry.fetch(uri, (CARD, ARRAYS), Path(scratch))
        model = _opened(version, fetched)
        _put_in_place(fetched, folder)
    return model


def _discard(folder: Path) -> None:
    """Remove a copy, in one step for whoever looks at it meanwhile."""
    scratch = tempfile.TemporaryDirectory(prefix=".damaged-", dir=folder.parent)
    with scratch as path, suppress(OSError):
        folder.rename(Path(path) / folder.name)


def _put_in_place(fetched: Path, folder: Path) -> None:
    try:
        fetched.rename(folder)
    except OSError:
        # Another process fetched the same version meanwhile; its copy is as good as ours.
        if not folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def _readable(version: Version) -> Iterator[None]:
    """Say which version it is whose artifacts cannot be read."""
    try:
        yield
    except TrackingUnavailableError:
        raise
    except (TrackingError, ModelNotFoundError) as error:
        raise ModelRefusedError(
            f"The artifacts of '{version.name}' version {version.version} cannot be read: "
            f"{error.message}",
            remedy=DOWNLOAD_REMEDY,
        ) from error
