"""A function in a process of its own: what goes in, what comes back, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import work_for_a_child as work
from faults import eventually

from vigie.child import Child
from vigie.errors import InvalidDataError

HELPERS = Path(work.__file__).parent
WITHIN_S = 60.0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any, object], Child]]:
    """Start functions of ``work_for_a_child``; whatever is left of them ends with the test."""
    path = [str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    children = []

    def start(function: Any, request: object) -> Child:
        children.append(Child(function))
        children[-1].send(request)
        return children[-1]

    yield start
    for child in children:
        child.kill()


def test_messages_come_back_as_they_are_and_nothing_that_is_printed(started, capfd):
    child = started(work.look, "secret")
    found, echo = child
    assert echo == "secret"
    assert isinstance(found, work.Found)
    assert "secret" not in found.arguments
    assert "work_for_a_child:look" in found.arguments
    assert found.priority == 10
    assert found.group != os.getpgrp()
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "a library prints" in printed.err
    assert "a program prints" in printed.err
    assert child.describe_exit() == "ended with status 0; see the log."


def test_nothing_of_the_working_directory_is_imported(started, tmp_path, monkeypatch):
    for name in ("json", "vigie", "logging"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    assert started(work.look, None).receive(WITHIN_S).folder == str(tmp_path)


def test_an_error_of_ours_rises_here_with_its_place_and_remedy(started):
    with pytest.raises(InvalidDataError, match="It is wrong") as caught:
        started(work.refuse, "epochs").receive(WITHIN_S)
    assert (caught.value.field, caught.value.remedy) == ("epochs", "Make it right.")


def test_another_error_ends_the_messages_and_stands_in_the_log(started, capfd):
    child = started(work.crash, None)
    assert list(child) == []
    assert child.describe_exit() == "ended with status 1; see the log."
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_child_that_is_killed_is_said_to_be(started, tmp_path):
    child = started(work.wait, tmp_path / "gone")
    assert child.receive(WITHIN_S) == "ready"
    os.kill(child._process.pid, signal.SIGKILL)
    assert child.receive(WITHIN_S) is None
    assert "memory" in child.describe_exit()


def test_whoever_waits_for_a_child_that_is_stopped_waits_no_longer(started, tmp_path):
    child = started(work.wait, tmp_path / "gone")
    assert child.receive(WITHIN_S) == "ready"
    with pytest.raises(TimeoutError):
        child.receive(0.1)
    with ThreadPoolExecutor(max_workers=1) as elsewhere:
        waiting = elsewhere.submit(child.receive)
        eventually(waiting.running)
        child.stop()
        assert waiting.result(timeout=5) is None
    assert child.wait(WITHIN_S)
    assert (tmp_path / "gone").exists()


STARTS_AND_IS_KILLED = """
import os, sys
from pathlib import Path
import work_for_a_child as work
from faults import eventually
from vigie.child import Child

# No `if __name__ == "__main__"`: a user's script need not have one.
print("runs", flush=True)
child = Child(work.wait)
child.send(Path(sys.argv[1]))
child.receive()
os.kill(os.getpid(), 9)
"""


def test_a_child_hears_that_its_parent_is_gone_and_runs_no_script_again(
    started, tmp_path, monkeypatch
):
    script = tmp_path / "script.py"
    script.write_text(STARTS_AND_IS_KILLED)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "gone")],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )
    assert done.stdout == "runs\n"
    eventually((tmp_path / "gone").exists, WITHIN_S)
