"""Versions moved between stages, by us, by other tools, and by somebody who is killed meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from faults import Failing
from mlflow import MlflowClient

from vigie.config import Settings
from vigie.errors import ConflictError, ModelNotFoundError, VigieError
from vigie.models.moves import Action
from vigie.registry import history, lookup, stages
from vigie.registry.history import Why
from vigie.registry.server import Server, server_at
from vigie.registry.stages import MOVING
from vigie.registry.version import HISTORY, PROMOTED, Version
from vigie.services.mlflow_service import MLflowService

NAME = "one_class_svm"
PRODUCTION, STAGING = "Production", "Staging"


@pytest.fixture
def client(tracked: Settings) -> MlflowClient:
    """A registry that holds versions 1 to 4 of a model, none in any stage."""
    client = MLflowService(tracked).server.client
    run = client.create_run(client.create_experiment(tracked.mlflow_experiment_name))
    client.create_registered_model(NAME)
    for _ in range(4):
        client.create_model_version(NAME, f"{run.info.artifact_uri}/model", run.info.run_id)
    return client


@pytest.fixture
def server(tracked: Settings) -> Server:
    return server_at(tracked.mlflow_tracking_uri)


def promote(server: Server, *versions: int) -> None:
    for version in versions:
        stages.move(server, NAME, version, PRODUCTION)


def by_stage(client: MlflowClient, version: int, stage: str = PRODUCTION) -> None:
    """Move a version as a tool of the old kind does."""
    client.transition_model_version_stage(NAME, str(version), stage, stage == PRODUCTION)


def by_alias(client: MlflowClient, version: int) -> None:
    """Move a version as MLflow's own page does."""
    client.set_registered_model_alias(NAME, "production", str(version))


def recorded(server: Server, stage: str = PRODUCTION) -> tuple[list[int], int | None]:
    """Return what the registry has in a stage, and under its alias."""
    listed, aliases = lookup.versions_and_aliases(server, NAME)
    there = [version.version for version in listed if version.stage == stage]
    return there, aliases.get(stage.lower())


def serving(server: Server) -> int:
    return lookup.pick(server, NAME, stage=PRODUCTION).version


# Others who move at the same time.


class Meanwhile:
    """Lets something happen between our look at the registry and our move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self._monkeypatch = monkeypatch

    def before_our_turn(self, act: Callable[[], object]) -> None:
        lock_tags, acted = stages._lock_tags, []

        def look(server: Server, name: str, own: str) -> set[str]:
            if not acted:
                acted.append(True)
                act()
            return lock_tags(server, name, own)

        self._monkeypatch.setattr(stages, "_lock_tags", look)

    def after_our_move(self, act: Callable[[], object]) -> None:
        move, acted = stages._set, []

        def moved(server: Server, version: Version, stage: str) -> None:
            move(server, version, stage)
            if not acted:
                acted.append(True)
                act()

        self._monkeypatch.setattr(stages, "_set", moved)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    return Meanwhile(monkeypatch)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("by", [by_stage, by_alias])
def test_who_comes_second_is_told_what_serves_and_changes_nothing(by, client, server, meanwhile):
    promote(server, 1)
    meanwhile.before_our_turn(lambda: by(client, 2))
    with pytest.raises(ConflictError, match=r"Version 2 .*Production.*version 3 is not.*promote"):
        promote(server, 3)
    assert serving(server) == 2


def test_promoting_what_another_is_just_promoting_is_no_conflict(client, server, meanwhile):
    meanwhile.before_our_turn(lambda: by_alias(client, 2))
    promote(server, 2)
    assert recorded(server) == ([2], 2)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("by", [by_stage, by_alias])
def test_a_tool_that_takes_no_turn_wins_and_stage_and_alias_agree(by, client, server, meanwhile):
    promote(server, 1)
    meanwhile.after_our_move(lambda: by(client, 2))
    with pytest.raises(ConflictError, match="Version 2 "):
        promote(server, 3)
    assert recorded(server) == ([2], 2)


def test_two_that_another_tool_has_left_in_production_become_one(client, server):
    promote(server, 1)
    with pytest.warns(FutureWarning):
        client.transition_model_version_stage(NAME, "2", PRODUCTION)
    assert serving(server) == 2
    promote(server, 3)
    assert recorded(server) == ([3], 3)


def test_a_rollback_of_what_serves_no_more_is_refused(client, server, meanwhile):
    promote(server, 1, 2)
    meanwhile.before_our_turn(lambda: by_alias(client, 3))
    with pytest.raises(ConflictError, match=r"Version 3 .*in place of version 2"):
        stages.rollback(server, NAME)
    assert serving(server) == 3


def test_a_promotion_and_a_move_to_staging_do_not_disturb_each_other(client, server, meanwhile):
    meanwhile.before_our_turn(lambda: client.set_registered_model_alias(NAME, "staging", "2"))
    promote(server, 1)
    stages.move(server, NAME, 2, STAGING)
    assert recorded(server) == ([1], 1)
    assert recorded(server, STAGING) == ([2], 2)


# Movers who are killed, or whose server is.


def test_the_turn_of_one_who_was_killed_passes(client, server, monkeypatch):
    monkeypatch.setattr(stages, "LIVES_MS", 1500)
    now = round(time.time() * 1000)
    for said_ms in (now, now - 3_600_000, now + 3_600_000, "never"):
        client.set_registered_model_tag(NAME, f"{MOVING}{said_ms}-killed", str(said_ms))
    promote(server, 1)
    assert recorded(server) == ([1], 1)
    assert client.get_registered_model(NAME).tags == {}


def test_a_turn_that_never_comes_is_an_answer_too(client, server, monkeypatch):
    monkeypatch.setattr(stages, "LIVES_MS", 300)
    monkeypatch.setattr(stages, "_lock_tags", lambda *_: {f"{MOVING}0"})
    with pytest.raises(ConflictError, match="keep moving versions"):
        promote(server, 1)
    assert recorded(server) == ([], None)


@pytest.mark.parametrize("act", ["promote", "rollback"])
def test_a_move_broken_off_anywhere_leaves_one_serving_and_can_be_repeated(
    act, client, server, failing, monkeypatch
):
    """At its first request, and at each that changes something: done, or not, it is not said."""
    # Else a failed server is left alone for some seconds, and this test would have to wait.
    monkeypatch.setattr("vigie.registry.server.QUIET_AFTER_FAILURE_S", 0.0)
    monkeypatch.setattr(stages, "LIVES_MS", 200)
    before, after = (2, 3) if act == "promote" else (2, 1)

    def back() -> None:
        """Undo the act, told from the registry alone, whatever was broken off."""
        if act == "promote":
            stages.rollback(server, NAME)
        else:
            promote(server, before)
        assert recorded(server) == ([before], before)

    promote(server, 1, 2)
    well: Failing = failing(server.uri, 10_000, "gone")
    act_on(Server(well.uri), act)
    back()
    changes = [n for n, asked in enumerate(well.asked) if not asked.startswith("GET ")]
    assert len(changes) > 4, "a move changes more than that"
    for number in (0, *changes):
        broken: Failing = failing(server.uri, number, "unanswered")
        # Who only cannot say at the end that its turn is over has moved the version.
        with suppress(VigieError):
            act_on(Server(broken.uri), act)
        assert broken.left < 0
        assert broken.asked[number] == well.asked[number]
        assert serving(server) in (before, after)
        if serving(server) == before or act == "promote":
            act_on(server, act)
        else:
            promote(server, after)
        assert recorded(server) == ([after], after)
        back()


def act_on(server: Server, act: str) -> None:
    if act == "promote":
        promote(server, 3)
    else:
        stages.rollback(server, NAME)


# What served before, when others had a hand in it.


def test_a_rollback_goes_back_to_what_another_tool_had_promoted(client, server):
    by_alias(client, 2)
    promote(server, 3)
    before, now = stages.rollback(server, NAME)
    assert (before.version, now.version) == (3, 2)
    assert recorded(server) == ([2], 2)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_promotion_by_another_tool_is_rolled_back_to_what_it_archived(client, server):
    promote(server, 4)
    for version in (1, 2, 3):
        by_stage(client, version)
        client.set_registered_model_alias(NAME, "production", str(version))
    before, now = stages.rollback(server, NAME)
    assert (before.version, now.version) == (3, 2)
    assert recorded(server) == ([2], 2)


def test_a_promotion_by_mlflows_client_that_archives_nothing_serves(client, server):
    promote(server, 1)
    client.transition_model_version_stage(NAME, "3", PRODUCTION)
    assert serving(server) == 3
    promote(server, 2)
    assert recorded(server) == ([2], 2)


@pytest.mark.parametrize("said", ["²", "9" * 5000, "soon", ""])
def test_a_tag_that_is_no_time_is_none(said, client, server):
    promote(server, 1)
    client.set_model_version_tag(NAME, "2", PROMOTED, said)
    assert serving(server) == 1
    assert [version.version for version in lookup.versions(server, NAME)] == [4, 3, 2, 1]


def test_a_promotion_by_alias_alone_is_rolled_back_to_the_last_of_ours(client, server, caplog):
    promote(server, 1, 2)
    by_alias(client, 3)
    by_alias(client, 4)
    before, now = stages.rollback(server, NAME)
    assert (before.version, now.version) == (4, 2)
    assert "no record of the version before it" in caplog.text
    assert stages.rollback(server, NAME)[1].version == 1


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_where_the_registry_cannot_tell_what_served_before_it_is_said(client, server):
    by_alias(client, 1)
    by_alias(client, 2)
    with pytest.raises(ModelNotFoundError, match=r"Another tool.*no record.*promote"):
        stages.rollback(server, NAME)
    assert serving(server) == 2


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_was_rolled_back_is_not_gone_back_to_until_it_is_promoted_again(client, server):
    by_stage(client, 1)
    by_stage(client, 2)
    stages.rollback(server, NAME)
    with pytest.raises(ModelNotFoundError):
        stages.rollback(server, NAME)
    promote(server, 2, 3)
    assert stages.rollback(server, NAME)[1].version == 2
    assert stages.rollback(server, NAME)[1].version == 1


# Who moved what, when and why.


def told(server: Server) -> list[tuple[int, str | None, str, str, str | None, str | None]]:
    """Return the history of the model, newest first, without times."""
    return [
        (move.version, move.from_stage, move.to_stage, move.action, move.by, move.reason)
        for move in history.of(lookup.versions(server, NAME))
    ]


@pytest.mark.parametrize("speaks_rest", [True, False], ids=["REST", "MLflow's client"])
def test_a_history_is_the_same_however_the_registry_is_asked(
    speaks_rest, client, server, monkeypatch
):
    reason = 'Nach der "Revision" 🔧\n\tof line 2; 50 % \\'
    began = round(time.time() * 1000)
    with monkeypatch.context() as patch:
        patch.setattr(Server, "speaks_rest", speaks_rest)
        stages.move(server, NAME, 1, PRODUCTION, why=Why("ann", reason))
        stages.move(server, NAME, 3, STAGING, why=Why("ann"))
        stages.move(server, NAME, 2, PRODUCTION, why=Why("ben", action=Action.TRAINING))
        stages.rollback(server, NAME, Why("eve", "too many alarms"))
        stages.move(server, NAME, 3, "None")
        run_id = client.get_model_version(NAME, "1").run_id
        client.log_param(run_id, "n", "7")
        client.log_metric(run_id, "rate", 0.5)
        found = lookup.runs(server, [run_id, "0" * 32, "no' run"])
    expected = [
        (3, STAGING, "None", "reset", None, None),
        (1, "Archived", PRODUCTION, "rollback", "eve", "too many alarms"),
        (2, PRODUCTION, "Archived", "replaced", "eve", "too many alarms"),
        (2, "None", PRODUCTION, "training", "ben", None),
        (1, PRODUCTION, "Archived", "replaced", "ben", None),
        (3, "None", STAGING, "promote", "ann", None),
        (1, "None", PRODUCTION, "promote", "ann", reason),
    ]
    for by_rest in (True, False):
        monkeypatch.setattr(Server, "speaks_rest", by_rest)
        assert told(server) == expected
        times = [move.at_ms for move in history.of(lookup.versions(server, NAME))]
        assert times == sorted(times, reverse=True)
        assert began <= times[-1] <= times[0] <= time.time() * 1000
        assert lookup.runs(server, [run_id]) == found
    [run] = found.values()
    assert (run.run_id, run.params, run.metrics) == (run_id, {"n": "7"}, {"rate": 0.5})


def test_what_another_tool_has_done_is_in_the_history_before_and_after_our_next_move(
    client, server
):
    promote(server, 1)
    by_alias(client, 2)
    foreign = {
        (1, PRODUCTION, "None", "unrecorded", None, None),
        (2, "None", PRODUCTION, "unrecorded", None, None),
    }
    assert set(told(server)[:2]) == foreign
    stages.move(server, NAME, 3, PRODUCTION, why=Why("ann"))
    assert set(told(server)[:3]) == {
        (3, "None", PRODUCTION, "promote", "ann", None),
        (2, PRODUCTION, "None", "replaced", "ann", None),
        # The other tool had left it in the stage under the alias.
        (1, "None", "Archived", "archive", "ann", None),
    }
    assert set(told(server)[3:5]) == foreign
    assert told(server)[5:] == [(1, "None", PRODUCTION, "promote", None, None)]


def test_the_oldest_moves_of_a_version_are_forgotten(client, server, monkeypatch):
    monkeypatch.setattr(history, "KEPT", 3)
    stages.move(server, NAME, 1, STAGING, why=Why("ann"))
    for _ in range(2):
        promote(server, 1, 2)
    tags = client.get_model_version(NAME, "1").tags
    assert len([tag for tag in tags if tag.startswith(HISTORY)]) == 3
    assert [to for number, _, to, *_ in told(server) if number == 1] == [
        "Archived", PRODUCTION, "Archived",
    ]  # fmt: skip
