"""A thread beside the event loop that answers tiny requests, for as little as the way there costs.

To judge a reading takes a tenth of a millisecond, and an executor takes as long to have it done in
a thread and brought back. What is dear is to be woken up: a thread that is woken by one that holds
the interpreter comes to nothing and goes to sleep again. asyncio's executor wakes the event loop
like that, and so does a future. A pipe does not, for whoever writes into it has let go of the
interpreter; this costs a fifth.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Self

Work = Callable[[], bytes]
Asked = tuple[Work, "asyncio.Future[bytes]"]
Answered = tuple["asyncio.Future[bytes]", bytes | Exception]


class InOneGo:
    """Has what came while the last answers were made answered in one go, in a thread.

    It belongs to the event loop in which it is entered, and ends when it is left.
    """

    def __init__(self) -> None:
        self._waiting: list[Asked] = []
        self._busy = False
        self._handed_over: SimpleQueue[list[Asked] | None] = SimpleQueue()
        self._answers: list[Answered] = []
        self._thread = threading.Thread(target=self._work, name="in-one-go", daemon=True)

    def __enter__(self) -> Self:
        self._heard, self._told = os.pipe()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._heard, self._deliver)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._handed_over.put(None)
        self._thread.join()
        self._loop.remove_reader(self._heard)
        os.close(self._heard)
        os.close(self._told)

    async def answer(self, work: Work) -> bytes:
        """Return what the work returns, or raise what it raises."""
        answered: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting.append((work, answered))
        self._hand_over()
        return await answered

    def _hand_over(self) -> None:
        if self._waiting and not self._busy:
            self._busy = True
            self._handed_over.put(self._waiting)
            self._waiting = []

    def _work(self) -> None:
        while (asked := self._handed_over.get()) is not None:
            self._answers = [(answered, _outcome(work)) for work, answered in asked]
            os.write(self._told, b"!")

    def _deliver(self) -> None:
        os.read(self._heard, 1)
        answers, self._answers = self._answers, []
        self._busy = False
        for answered, outcome in answers:
            # Who has hung up meanwhile waits for nothing.
            if answered.cancelled():
                continue
            if isinstance(outcome, Exception):
                answered.set_exception(outcome)
            else:
                answered.set_result(outcome)
        self._hand_over()


def _outcome(work: Work) -> bytes | Exception:
    try:
        return work()
    except Exception as error:
        # Whoever asked gets it, as from any other thread.
        return error
