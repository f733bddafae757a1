"""Threads beside the event loop that take all calls that wait, at once.

To assess a reading takes a millisecond, and to have that done in a thread and brought back by
``loop.run_in_executor`` takes half of that again: its queue and its futures are locks, and a
thread that is woken by one that holds the interpreter finds nothing to do and sleeps again. A
thread that writes into a pipe has let go of the interpreter. With sixteen connections a reading
takes three quarters of the time.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Call = Callable[[], bytes]
Outcome = bytes | Exception
AT_ONCE = 4096
"""Bytes that are read from a pipe at once; each is a thread that has answered."""


class BatchExecutor:
    """Run short calls in a few threads, each of which takes its share of all that wait.

    It belongs to the event loop in which it is entered, and ends when it is left.

    Parameters
    ----------
    n_threads : int
        At most 256. More than one is of use only to calls that wait for something.
    """

    def __init__(self, n_threads: int):
        self._n_threads = n_threads
        self._waiting: list[tuple[Call, asyncio.Future[bytes]]] = []

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._answers, tell = os.pipe()
        self._tell = tell
        self._threads = [_Thread(number, tell) for number in range(self._n_threads)]
        self._idle = list(self._threads)
        self._loop.add_reader(self._answers, self._deliver)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for thread in self._threads:
            thread.end()
        self._loop.remove_reader(self._answers)
        os.close(self._answers)
        os.close(self._tell)

    async def run(self, call: Call) -> bytes:
        """Return what a call returns, or raise what it raises."""
        answered: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting.append((call, answered))
        self._hand_over()
        return await answered

    def _hand_over(self) -> None:
        while self._waiting and self._idle:
            share = -(-len(self._waiting) // len(self._idle))
            self._idle.pop().take(self._waiting[:share])
            del self._waiting[:share]

    def _deliver(self) -> None:
        for number in os.read(self._answers, AT_ONCE):
            thread = self._threads[number]
            self._idle.append(thread)
            for (_, answered), outcome in zip(thread.batch, thread.outcomes, strict=True):
                # A client that has hung up meanwhile waits for nothing.
                if answered.cancelled():
                    continue
                if isinstance(outcome, Exception):
                    answered.set_exception(outcome)
                else:
                    answered.set_result(outcome)
            thread.batch, thread.outcomes = [], []
        self._hand_over()


class _Thread:
    """One thread with the calls that it was given last, and what came of them."""

    def __init__(self, number: int, tell: int):
        self._number, self._tell = number, tell
        self._questions, self._ask = os.pipe()
        self.batch: list[tuple[Call, asyncio.Future[bytes]]] = []
        self.outcomes: list[Outcome] = []
        self._thread = threading.Thread(target=self._run, name=f"batch-{number}", daemon=True)
        self._thread.start()

    def take(self, batch: list[tuple[Call, asyncio.Future[bytes]]]) -> None:
        self.batch = batch
        os.write(self._ask, b"?")

    def end(self) -> None:
        os.close(self._ask)
        self._thread.join()
        os.close(self._questions)

    def _run(self) -> None:
        while os.read(self._questions, 1):
            self.outcomes = [_outcome(call) for call, _ in self.batch]
            os.write(self._tell, bytes([self._number]))


def _outcome(call: Call) -> Outcome:
    try:
        return call()
    except Exception as error:
        # It rises where the call is awaited.
        return error
