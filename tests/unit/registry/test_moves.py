"""What the tags of versions tell of their moves, and which tags stay."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from vigie.errors import InvalidDataError
from vigie.models.moves import Action
from vigie.registry import history
from vigie.registry.history import KEPT, KEPT_OF_MODEL, LONGEST_REASON, Why
from vigie.registry.version import HISTORY, Version

DAY_MS = 86_400_000
NEW = Version("isolation_forest", 1, "None", "run", 100 * DAY_MS, None, None, 100 * DAY_MS)
LONGEST_TAG = 5000
"""Of MLflow's servers until version 2."""


def moved(version: Version, day: float, stage: str, why: Why = history.NOBODY) -> Version:
    """Return a version after a move by Vigie."""
    now_ms = round(day * DAY_MS)
    new = history.tags(version, now_ms, stage, why)
    tags = (*version.history, *new.items())
    return replace(version, stage=stage, history=tags, updated_ms=now_ms)


def told(*versions: Version) -> list[tuple[float | None, int, str | None, str, str]]:
    """Return the moves of versions, newest first, with the day of each."""
    return [
        (move.at_ms and move.at_ms / DAY_MS, move.version, move.from_stage, move.to_stage,
         move.action)
        for move in history.of(versions)
    ]  # fmt: skip


def test_moves_are_told_from_the_newest_with_who_and_why():
    one = moved(NEW, 101, "Staging", Why("ann", "try it"))
    one = moved(one, 102, "Production", Why("ben", action=Action.ROLLBACK))
    one = moved(one, 103, "Archived")

    assert told(one) == [
        (103, 1, "Production", "Archived", "archive"),
        (102, 1, "Staging", "Production", "rollback"),
        (101, 1, "None", "Staging", "promote"),
    ]
    assert [(move.by, move.reason, move.run_id) for move in history.of([one])] == [
        (None, None, "run"), ("ben", None, "run"), ("ann", "try it", "run"),
    ]  # fmt: skip


def test_of_two_versions_the_one_that_came_is_told_before_the_one_that_went():
    one = moved(NEW, 101, "Production")
    two = moved(replace(NEW, version=2), 102, "Production")
    one = moved(one, 102, "Archived", Why(action=Action.REPLACED))

    assert [(number, action) for _, number, _, _, action in told(one, two)] == [
        (2, "promote"), (1, "replaced"), (1, "promote"),
    ]  # fmt: skip


def test_what_another_tool_has_moved_is_told_with_the_time_of_the_last_change():
    by_stage = replace(moved(NEW, 101, "Production"), stage="Archived", updated_ms=105 * DAY_MS)
    assert told(by_stage)[0] == (105, 1, "Production", "Archived", "unrecorded")

    # MLflow stores no time with an alias.
    by_alias = replace(moved(NEW, 101, "Staging"), stage="Production")
    assert told(by_alias)[0] == (None, 1, "Staging", "Production", "unrecorded")
    assert told(replace(NEW, stage="Production"))[0][0] is None


def test_the_next_move_keeps_what_another_tool_has_done():
    by_stage = replace(moved(NEW, 101, "Production"), stage="Staging", updated_ms=105 * DAY_MS)
    by_alias = replace(moved(NEW, 101, "Staging"), stage="Production")

    assert told(moved(by_stage, 110, "Archived"))[:2] == [
        (110, 1, "Staging", "Archived", "archive"),
        (105, 1, "Production", "Staging", "unrecorded"),
    ]
    assert told(moved(by_alias, 110, "Archived"))[:2] == [
        (110, 1, "Production", "Archived", "archive"),
        (None, 1, "Staging", "Production", "unrecorded"),
    ]


def test_a_promotion_from_before_there_was_a_history_is_told_by_its_time():
    older = replace(NEW, stage="Production", promoted_ms=101 * DAY_MS, updated_ms=101 * DAY_MS)
    trained = replace(older, asked_ms=101 * DAY_MS)

    assert told(older) == [(101, 1, None, "Production", "promote")]
    assert told(trained) == [(101, 1, None, "Production", "training")]
    assert told(moved(older, 102, "Archived"))[1:] == told(older)
    gone = replace(older, stage="Archived", updated_ms=103 * DAY_MS)
    assert told(gone)[0] == (103, 1, "Production", "Archived", "unrecorded")


def test_moves_stay_in_their_order_though_the_clocks_of_their_machines_differ():
    one = moved(moved(NEW, 101, "Production"), 101 - 0.01, "Archived")
    assert [stage for *_, stage, _ in told(one)] == ["Archived", "Production"]

    # A clock that is years ahead must not move all that comes to its time.
    one = moved(moved(NEW, 9000, "Staging"), 101, "Production")
    assert 101 in [day for day, *_ in told(one)]


def test_of_many_moves_the_newest_stay():
    one = NEW
    for number in range(KEPT):
        one = moved(one, 101 + number, ("Staging", "None")[number % 2])
    new = history.tags(one, 200 * DAY_MS, "Production", history.NOBODY)
    [(number, tag)] = history.superfluous([one], {1: new})
    assert (number, tag) == (1, min(tag for tag, _ in one.history))

    many = [replace(one, version=number) for number in range(1, KEPT_OF_MODEL // KEPT + 3)]
    gone = history.superfluous(many, {})
    left = {(v.version, tag) for v in many for tag, _ in v.history} - set(gone)
    assert len(left) == KEPT_OF_MODEL
    assert {tag for _, tag in gone} == set(sorted(tag for tag, _ in one.history)[:9])


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("1", "soon"),
        ("1", "[" * 100_000),
        ("1", "[]"),
        ("1", "{}"),
        ("1", '{"to": ["None"], "action": "promote"}'),
        ("1", '{"to": "Production", "from": {}, "action": "promote"}'),
        ("1", '{"to": "Production", "action": ["promote"]}'),
        ("1", '{"to": "Production", "action": "promote", "by": 7}'),
        ("soon", '{"to": "Production", "action": "promote"}'),
        ("9" * 15, '{"to": "Production", "action": "promote"}'),
        ("٣", '{"to": "Production", "action": "promote"}'),
    ],
)
def test_a_tag_that_users_have_broken_tells_nothing(tag, text):
    one = moved(NEW, 101, "Staging")
    broken = replace(one, history=((f"{HISTORY}{tag}", text), *one.history))

    assert told(broken) == told(one)
    assert told(moved(broken, 102, "Production"))[1:] == told(one)


def test_what_no_answer_can_hold_is_not_told():
    text = r'{"to": "Staging", "action": "promote", "by": "\ud800", "reason": "a\udfffb"}'
    [move] = history.of([replace(NEW, stage="Staging", history=((f"{HISTORY}1", text),))])
    assert (move.by, move.reason) == ("?", "a?b")
    [text] = history.tags(NEW, 101 * DAY_MS, "Staging", Why("\udc80")).values()
    assert text.isascii()


def test_the_longest_reason_fits_into_a_tag_in_any_script():
    for reason in ('"\\\n\t' * 250, "語" * LONGEST_REASON, "😀" * LONGEST_REASON):
        why = history.because("k" * 200, reason)
        [text] = history.tags(NEW, 101 * DAY_MS, "Production", why).values()
        assert len(text) < LONGEST_TAG
        assert json.loads(text)["reason"] == reason.strip()


@pytest.mark.parametrize(
    "reason", ["x" * 1001, 7, b"x", "\x00", "a\x1b[2J", "\udc80"], ids=["long", *"7bnes"]
)
def test_a_reason_that_is_no_text_is_refused(reason):
    with pytest.raises(InvalidDataError) as refused:
        history.because("ann", reason)
    assert refused.value.field == "reason"
    assert refused.value.message.isprintable()
    assert history.because(" ", "\n") == Why(None, None)


def test_a_comparison_follows_the_reason_as_a_sentence_of_its_own():
    summary = "Version 2 calls 0 of 1,200 readings anomalies, version 1 calls 0."
    assert history.because("ann", "looks fine", summary).reason == f"looks fine. {summary}"
    assert history.because("ann", "It saw more!", summary).reason == f"It saw more! {summary}"
    assert history.because("ann", None, summary).reason == summary
    # However long the reason is, the evidence is kept.
    longest = history.because("ann", '"' * LONGEST_REASON, summary)
    [text] = history.tags(NEW, 101 * DAY_MS, "Production", longest).values()
    assert len(text) < LONGEST_TAG
    assert str(longest.reason).endswith(summary)
