"""One way to run a function in a process of its own: a request goes in, messages come back.

Both ends speak over one inherited socket, in pickled dataclasses: both are this program, and
nothing that comes from anywhere else is unpickled. Nothing but the name of the function stands on
the command line, which everybody can read.

``multiprocessing`` would do more than is wanted. Its ``spawn`` imports the main module of the
parent again, so that a script without the ``__main__`` guard runs twice, and at its end the parent
waits for its children.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from vigie.errors import VigieError


class Parent:
    """The process that has started this one, as the function in the child sees it."""

    def __init__(self, connection: Connection):
        self._connection = connection

    def send(self, message: object) -> None:
        """Send a message; to a parent that listens no more, nothing is sent."""
        with suppress(OSError):
            self._connection.send(message)

    def on_gone(self, act: Callable[[], None]) -> None:
        """Have another thread act as soon as the parent has stopped this process, or is gone."""

        def watch() -> None:
            with suppress(EOFError, OSError):
                self._connection.recv()
            act()

        threading.Thread(target=watch, name="vigie-parent", daemon=True).start()


class Child:
    """A function that runs in a process of its own, at a low priority.

    Ctrl-C in the terminal does not reach it. When the parent stops it, or is gone, the function
    hears of it by ``Parent.on_gone``; one that does not ask goes on to its end.

    Parameters
    ----------
    function : callable
        At the top level of a module; called in the child with a ``Parent`` and the request.
    """

    def __init__(self, function: Callable[[Parent, Any], None]):
        self._socket, theirs = socket.socketpair()
        for end in (self._socket, theirs):
            # Whatever timeout a program has set for all of its sockets.
            end.setblocking(True)
        name = f"{function.__module__}:{function.__qualname__}"
        with theirs:
            self._process = subprocess.Popen(
                # -P: nothing of the working directory is imported.
                [sys.executable, "-P", "-m", "vigie.child", str(theirs.fileno()), name],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Ctrl-C in a terminal reaches a whole group at once. The session stays the same:
                # Linux compares priorities only within one.
                process_group=0,
            )
        _lower_priority(self._process.pid)
        self._connection = Connection(os.dup(self._socket.fileno()))

    def send(self, request: object) -> None:
        """Send the request; a child that has ended by now is found so by whoever listens."""
        with suppress(OSError):
            self._connection.send(request)

    def receive(self, within_s: float | None = None) -> Any:
        """Return the next message; None when there are no more.

        Parameters
        ----------
        within_s : float, optional
            How long to wait for it, in seconds; by default for as long as it takes.

        Raises
        ------
        TimeoutError
            If none has come by then.
        VigieError
            Which the function has raised.
        """
        try:
            message = self._connection.recv() if self._connection.poll(within_s) else self
        except (EOFError, OSError):
            return None
        if message is self:
            raise TimeoutError
        if isinstance(message, VigieError):
            raise message
        return message

    def __iter__(self) -> Iterator[Any]:
        return iter(self.receive, None)

    def stop(self) -> None:
        """Let go of the child; who is waiting for its messages gets no more, at once."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """End the child where it is."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Wait for the end of the child, and give back what it has cost."""
        self._process.wait()
        self._connection.close()
        self._socket.close()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait(self, within_s: float) -> bool:
        """Return whether the child has ended, waiting for that so many seconds at most."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within_s)
        return not self.is_running

    @property
    def was_killed(self) -> bool:
        return self._process.returncode == -signal.SIGKILL

    def how_it_ended(self) -> str:
        """Wait for the end of the child, and say how it came."""
        status = self._process.wait()
        if self.was_killed:
            return "was killed (SIGKILL), as happens when memory runs out."
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        return f"ended {how}; the log says more."


def main() -> None:
    """Run the function that the command line names, on the request that comes in."""
    connection = Connection(int(sys.argv[1]))
    os.set_inheritable(connection.fileno(), False)
    # What libraries print belongs to the log.
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("vigie").setLevel(logging.INFO)
    try:
        request = connection.recv()
    except (EOFError, OSError):
        return
    module, _, function = sys.argv[2].partition(":")
    parent = Parent(connection)
    try:
        getattr(import_module(module), function)(parent, request)
    except VigieError as error:
        parent.send(error)


def _lower_priority(process: int) -> None:
    """Let whatever answers somebody go before a process, from its first import on."""
    with suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process, 10)
        if hasattr(os, "SCHED_BATCH"):
            os.sched_setscheduler(process, os.SCHED_BATCH, os.sched_param(0))


if __name__ == "__main__":
    main()
