"""The server, what stands before it, or the program itself fails at any moment of a training."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
import pytest
from faults import AT_MOST_S, each_kind, eventually
from forked import forking, train_when_told
from sending import files, recovered, runs, train, versions, waiting

from vigie.config import Settings
from vigie.errors import TrackingUnavailableError
from vigie.services.mlflow_service import MLflowService

pytestmark = pytest.mark.usefixtures("asked_again_at_once")

EVERY_REQUEST = "EVERY_REQUEST" in os.environ
WAYS = ["gone", "500", "unanswered"]


def breaks(asked: list[str], ways: list[str]) -> list[tuple[int, str]]:
    """Return at which requests a training is broken off, and in which way.

    Where something is uploaded, ``unanswered`` is left to the sending that breaks in turn: that
    meets each upload, but what stands behind a request that is made only once, it may pass over.
    """
    if EVERY_REQUEST:
        return [(after, way) for way in ways for after in range(len(asked))]
    first_and_last = each_kind(asked)
    not_done = [(after, WAYS[n % 2]) for n, after in enumerate(first_and_last)]
    done = [
        (after, "unanswered")
        for after in first_and_last
        if asked[after].startswith("POST ") and not asked[after].endswith("/search")
    ]
    assert len(done) >= 5, "run, batch, model, version and the end of the run"
    return not_done + done


# One way at a time where there are many: a search finds a hundred runs.
@pytest.mark.parametrize(
    "ways", [[way] for way in WAYS] if EVERY_REQUEST else [WAYS], ids=", ".join
)
def test_a_server_that_fails_at_any_request_has_each_training_once(ways, behind, healthy):
    """The first and the last of each kind; with ``EVERY_REQUEST=1``, all, and in every way."""
    settings, _ = behind(10_000, "gone")
    train(settings, healthy)
    settings, well = behind(10_000, "gone")
    well.counts_probes = False
    train(settings, healthy)
    assert len(well.asked) > 20, "a training takes more requests than that"
    assert len(each_kind(well.asked)) > 12, "there are more kinds than that"
    for number, (after, way) in enumerate(breaks(well.asked, ways)):
        settings, server = behind(after, way)
        server.counts_probes = False
        train(settings, healthy)
        assert server.left < 0
        recovered(settings, server)
        there = len(runs(settings)), len(versions(settings))
        assert there == (number + 3, number + 3), f"{way} at request {after}"
    found = runs(settings)
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len({(len(run.data.params), len(run.data.metrics)) for run in found}) == 1
    assert {run.info.run_id for run in found} == {version.run_id for version in versions(settings)}


@pytest.mark.parametrize("how", ["{}", "200", "cut", "400", "404"])
def test_what_a_proxy_says_in_place_of_the_server_is_no_fault_of_the_training(
    how, behind, healthy, tmp_path, monkeypatch
):
    settings, server = behind(10_000, how)
    client, where = MLflowService(settings).server.client, tmp_path / "where"
    where.mkdir()
    monkeypatch.chdir(where)
    train(settings, healthy)
    asked = ("runs/create", "model.pkl", "model-versions/create")
    server.left = 0
    for server.at in asked:
        train(settings, healthy)
        # It is all there already, or on its way, but given up it is not.
        assert MLflowService(settings).outbox.dead_letters() == []
    server.at = ""
    recovered(settings, server)
    found = runs(settings)
    assert len(found) == len(versions(settings)) == 1 + len(asked)
    assert len({tuple(sorted(files(client, run.info.run_id))) for run in found}) == 1
    assert list(where.iterdir()) == []


def test_trainings_under_faults_at_random_are_all_there_once(behind, healthy):
    """``N_TRAININGS=200 pytest -k at_random`` tries for longer."""
    rng = np.random.default_rng(0)
    n_trainings = int(os.environ.get("N_TRAININGS", "6"))
    settings, server = behind(0, "gone")
    for _ in range(n_trainings):
        server.how = rng.choice(["gone", "500", "unanswered", "readonly"])
        server.left = int(rng.integers(0, 30))
        train(settings, healthy)
    recovered(settings, server)
    assert len(versions(settings)) == n_trainings
    found = MLflowService(settings).search_runs(max_results=n_trainings + 100)
    assert {run.info.run_id for run in found} == {v.run_id for v in versions(settings)}
    assert len(found) == n_trainings


def test_sending_that_breaks_at_every_request_in_turn_ends_with_one_run(behind, healthy):
    settings, server = behind(0, "unanswered")
    settings = settings.model_copy(update={"figures": True})
    train(settings, healthy)
    for after in count():
        server.left = after
        with suppress(TrackingUnavailableError):
            MLflowService(settings).sync()
        if server.left >= 0:
            break
    assert after > 5, "to send a training takes more requests than that"
    recovered(settings, server)
    assert len(runs(settings)) == len(versions(settings)) == 1


@pytest.fixture
def victim(healthy: np.ndarray) -> Callable[[Settings], tuple[BaseProcess, Connection]]:
    """Start a process that trains when it is told to."""

    def start(settings: Settings) -> tuple[BaseProcess, Connection]:
        told, its_own = forking().Pipe()
        process = forking().Process(target=train_when_told, args=(settings, healthy, its_own))
        process.start()
        its_own.close()
        assert told.recv() == "ready"
        return process, told

    return start


@pytest.mark.parametrize("after", [0, 1, 2, 4, 6, 8, 10])
def test_a_training_whose_process_is_killed_while_it_is_sent_is_there_once(after, behind, victim):
    settings, server = behind(after, "kills")
    process, told = victim(settings)
    server.victim = process.pid
    told.send("go")
    process.join(timeout=2 * AT_MOST_S)
    assert process.exitcode == -signal.SIGKILL
    n_written = waiting(settings)
    # The first request asks whether the server is there, be it before there is a model.
    assert n_written == 1 or (n_written == 0 and after == 0)
    recovered(settings, server)
    assert len(runs(settings)) == len(versions(settings)) == n_written


def test_a_process_killed_while_it_writes_leaves_nothing_half(behind, victim):
    settings, server = behind(0, "gone")
    process, told = victim(settings)
    outbox = MLflowService(settings).outbox
    told.send("go")
    eventually(lambda: outbox.folder.is_dir() and any(outbox.folder.glob(".writing-*")))
    process.kill()
    process.join()
    n_written = waiting(settings)
    recovered(settings, server)
    assert len(runs(settings)) == len(versions(settings)) == n_written
    assert list(outbox.folder.iterdir()) == []
