"""Run a function in a child process: one request goes in, messages come back.

Parent and child exchange pickled dataclasses over an inherited socket. Both run this program, and
nothing from any other source is unpickled. The command line, which other users can read, holds
only the name of the function.

``multiprocessing`` does not fit: its ``spawn`` imports the main module of the parent again, so a
script without the ``__main__`` guard runs twice, and the parent waits for its children on exit.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pkgutil import resolve_name
from typing import Any, Self

from vigie import garbage, logs
from vigie.errors import VigieError


class Parent:
    """The parent process, as the function in the child sees it."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: object) -> None:
        """Send a message, from any thread; do nothing if the parent has closed the connection."""
        with self._sending, suppress(OSError):
            self._connection.send(message)

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call back, in another thread, when the parent stops this process or exits."""

        def watch() -> None:
            with suppress(EOFError, OSError):
                self._connection.recv()
            callback()

        threading.Thread(target=watch, name="vigie-parent", daemon=True).start()


class Child:
    """A function that runs in a child process, at low priority.

    In a ``with`` statement, the child is killed at the end of the block.

    Ctrl-C in the terminal does not reach it. ``Parent.on_stop`` notifies the function when the
    parent stops it or exits; without that callback it runs to its end.

    Parameters
    ----------
    function : callable
        At the top level of a module; called in the child with a ``Parent`` and the request.
    """

    def __init__(self, function: Callable[[Parent, Any], None]):
        self._socket, theirs = socket.socketpair()
        for end in (self._socket, theirs):
            # socket.setdefaulttimeout() of the calling program must not apply here.
            end.setblocking(True)
        name = f"{function.__module__}:{function.__qualname__}"
        with theirs:
            self._process = subprocess.Popen(
                # -P: import nothing from the working directory.
                [
                    *(sys.executable, "-P", "-m", "vigie.child"),
                    *(str(theirs.fileno()), name, logs.format_in_use()),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Ctrl-C in a terminal signals the whole process group. The session stays the
                # same, since Linux compares priorities only within a session.
                process_group=0,
            )
        _lower_priority(self._process.pid)
        self._connection = Connection(os.dup(self._socket.fileno()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.kill()

    def send(self, request: object) -> None:
        """Send the request; if the child has exited, ``receive`` reports it."""
        with suppress(OSError):
            self._connection.send(request)

    def receive(self, within_s: float | None = None) -> Any:
        """Return the next message; None when there are no more.

        Parameters
        ----------
        within_s : float, optional
            How long to wait for it, in seconds; by default without limit.

        Raises
        ------
        TimeoutError
            If no message arrives in time.
        VigieError
            If the function raised one.
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
        """Send the stop signal: ``receive`` returns None at once, ``Parent.on_stop`` fires."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """Kill the child and release its resources."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Wait for the child to exit, and release its resources."""
        self._process.wait()
        self._connection.close()
        self._socket.close()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait(self, within_s: float) -> bool:
        """Wait up to ``within_s`` seconds; return whether the child has exited."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within_s)
        return not self.is_running

    @property
    def was_killed(self) -> bool:
        return self._process.returncode == -signal.SIGKILL

    def describe_exit(self) -> str:
        """Wait for the child to exit, and describe how it did."""
        status = self._process.wait()
        if self.was_killed:
            return "was killed (SIGKILL), as happens when memory runs out."
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        return f"ended {how}; see the log."


def main() -> None:
    """Receive the request, and run the function that the command line names on it."""
    garbage.search_rarely()
    connection = Connection(int(sys.argv[1]))
    os.set_inheritable(connection.fileno(), False)
    # Whatever libraries print on standard output goes to the log.
    os.dup2(2, 1)
    logs.configure(logs.to_standard_error("json" if sys.argv[3] == "json" else "text"))
    try:
        request = connection.recv()
    except (EOFError, OSError):
        return
    parent = Parent(connection)
    try:
        resolve_name(sys.argv[2])(parent, request)
    except VigieError as error:
        parent.send(error)


def _lower_priority(process: int) -> None:
    """Give a process a low priority, so that it does not slow down processes that serve users."""
    with suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process, 10)
        if hasattr(os, "SCHED_BATCH"):
            os.sched_setscheduler(process, os.SCHED_BATCH, os.sched_param(0))


if __name__ == "__main__":
    main()
