"""Open versions of models as data, from a local cache."""

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
from vigie.state import make_private

logger = logging.getLogger(__name__)

DOWNLOAD_REMEDY = "See `vigie models list`; `vigie doctor` checks whether artifacts can be read."


def open_version(server: Server, version: Version, cache: Path) -> TrainedModel:
    """Open the serving form of a version; it is downloaded once and cached.

    Raises
    ------
    ModelRefusedError
        If it has no serving form, or a damaged one.
    """
    if version.card_sha256 is None:
        raise ModelRefusedError(
            f"Version {version.version} of '{version.name}' has no serving form: it is a pickle, "
            "and opening it could run any code.",
            field="version",
            remedy="If you trust its author, call load_model(..., allow_pickle=True).",
        )
    folder = _cache_folder(cache, version.name, version.version, version.card_sha256)
    if folder.exists():
        try:
            return _open(version, folder)
        except ModelRefusedError as error:
            logger.warning("The cached copy is damaged and is downloaded again. %s", error)
            _discard(folder)
    label = f"'{version.name}' version {version.version}"
    remedy = "Free disk space, or set VIGIE_STATE_DIR to a writable folder."
    try:
        return _fetch(server, version, folder)
    except OSError as error:
        logger.warning("%s is not cached: %s. %s", label, error, remedy)
    try:
        with tempfile.TemporaryDirectory(prefix="vigie-") as scratch:
            return _fetch(server, version, Path(scratch) / folder.name)
    except OSError as error:
        raise ModelRefusedError(
            f"{label} cannot be downloaded: {error.strerror}.", remedy=remedy
        ) from error


def open_cached(version: Version, cache: Path) -> TrainedModel:
    """Open the serving form of a version from the cache, without a request to the server.

    Raises
    ------
    ModelRefusedError
        If it is not cached, or damaged.
    """
    card_sha256 = version.card_sha256 or ""
    return _open(version, _cache_folder(cache, version.name, version.version, card_sha256))


def store(cache: Path, name: str, version: int, card_sha256: str, serving_form: Path) -> None:
    """Copy the serving form of a version that was trained here to the cache."""
    folder = _cache_folder(cache, name, version, card_sha256)
    make_private(folder.parent)
    with tempfile.TemporaryDirectory(prefix=".keep-", dir=folder.parent) as scratch:
        copied = Path(scratch) / SERVING
        shutil.copytree(serving_form, copied)
        _put_in_place(copied, folder)


def open_foreign(server: Server, version: Version) -> Any:
    """Open a version with MLflow's loader, which may run any code that its author put there."""
    import mlflow.pyfunc

    with tempfile.TemporaryDirectory(prefix="vigie-") as scratch, _download_errors(version):
        uri = registry_of(server).artifact_uri(version)
        return mlflow.pyfunc.load_model(str(download(server, uri, Path(scratch))))


def _cache_folder(cache: Path, name: str, version: int, card_sha256: str) -> Path:
    """Return the folder of a serving form in the cache.

    Raises
    ------
    ModelRefusedError
        If the name or hash in the registry is invalid: it could point outside the cache.
    """
    is_hash = len(card_sha256) == 64 and not set(card_sha256) - set(hexdigits)
    if not is_hash or name in ("", ".", "..") or set(name) & {"/", "\\", "\0"}:
        raise ModelRefusedError(
            f"Version {version} of {name!r} is registered with {card_sha256[:80]!r}, which is not "
            "a SHA-256 hash.",
            remedy="The tag was edited by hand; train the model again.",
        )
    return cache / name / f"{version}-{card_sha256[:16]}"


def _open(version: Version, folder: Path) -> TrainedModel:
    """Open a serving form, after a check of its hash."""
    label = f"'{version.name}' version {version.version}"
    try:
        card = (folder / CARD).read_bytes()
    except OSError as error:
        raise ModelRefusedError(f"{label} is not cached: {error}.") from error
    if hashlib.sha256(card).hexdigest() != version.card_sha256:
        raise ModelRefusedError(
            f"The card of {label} is not the one registered.",
            remedy="It is damaged, or has been replaced: train the model again.",
        )
    try:
        return TrainedModel.load(folder)
    except ModelRefusedError as error:
        raise ModelRefusedError(f"{label}: {error.message}", remedy=error.remedy) from error


def _fetch(server: Server, version: Version, folder: Path) -> TrainedModel:
    """Download and open a serving form, and cache it if its hash is the registered one."""
    make_private(folder.parent)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as scratch:
        with _download_errors(version):
            registry = registry_of(server)
            uri = f"{registry.artifact_uri(version)}/{SERVING}"
            fetched = registry.fetch(uri, (CARD, ARRAYS), Path(scratch))
        model = _open(version, fetched)
        _put_in_place(fetched, folder)
    return model


def _discard(folder: Path) -> None:
    """Remove a cached copy; the rename makes it disappear in one step for other processes."""
    scratch = tempfile.TemporaryDirectory(prefix=".damaged-", dir=folder.parent)
    with scratch as path, suppress(OSError):
        folder.rename(Path(path) / folder.name)


def _put_in_place(fetched: Path, folder: Path) -> None:
    try:
        fetched.rename(folder)
    except OSError:
        # Another process may have cached the same version meanwhile; its copy is equal.
        if not folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def _download_errors(version: Version) -> Iterator[None]:
    """Turn errors of a download into a ``ModelRefusedError`` that names the version."""
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
