"""Versions of registered models: in which stage each is, and which one is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vigie.errors import ModelNotFoundError

STAGES = ("None", "Staging", "Production", "Archived")
ALIASED = ("Staging", "Production")
ASKED = "vigie.asked_ms"
PROMOTED = "vigie.promoted_ms"
SERVING = "serving"
"""Folder of a version's artifacts with its serving form."""


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

    @classmethod
    def recorded(
        cls,
        name: str,
        number: int | str,
        stage: str | None,
        run_id: str | None,
        created_ms: int | str | None,
        tags: Mapping[str, str],
        updated_ms: int | str | None,
    ) -> Version:
        """Return a version from what the registry has recorded of it."""
        return cls(
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

    @property
    def decided_ms(self) -> int:
        """When it was decided that it is in its stage, which may be long before it got there."""
        if self.asked_ms and self.promoted_ms in (None, self.asked_ms):
            return self.asked_ms
        return max(self.promoted_ms or 0, self.updated_ms)


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


def merged(listed: list[Version], aliases: Mapping[str, int]) -> list[Version]:
    """Return versions in the stages that they have by stage and alias together."""
    for stage in ALIASED:
        listed = _with_alias(listed, stage, aliases.get(stage.lower()))
    return listed


def moment_of(tag: str | None) -> int | None:
    """Return the milliseconds that a tag holds, or None; anybody may write anything there."""
    return int(tag) if tag and tag.isascii() and tag.isdigit() and len(tag) < 16 else None


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
