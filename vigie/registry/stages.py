"""Versions moved between stages: one move of a model at a time, whoever asks, wherever.

MLflow cannot be told to put version 3 into Production if version 2 is there now. Of two who promote
at once it leaves both in Production, or a stage and an alias that name different versions. So who
moves a version takes turns with whoever else does, by tags on the registered model: each writes
that it is about to move, and looks then for others. Of two who do so at least one sees the other;
the one who came later takes its tag away, the other waits until it has. Whose turn it is looks
once more, and moves nothing if another version has come to the stage since it was asked.

Other tools take no turns. What they have moved meanwhile is found by reading back, and stage and
alias are brought to name one version.

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
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from vigie.errors import ConflictError, ModelNotFoundError, TrackingError
from vigie.registry import lookup
from vigie.registry.server import Server
from vigie.registry.version import ALIASED, PROMOTED, Version, choose, merged, moment_of, stage_name

logger = logging.getLogger(__name__)

MOVING = "vigie.moving."
"""How the tag of a move begins; it goes on with the time, so that tags in order are turns."""
LIVES_MS, LOOKS_EVERY_S = 30_000, 0.05
"""For how long a move is believed to be under way, and how often one that waits looks again."""
ROUNDS = 3


def move(
    server: Server, name: str, version: int | str, stage: str, asked_ms: int | None = None
) -> Version:
    """Put a version into a stage, and the alias of the same name with it.

    Whatever held Staging or Production before is archived.

    Parameters
    ----------
    server : Server
        Where.
    name, version, stage
        What to put where.
    asked_ms : int, optional
        When that was asked for, in Unix milliseconds; by default now.

    Raises
    ------
    ModelNotFoundError
        If there is no such version or stage.
    ConflictError
        If another version has been put into the stage at the same time; that one is there.
    """
    stage = stage_name(stage)
    found = lookup.versions(server, name)
    wanted, before = choose(found, name, version=version), _holder(found, stage)
    with _turn(server, name):
        found = lookup.versions(server, name)
        wanted, now = choose(found, name, version=version), _holder(found, stage)
        if stage in ALIASED and now is not None and now.version != wanted.version:
            if before is None or before.version != now.version:
                raise _lost(wanted, now)
            if stage == "Production" and not now.promoted_ms:
                # Another tool has put it there, and nothing else will tell that it has served.
                _tag(server, now, _now_ms() - 1)
        if stage != "Production":
            _put(server, wanted, stage)
            return replace(wanted, stage=stage)
        promoted_ms = asked_ms or _now_ms()
        _put(server, wanted, stage, promoted_ms)
        return replace(wanted, stage=stage, promoted_ms=promoted_ms)


def rollback(server: Server, name: str) -> tuple[Version, Version]:
    """Put into Production again what served before the version there; return both, old first.

    What has been rolled back is not gone back to, until it is promoted again: two rollbacks
    go two versions back.

    Raises
    ------
    ModelNotFoundError
        If nothing is in Production, or the registry knows of nothing before it.
    ConflictError
        If another version has been put into Production at the same time.
    """
    current = lookup.pick(server, name, stage="Production")
    with _turn(server, name):
        found = lookup.versions(server, name)
        now = choose(found, name, stage="Production")
        if now.version != current.version:
            raise ConflictError(
                f"Version {now.version} of '{name}' was put into Production at the same time, in "
                f"place of version {current.version}; nothing was rolled back.",
                remedy="If that one shall not serve either, roll back again.",
            )
        target = _before(found, now)
        # First, so that of a rollback broken off here the next one comes to the same.
        _tag(server, now, 0)
        _put(server, target, "Production")
        return now, replace(target, stage="Production")


def _before(found: Sequence[Version], current: Version) -> Version:
    """Return what was in Production before the version there, as far as the registry knows.

    Vigie dates what it puts there. Another tool does not; but if it moved the stage, it archived
    what was there at the same time, and if the alias, then no trace is left of what had it.
    """
    others = [version for version in found if version.version != current.version]
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
            f"Another tool has put version {current.version} of '{current.name}' into Production, "
            "and the registry does not tell what was there before."
        )
        if not earlier and dated:
            earlier = dated
            logger.warning("%s This goes back to the last version that Vigie put there.", unknown)
    if not earlier:
        choose = f"`vigie models list`, then `vigie models promote {current.name} VERSION`"
        raise ModelNotFoundError(unknown, remedy=f"Choose one: {choose}.")
    return max(earlier, key=lambda version: version.promoted_ms or 0)


@contextmanager
def _turn(server: Server, name: str) -> Iterator[None]:
    """Wait until nobody else moves versions of a model, and keep others from it.

    Raises
    ------
    ConflictError
        If somebody does so for longer than a move is believed to take.
    """
    client, tag = server.client, f"{MOVING}{_now_ms():013d}-{uuid.uuid4().hex[:8]}"
    ends, is_said = time.monotonic() + 1.2 * LIVES_MS / 1000, False
    try:
        while True:
            others = _others_moving(server, name, tag)
            if not others:
                if is_said:
                    break
                is_said = True
                server.call(client.set_registered_model_tag, name, tag, str(_now_ms()))
                continue
            if time.monotonic() > ends:
                raise ConflictError(
                    f"Versions of '{name}' are being moved by others all the time.",
                    remedy="Look who does (`vigie models list`), and try again.",
                )
            if is_said and min(others) < tag:
                is_said = False
                server.call(client.delete_registered_model_tag, name, tag)
            time.sleep(LOOKS_EVERY_S * random.uniform(0.5, 1.5))
        yield
    finally:
        if is_said:
            # If it cannot be taken away, it is not believed for long.
            with suppress(TrackingError, ModelNotFoundError):
                server.call(client.delete_registered_model_tag, name, tag)


def _others_moving(server: Server, name: str, own: str) -> set[str]:
    """Return the tags of the moves of a model that are under way, and sweep old ones away."""
    found: dict[str, str] = server.call(server.client.get_registered_model, name).tags
    moving = set()
    for tag, said_ms in found.items():
        if not tag.startswith(MOVING) or tag == own:
            continue
        if abs(_now_ms() - (moment_of(said_ms) or 0)) < LIVES_MS:
            moving.add(tag)
        else:
            # Who said so was killed, or could not reach the server any more.
            server.call(server.client.delete_registered_model_tag, name, tag)
    return moving


def _put(server: Server, version: Version, stage: str, promoted_ms: int | None = None) -> None:
    """Move a version, date it if that is a promotion, and see that it is where it was put.

    Raises
    ------
    ConflictError
        If another tool has put another one there meanwhile.
    """
    _set(server, version, stage)
    if promoted_ms is not None:
        # Last, so that one who is killed here has promoted what counts as put there by others.
        _tag(server, version, promoted_ms)
    if stage not in ALIASED:
        return
    for _ in range(ROUNDS):
        listed, aliases = lookup.recorded(server, version.name)
        holder = _holder(merged(listed, aliases), stage)
        staged = [other.version for other in listed if other.stage == stage]
        if holder is None or [holder.version] == staged == [aliases.get(stage.lower())]:
            break
        _set(server, holder, stage)
    if holder is None or holder.version != version.version:
        if promoted_ms is not None:
            _tag(server, version, version.promoted_ms or 0)
        raise _lost(version, holder)


def _set(server: Server, version: Version, stage: str) -> None:
    """Set the stage of a version, the aliases as they belong to it, and archive what was there.

    In this order, in which there is never none: of two in a stage the last to come counts.
    """
    client, name = server.client, version.name
    _transition(server, version, stage)
    listed, aliases = lookup.recorded(server, name)
    for aliased in ALIASED:
        alias = aliased.lower()
        if aliased == stage:
            server.call(client.set_registered_model_alias, name, alias, str(version.version))
        elif aliases.get(alias) == version.version:
            server.call(client.delete_registered_model_alias, name, alias)
    for other in listed:
        if stage in ALIASED and other.stage == stage and other.version != version.version:
            _transition(server, other, "Archived")


def _transition(server: Server, version: Version, stage: str) -> None:
    with warnings.catch_warnings():
        # Stages are deprecated and what the guide speaks; the alias beside them is their heir.
        warnings.simplefilter("ignore", FutureWarning)
        server.call(
            server.client.transition_model_version_stage,
            version.name,
            str(version.version),
            stage,
            # MLflow's own way to archive fails on PostgreSQL with psycopg 3, for it compares
            # numbers with text, and on two that archive each other.
            archive_existing_versions=False,
        )


def _tag(server: Server, version: Version, promoted_ms: int) -> None:
    number, value = str(version.version), str(promoted_ms)
    server.call(server.client.set_model_version_tag, version.name, number, PROMOTED, value)


def _holder(found: Sequence[Version], stage: str) -> Version | None:
    return next((version for version in found if version.stage == stage), None)


def _lost(wanted: Version, holder: Version | None) -> ConflictError:
    name, number = wanted.name, wanted.version
    there = f"Version {holder.version}" if holder is not None else "Another version"
    stage = holder.stage if holder is not None else "the stage"
    return ConflictError(
        f"{there} of '{name}' was put into {stage} at the same time, and is there now; "
        f"version {number} is not.",
        remedy=f"If version {number} shall be there all the same, move it again: "
        f"`vigie models promote {name} {number}`.",
    )


def _now_ms() -> int:
    return round(time.time() * 1000)
