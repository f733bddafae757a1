"""Move versions between stages, with a lock per model in the registry, and record each move.

MLflow has no compare-and-set for stages. After two concurrent promotions both versions may be in
Production, or stage and alias may name different versions. So each client locks the model, by tags
on it: it writes a tag, then reads the others. Of two concurrent clients at least one sees the
other's tag; the later one removes its own and waits, the earlier one waits until that is done. The
client that holds the lock reads the versions once more, and moves nothing if another version has
come to the stage since the request.

Other tools ignore the lock. Their concurrent moves are detected by reading back, and stage and
alias are then set to the same version.

References
----------
Lamport, L. (1974). A new solution of Dijkstra's concurrent programming problem. Communications of
the ACM 17(8), 453-455.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from vigie.errors import ConflictError, ModelNotFoundError, TrackingError
from vigie.models.moves import Action
from vigie.registry import history, lookup
from vigie.registry.history import NOBODY, Why
from vigie.registry.server import Server
from vigie.registry.version import (
    ALIASED,
    PROMOTED,
    Version,
    apply_aliases,
    choose,
    in_stage,
    parse_ms,
    stage_name,
)

logger = logging.getLogger(__name__)

MOVING = "vigie.moving."
"""Prefix of lock tags; the time follows, so that their order is the order of the queue."""
LIVES_MS, POLL_S = 30_000, 0.05
"""After this time a lock tag has expired; interval at which a waiting client reads the tags."""
ROUNDS = 3


def move(
    server: Server,
    name: str,
    version: int | str,
    stage: str,
    asked_ms: int | None = None,
    why: Why = NOBODY,
) -> tuple[Version | None, Version]:
    """Move a version to a stage, and the alias of the same name with it.

    The previous version in Staging or Production is archived.

    Parameters
    ----------
    server : Server
        The registry's server.
    name, version, stage
        The model, the version and the new stage.
    asked_ms : int, optional
        Time of the request, in Unix milliseconds; by default now.
    why : Why, optional
        For the history.

    Returns
    -------
    tuple of Version
        The version whose place was taken, None if there was none, and the one that was moved.

    Raises
    ------
    ModelNotFoundError
        If there is no such version or stage.
    ConflictError
        If another version was moved to the stage at the same time; that one stays there.
    """
    stage = stage_name(stage)
    versions = lookup.versions(server, name)
    wanted, before = choose(versions, name, version=version), in_stage(versions, stage)
    with lookup.like_mlflow(server), _locked(server, name):
        versions = lookup.versions(server, name)
        wanted, now = choose(versions, name, version=version), in_stage(versions, stage)
        if stage in ALIASED and now is not None and now.version != wanted.version:
            if before is None or before.version != now.version:
                raise _conflict(wanted, now)
            if stage == "Production" and not now.promoted_ms:
                # Another tool promoted it; without the tag, a rollback would not find it.
                _tag(server, now, _now_ms() - 1)
        promoted_ms = (asked_ms or _now_ms()) if stage == "Production" else None
        after = _move(server, wanted, stage, promoted_ms)
        _record(server, versions, after, wanted, why)
        replaced = now if now is not None and now.version != wanted.version else None
        moved = replace(wanted, stage=stage, promoted_ms=promoted_ms or wanted.promoted_ms)
        return replaced if stage in ALIASED else None, moved


def rollback(server: Server, name: str, why: Why = NOBODY) -> tuple[Version, Version]:
    """Promote the version that was in Production before; return both versions, old first.

    A rollback never returns to a version that was rolled back, unless it is promoted again: two
    rollbacks go two versions back.

    Raises
    ------
    ModelNotFoundError
        If no version is in Production, or the registry has no record of an earlier one.
    ConflictError
        If another version was moved to Production at the same time.
    """
    current = lookup.pick(server, name, stage="Production")
    with lookup.like_mlflow(server), _locked(server, name):
        versions = lookup.versions(server, name)
        now = choose(versions, name, stage="Production")
        if now.version != current.version:
            raise ConflictError(
                f"Version {now.version} of '{name}' was moved to Production at the same time, in "
                f"place of version {current.version}; nothing was rolled back.",
                remedy="To roll back that version too, run the rollback again.",
            )
        target = _before(versions, now)
        # First, so that after an interrupted rollback the next one has the same target.
        _tag(server, now, 0)
        after = _move(server, target, "Production")
        _record(server, versions, after, target, replace(why, action=Action.ROLLBACK))
        return now, replace(target, stage="Production")


def _record(
    server: Server,
    before: Sequence[Version],
    after: Sequence[Version],
    moved: Version,
    why: Why,
) -> None:
    """Record a move on the version, and on those that have left their stages with it.

    Parameters
    ----------
    server : Server
        The registry's server.
    before, after : sequence of Version
        All versions of the model.
    moved : Version
        The one that was to be moved.
    why : Why
        Who moved it.
    """
    registry, now_ms = lookup.registry_of(server), _now_ms()
    stage_of = {version.version: version.stage for version in after}
    place = stage_of.get(moved.version)
    new: dict[int, dict[str, str]] = {}
    for version in before:
        stage, its_why = stage_of.get(version.version, version.stage), why
        if version.version != moved.version:
            if stage == version.stage:
                continue
            was_replaced = version.stage == place and place in ALIASED
            its_why = replace(why, action=Action.REPLACED if was_replaced else None)
        new[version.version] = history.tags(version, now_ms, stage, its_why)
    for number, tags in new.items():
        for tag, text in tags.items():
            registry.set_tag(moved.name, number, tag, text)
    for number, tag in history.superfluous(before, new):
        # If it cannot be deleted, the next move does it.
        with suppress(TrackingError, ModelNotFoundError):
            registry.delete_tag(moved.name, number, tag)


def _before(versions: Sequence[Version], current: Version) -> Version:
    """Return the version that was in Production before the current one, from the registry's data.

    Vigie tags each promotion with its time. Another tool does not: if it moved the stage, it
    archived the previous version at the same time; if it moved the alias, it left no trace.
    """
    others = [version for version in versions if version.version != current.version]
    dated = [version for version in others if version.promoted_ms]
    if current.promoted_ms:
        earlier = [v for v in dated if (v.promoted_ms or 0) <= current.promoted_ms]
        unknown = (
            f"No version of '{current.name}' was in Production before version {current.version}."
        )
    else:
        earlier = [
            version
            for version in others
            if version.stage == "Archived"
            and version.promoted_ms != 0
            and version.updated_ms == current.updated_ms
        ]
        unknown = (
            f"Another tool moved version {current.version} of '{current.name}' to Production, "
            "and the registry has no record of the version before it."
        )
        if not earlier and dated:
            earlier = dated
            logger.warning("%s Rolling back to the last version that Vigie promoted.", unknown)
    if not earlier:
        choose = f"`vigie models list`, then `vigie models promote {current.name} VERSION`"
        raise ModelNotFoundError(unknown, remedy=f"Choose one: {choose}.")
    return max(earlier, key=lambda version: version.promoted_ms or 0)


@contextmanager
def _locked(server: Server, name: str) -> Iterator[None]:
    """Lock a model against moves by other clients.

    Raises
    ------
    ConflictError
        If others hold the lock for longer than a lock tag lives.
    """
    registry, tag = lookup.registry_of(server), f"{MOVING}{_now_ms():013d}-{uuid.uuid4().hex[:8]}"
    deadline, is_tagged = time.monotonic() + 1.2 * LIVES_MS / 1000, False
    try:
        while True:
            others = _lock_tags(server, name, tag)
            if not others:
                if is_tagged:
                    break
                is_tagged = True
                registry.set_tag(name, None, tag, str(_now_ms()))
                continue
            if time.monotonic() > deadline:
                raise ConflictError(
                    f"Other clients keep moving versions of '{name}'.",
                    remedy="See `vigie models list`, and try again.",
                )
            if is_tagged and min(others) < tag:
                is_tagged = False
                registry.delete_tag(name, None, tag)
            time.sleep(POLL_S * random.uniform(0.5, 1.5))
        yield
    finally:
        if is_tagged:
            # If the tag cannot be deleted, it expires.
            with suppress(TrackingError, ModelNotFoundError):
                registry.delete_tag(name, None, tag)


def _lock_tags(server: Server, name: str, own: str) -> set[str]:
    """Return the lock tags of other clients on a model, and delete expired ones."""
    registry, locks = lookup.registry_of(server), set()
    for tag, written_ms in registry.tags(name).items():
        if not tag.startswith(MOVING) or tag == own:
            continue
        if abs(_now_ms() - (parse_ms(written_ms) or 0)) < LIVES_MS:
            locks.add(tag)
        else:
            registry.delete_tag(name, None, tag)
    return locks


def _move(
    server: Server, version: Version, stage: str, promoted_ms: int | None = None
) -> list[Version]:
    """Move a version, tag it with the time of its promotion, and verify the result.

    Returns
    -------
    list of Version
        All versions of the model after that.

    Raises
    ------
    ConflictError
        If another tool has moved another version to the stage meanwhile.
    """
    _set(server, version, stage)
    if promoted_ms is not None:
        # Last, so that after a crash here the move counts as one by another tool.
        _tag(server, version, promoted_ms)
    if stage not in ALIASED:
        return lookup.versions(server, version.name)
    for _ in range(ROUNDS):
        versions, aliases = lookup.versions_and_aliases(server, version.name)
        holder = in_stage(apply_aliases(versions, aliases), stage)
        staged = [other.version for other in versions if other.stage == stage]
        if holder is None or [holder.version] == staged == [aliases.get(stage.lower())]:
            break
        _set(server, holder, stage)
    if holder is None or holder.version != version.version:
        if promoted_ms is not None:
            _tag(server, version, version.promoted_ms or 0)
        raise _conflict(version, holder)
    return apply_aliases(versions, aliases)


def _set(server: Server, version: Version, stage: str) -> None:
    """Set the stage of a version and the aliases, and archive the previous version.

    In this order, so that the stage is never empty: of two versions in it the last to come counts.
    MLflow's own archiving fails on PostgreSQL with psycopg 3, since it compares numbers with text,
    and when two clients archive each other's version.
    """
    registry, name = lookup.registry_of(server), version.name
    registry.set_stage(name, version.version, stage)
    versions, aliases = lookup.versions_and_aliases(server, name)
    for aliased in ALIASED:
        alias = aliased.lower()
        if aliased == stage:
            registry.set_alias(name, alias, version.version)
        elif aliases.get(alias) == version.version:
            registry.delete_alias(name, alias)
    for other in versions:
        if stage in ALIASED and other.stage == stage and other.version != version.version:
            registry.set_stage(name, other.version, "Archived")


def _tag(server: Server, version: Version, promoted_ms: int) -> None:
    registry = lookup.registry_of(server)
    registry.set_tag(version.name, version.version, PROMOTED, str(promoted_ms))


def _conflict(wanted: Version, holder: Version | None) -> ConflictError:
    name, number = wanted.name, wanted.version
    winner = f"Version {holder.version}" if holder is not None else "Another version"
    stage = holder.stage if holder is not None else "the stage"
    return ConflictError(
        f"{winner} of '{name}' was moved to {stage} at the same time, so version {number} is not "
        "there.",
        remedy=f"To move version {number} anyway, run `vigie models promote {name} {number}`.",
    )


def _now_ms() -> int:
    return round(time.time() * 1000)
