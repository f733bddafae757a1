"""Which versions there are, which one serves, and how it is opened: as data, from a local copy.

Versions are moved between stages by ``vigie.tracking.stages``.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
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
from vigie.tracking import artifacts
from vigie.tracking.flavors import SERVING
from vigie.tracking.server import Server

logger = logging.getLogger(__name__)

STAGES = ("None", "Staging", "Production", "Archived")
ALIASED = ("Staging", "Production")
ASKED = "vigie.asked_ms"
PROMOTED = "vigie.promoted_ms"
MOST_AT_ONCE = "1000"
DOWNLOAD_REMEDY = "See `vigie models list`; `vigie doctor` checks whether artifacts are readable."


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes
    ----------
    name : str
        The registered model.
    version : int
        Counted from 1.
    stage : str
        'None', 'Staging', 'Production' or 'Archived', from stage and alias alike.
    run_id : str or None
        The run that made it.
    created_ms : int
        Unix time in milliseconds.
    card_sha256 : str or None
        Content hash of its serving form; None if it was made by another tool.
    promoted_ms : int or None
        When Vigie put it into Production; 0 if it has been rolled back since, None if never.
    updated_ms : int
        When its stage, among other things, was changed last, by whatever tool.
    asked_ms : int or None
        When its training asked for a stage, if it did.
    """

    name: str
    version: int
    stage: str
    run_id: str | None
    created_ms: int
    card_sha256: str | None
    promoted_ms: int | None
    updated_ms: int = 0
    asked_ms: int | None = None

    @property
    def decided_ms(self) -> int:
        """When it was decided that it is in its stage, which may be long before it got there."""
        if self.asked_ms and self.promoted_ms in (None, self.asked_ms):
            return self.asked_ms
        return max(self.promoted_ms or 0, self.updated_ms)


def versions(server: Server, name: str) -> list[Version]:
    """Return all versions of a model, newest first; empty if there is no such model."""
    listed, aliases = recorded(server, name)
    return merged(listed, aliases)


def recorded(server: Server, name: str) -> tuple[list[Version], dict[str, int]]:
    """Return all versions of a model, newest first, and the number that each alias names.

    Each version is in the stage that the registry says, whatever the aliases say.
    """
    # Asked first, since an absent server should not even cost the import of MLflow.
    server.require()
    try:
        facts = _asked_by_rest if server.speaks_rest else _asked_by_client
        listed, aliases = facts(server, name)
    except ModelNotFoundError:
        return [], {}
    except (KeyError, TypeError, ValueError) as error:
        raise TrackingError(
            f"What answers at {server.masked_uri} does not answer as MLflow does: {error!r}.",
            remedy="`vigie doctor` checks the server step by step.",
        ) from error
    listed.sort(key=lambda version: -version.version)
    return listed, {alias.lower(): number for alias, number in aliases.items()}


def merged(listed: list[Version], aliases: Mapping[str, int]) -> list[Version]:
    """Return versions in the stages that they have by stage and alias together."""
    for stage in ALIASED:
        listed = _with_alias(listed, stage, aliases.get(stage.lower()))
    return listed


def pick(
    server: Server, name: str, *, stage: str | None = None, version: int | str | None = None
) -> Version:
    """Return one version: by number, the newest in a stage, or else the one that serves.

    The one that serves is the newest in Production, or the newest of all where none is.

    Raises
    ------
    ModelNotFoundError
        If there is no such version; the message says which there are.
    """
    return choose(versions(server, name), name, stage=stage, version=version)


def choose(
    found: Sequence[Version],
    name: str,
    *,
    stage: str | None = None,
    version: int | str | None = None,
) -> Version:
    """Return one of the versions found; see ``pick``."""
    if version is not None:
        chosen = [item for item in found if str(item.version) == str(version)]
        wanted = f"version {version}"
    elif stage is not None:
        stage = stage_name(stage)
        chosen = [item for item in found if item.stage == stage]
        wanted = f"version in stage {stage}"
    else:
        chosen = [item for item in found if item.stage == "Production"] or [
            item for item in found if item.stage != "Archived"
        ]
        wanted = "version"
    if not chosen:
        there = ", ".join(f"{item.version} ({item.stage})" for item in found) or "none"
        raise ModelNotFoundError(
            f"The registry has no {wanted} of '{name}'.",
            field="version" if version is not None else "stage",
            remedy=f"Versions there: {there}."
            + ("" if found else f" Train '{name}' first: a training makes a version."),
        )
    return chosen[0]


def stage_name(stage: str) -> str:
    """Return a stage as MLflow spells it, whatever its case.

    Raises
    ------
    ModelNotFoundError
        If there is no such stage.
    """
    for known in STAGES:
        if stage.lower() == known.lower():
            return known
    raise ModelNotFoundError(
        f"There is no stage '{stage}'.", field="stage", remedy=f"Stages: {', '.join(STAGES)}."
    )


def measured(server: Server, version: Version) -> tuple[str | None, dict[str, float]]:
    """Return the name and the metrics of the run that made a version; none if it is gone."""
    if version.run_id is None:
        return None, {}
    try:
        if server.speaks_rest:
            run = server.ask("runs/get", run_id=version.run_id)["run"]
            metrics = {item["key"]: float(item["value"]) for item in run["data"].get("metrics", [])}
            return run["info"].get("run_name"), metrics
        found = server.call(server.client.get_run, version.run_id)
        return found.info.run_name, dict(found.data.metrics)
    except ModelNotFoundError:
        return None, {}


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
        uri = _download_uri(server, version)
        return mlflow.pyfunc.load_model(artifacts.download(server, uri, Path(scratch)))


def _asked_by_rest(server: Server, name: str) -> tuple[list[Version], dict[str, int]]:
    """Return the versions of a model, each in its own stage, and the aliases.

    In this order: of a move under way meanwhile the answer then holds more than was, never less.
    """
    found: list[dict[str, Any]] = []
    page: dict[str, str] = {}
    while True:
        query = {"filter": f"name='{name}'", "max_results": MOST_AT_ONCE, **page}
        answer = server.ask("model-versions/search", **query)
        found += answer.get("model_versions", [])
        if not (token := answer.get("next_page_token")):
            break
        page = {"page_token": token}
    model = server.ask("registered-models/get", name=name)["registered_model"]
    listed = [
        _version(
            name,
            item["version"],
            item.get("current_stage"),
            item.get("run_id"),
            item.get("creation_timestamp"),
            {tag["key"]: tag.get("value", "") for tag in item.get("tags", [])},
            item.get("last_updated_timestamp"),
        )
        for item in found
    ]
    return listed, {item["alias"]: int(item["version"]) for item in model.get("aliases", [])}


def _asked_by_client(server: Server, name: str) -> tuple[list[Version], dict[str, int]]:
    """Return the same from what only MLflow's client can ask, such as a database."""
    client = server.client
    found = server.call(client.search_model_versions, f"name='{name}'")
    model = server.call(client.get_registered_model, name)
    listed = [
        _version(
            name,
            item.version,
            item.current_stage,
            item.run_id,
            item.creation_timestamp,
            item.tags,
            item.last_updated_timestamp,
        )
        for item in found
    ]
    return listed, {alias: int(number) for alias, number in (model.aliases or {}).items()}


def _version(
    name: str,
    number: int | str,
    stage: str | None,
    run_id: str | None,
    created_ms: int | str | None,
    tags: Mapping[str, str],
    updated_ms: int | str | None,
) -> Version:
    return Version(
        name=name,
        version=int(number),
        stage=stage or "None",
        run_id=run_id or None,
        created_ms=int(created_ms or 0),
        card_sha256=tags.get("vigie.card_sha256"),
        promoted_ms=moment_of(tags.get(PROMOTED)),
        asked_ms=moment_of(tags.get(ASKED)),
        updated_ms=int(updated_ms or 0),
    )


def moment_of(tag: str | None) -> int | None:
    """Return the milliseconds that a tag holds, or None; anybody may write anything there."""
    return int(tag) if tag and tag.isascii() and tag.isdigit() and len(tag) < 16 else None


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
            uri = f"{_download_uri(server, version)}/{SERVING}"
            fetched = artifacts.fetch(server, uri, (CARD, ARRAYS), Path(scratch))
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


def _download_uri(server: Server, version: Version) -> str:
    """Return where the artifacts of a version lie."""
    number = str(version.version)
    if server.speaks_rest:
        endpoint = "model-versions/get-download-uri"
        return str(server.ask(endpoint, name=version.name, version=number)["artifact_uri"])
    return str(server.call(server.client.get_model_version_download_uri, version.name, number))


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


def _with_alias(listed: list[Version], stage: str, number: int | None) -> list[Version]:
    """Return versions with a stage given to the holder of its alias, if that was said later.

    We move stage and alias together; other tools move one of them. If the stage still lies where
    we put it last, it is the alias that has been moved since; else it is the stage. Of several
    in the stage, where MLflow's client leaves them unless told to archive, it is the last to come.
    """
    holder = next((version for version in listed if version.version == number), None)
    there = [version for version in listed if version.stage == stage]
    staged = max(there, key=lambda version: version.updated_ms, default=None)
    if holder is None:
        return listed
    if holder.stage != stage:
        if staged is not None and (staged.promoted_ms or 0) < (holder.promoted_ms or 0):
            return listed
    elif staged is not None and staged.updated_ms > holder.updated_ms:
        holder = staged
    return [
        replace(version, stage=stage)
        if version is holder
        else replace(version, stage="None" if version.stage == stage else version.stage)
        for version in listed
    ]
