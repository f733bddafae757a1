"""Functions that tests run in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from vigie.child import Parent
from vigie.errors import InvalidDataError


@dataclass(frozen=True)
class Found:
    """What a child finds out about itself."""

    priority: int
    group: int
    folder: str
    arguments: str


def look(parent: Parent, request: str) -> None:
    """Print, which must not get among the messages, and send what there is to see."""
    sys.stdout.write("a library prints\n")
    os.system("echo a program prints")
    cmdline = Path("/proc/self/cmdline").read_text()
    parent.send(Found(os.getpriority(os.PRIO_PROCESS, 0), os.getpgrp(), os.getcwd(), cmdline))
    parent.send(request)


def refuse(parent: Parent, request: str) -> None:
    """Raise what a user could have caused."""
    raise InvalidDataError("It is wrong.", field=request, remedy="Make it right.")


def crash(parent: Parent, request: str) -> None:
    """Raise what only a fault of the program causes."""
    raise ZeroDivisionError


def wait(parent: Parent, request: Path) -> None:
    """Do nothing until the parent stops this process, then write a file."""

    def end() -> None:
        request.touch()
        os._exit(3)

    parent.on_stop(end)
    parent.send("ready")
    signal.pause()
