"""Versions of registered models, their stages, and the choice of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vigie.detectors.catalogue import algorithms, nearest_name
from vigie.errors import ModelNotFoundError
from vigie.registry.scopes import MARK

STAGES = ("None", "Staging", "Production", "Archived")
ALIASED = ("Staging", "Production")
ASKED = "vigie.asked_ms"
PROMOTED = "vigie.promoted_ms"
TRAINED = "vigie.trained_ms"
HISTORY = "vigie.history."
"""Prefix of the tags that record moves; see ``vigie.registry.history``."""
MOST_VERSION, END_MS = 2**31 - 1, 253_402_300_800_000
"""The largest number of a version, and the end of the year 9999."""
SERVING = "serving"
"""Artifact folder with the serving form of a version."""


@dataclass(frozen=True)
class Run:
    """A run as its version shows it: its ids, its name, and what it logged."""

    run_id: str
    experiment_id: str
    name: str | None
    metrics: Mapping[str, float]
    params: Mapping[str, str]


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
        'None', 'Staging', 'Production' or 'Archived', from stage and alias together.
    run_id : str or None
        The run that made it.
    created_ms : int
        Unix time in milliseconds.
    card_sha256 : str or None
        Content hash of its serving form; None if another tool made it.
    promoted_ms : int or None
        When Vigie moved it to Production; 0 if it has been rolled back since, None if never.
    updated_ms : int
        When any tool last changed it, such as its stage.
    asked_ms : int or None
        When its training requested a stage, if it did.
    trained_ms : int or None
        When its training ended, which may be long before ``created_ms``; None if another tool made
        it.
    history : tuple of (str, str)
        The tags that record its moves, and what they hold; see ``vigie.registry.history``. Two
        versions are equal without them.
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
    trained_ms: int | None = None
    history: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def from_registry(
        cls,
        name: str,
        number: int | str,
        stage: str | None,
        run_id: str | None,
        created_ms: int | str | None,
        tags: Mapping[str, str],
        updated_ms: int | str | None,
    ) -> Version:
        """Return a version from the fields of the registry.

        Raises
        ------
        TypeError, ValueError
            If a field is of another type, or beyond what MLflow writes.
        """
        texts = [stage or "None", run_id or "", *tags, *tags.values()]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"version {number} has fields that should be text")
        if not 1 <= int(number) <= MOST_VERSION:
            raise ValueError(f"{number} is no number of a version")
        return cls(
            name=name,
            version=int(number),
            stage=stage or "None",
            run_id=run_id or None,
            created_ms=_time_ms(created_ms),
            card_sha256=tags.get("vigie.card_sha256"),
            promoted_ms=parse_ms(tags.get(PROMOTED)),
            asked_ms=parse_ms(tags.get(ASKED)),
            trained_ms=parse_ms(tags.get(TRAINED)),
            updated_ms=_time_ms(updated_ms),
            history=tuple(pair for pair in tags.items() if pair[0].startswith(HISTORY)),
        )

    @property
    def decided_ms(self) -> int:
        """When its present stage was requested, which may be long before the move."""
        if self.asked_ms and self.promoted_ms in (None, self.asked_ms):
            return self.asked_ms
        return max(self.promoted_ms or 0, self.updated_ms)


def choose(
    versions: Sequence[Version],
    name: str,
    *,
    stage: str | None = None,
    version: int | str | None = None,
) -> Version:
    """Return one of the versions of a model; see ``lookup.pick``."""
    if not versions and name.partition(MARK)[0] not in algorithms():
        raise unknown_model(name)
    if version is not None:
        matches = [item for item in versions if str(item.version) == str(version)]
        wanted = f"version {version}"
    elif stage is not None:
        stage = stage_name(stage)
        matches = [item for item in versions if item.stage == stage]
        wanted = f"version in stage {stage}"
    else:
        matches = [item for item in versions if item.stage == "Production"] or [
            item for item in versions if item.stage != "Archived"
        ]
        wanted = "version"
    if not matches:
        field = "version" if version is not None else stage and "stage"
        raise ModelNotFoundError(
            f"No version of '{name}' serves: {archived(versions)}."
            if versions and field is None
            else f"The registry has no {wanted} of '{name}'.",
            field=field,
            remedy=_remedy(versions, name, field, stage),
        )
    return matches[0]


def in_stage(versions: Sequence[Version], stage: str) -> Version | None:
    """Return the first of these versions that is in a stage; None if none is."""
    return next((version for version in versions if version.stage == stage), None)


def require_model(name: str) -> None:
    """Raise if no model that serves can have this name.

    Raises
    ------
    ModelNotFoundError
        With the name that is meant.
    """
    if name in algorithms():
        return
    # Nor one of a single asset.
    near = nearest_name(name.partition(MARK)[0])
    raise ModelNotFoundError(
        f"There is no model '{name[:200]}' that serves.", field="name", remedy=_detectors(near)
    )


def unknown_model(name: str) -> ModelNotFoundError:
    """Return the error for a name that no model has."""
    return ModelNotFoundError(
        f"There is no model '{name[:200]}' in the registry.", field="name", remedy=_meant(name)
    )


def by_names(names: Sequence[str]) -> str:
    """Return MLflow's filter for the models with these names."""
    return _one_of("name", names)


def by_run_ids(run_ids: Sequence[str]) -> str:
    """Return MLflow's filter for the runs with these ids."""
    return _one_of("run_id", run_ids)


def _one_of(field: str, values: Sequence[str]) -> str:
    return f"{field} IN (" + ", ".join(f"'{value}'" for value in values) + ")"


def archived(versions: Sequence[Version]) -> str:
    """Say that these versions are archived, as a part of a sentence."""
    if len(versions) == 1:
        return f"version {versions[0].version} is archived"
    newest = max(version.version for version in versions)
    return f"all {len(versions)} versions are archived, the newest is {newest}"


def best(versions: Sequence[Version]) -> Version:
    """Return the version to bring back: the last in Production, else the newest.

    One that was rolled back comes last.
    """
    return max(versions, key=lambda v: (v.promoted_ms != 0, v.promoted_ms or 0, v.version))


def stage_name(stage: str) -> str:
    """Return a stage in MLflow's spelling; case is ignored.

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


def apply_aliases(versions: list[Version], aliases: Mapping[str, int]) -> list[Version]:
    """Return versions with the stages that follow from stage and alias together."""
    for stage in ALIASED:
        versions = _apply_alias(versions, stage, aliases.get(stage.lower()))
    return versions


def _time_ms(field: int | str | None) -> int:
    if not 0 <= (time := int(field or 0)) < END_MS:
        raise ValueError(f"{time} is no time")
    return time


def parse_ms(tag: str | None) -> int | None:
    """Return the milliseconds in a tag; None if it holds anything else, since users can edit it."""
    return int(tag) if tag and tag.isascii() and tag.isdigit() and len(tag) < 16 else None


def _remedy(versions: Sequence[Version], name: str, field: str | None, stage: str | None) -> str:
    """Return what helps where a version is not found, if possible as a command."""
    if not versions:
        return f"Existing versions: none. Train '{name}' first: a training makes a version."
    number = best(versions).version
    command = f"vigie models promote {name} {number}"
    if field is None:
        return f"`{command}` brings version {number} back."
    existing = ", ".join(f"{item.version} ({item.stage})" for item in versions)
    if field == "version" or stage not in ALIASED:
        return f"Existing versions: {existing}."
    command += "" if stage == "Production" else f" --stage {stage}"
    return f"Existing versions: {existing}. `{command}` moves version {number} there."


def _meant(name: str) -> str:
    """Return the remedy for a name that is no algorithm's, with or without an asset."""
    algorithm, mark, asset = name.partition(MARK)
    near = nearest_name(algorithm) if algorithm not in algorithms() else None
    return _detectors(near and f"{near}{mark}{asset}")


def _detectors(near: str | None) -> str:
    """Return the remedy that names all detectors, and first the name that is meant, if any."""
    meant = f'Did you mean "{near}"? ' if near else ""
    return f"{meant}Detectors: {', '.join(algorithms())}."


def _apply_alias(versions: list[Version], stage: str, number: int | None) -> list[Version]:
    """Return versions with the stage moved to the holder of its alias, if the alias is newer.

    Vigie moves stage and alias together; other tools move one of them. If the stage is still where
    Vigie put it last, the alias has been moved since; otherwise the stage has. MLflow's client may
    leave several versions in a stage; then the last to come counts.
    """
    holder = next((version for version in versions if version.version == number), None)
    in_stage = [version for version in versions if version.stage == stage]
    staged = max(in_stage, key=lambda version: version.updated_ms, default=None)
    if holder is None:
        return versions
    if holder.stage != stage:
        if staged is not None and (staged.promoted_ms or 0) < (holder.promoted_ms or 0):
            return versions
    elif staged is not None and staged.updated_ms > holder.updated_ms:
        holder = staged
    return [
        replace(version, stage=stage)
        if version is holder
        else replace(version, stage="None" if version.stage == stage else version.stage)
        for version in versions
    ]
