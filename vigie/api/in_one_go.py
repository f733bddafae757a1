"""A thread beside the event loop that answers tiny requests, for little more than they take.

To judge a reading takes a tenth of a millisecond, and an executor takes longer to have that done
in a thread and brought back. What is dear is to be woken up: its queue and its futures are locks,
and a thread that is woken by one that holds the interpreter comes to nothing and goes to sleep
again. Whoever writes into a pipe has let go of the interpreter, so a pipe each way costs a third.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
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
        self._asked: list[Asked] = []
        self._answered: list[Answered] = []
        self._busy = False

    def __enter__(self) -> Self:
        self._questions, self._ask = os.pipe()
        self._answers, self._tell = os.pipe()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._answers, self._deliver)
        self._thread = threading.Thread(target=self._work, name="in-one-go", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._ask)
        self._thread.join()
        self._loop.remove_reader(self._answers)
        for end in (self._questions, self._answers, self._tell):
            os.close(end)

    async def answer(self, work: Work) -> bytes:
        """Return what the work returns, or raise what it raises."""
        answered: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting.append((work, answered))
        if not self._busy:
            self._hand_over()
        return await answered

    def _hand_over(self) -> None:
        self._busy = True
        self._asked, self._waiting = self._waiting, []
        os.write(self._ask, b"?")

    def _work(self) -> None:
        while os.read(self._questions, 1):
            self._answered = [(answered, _outcome(work)) for work, answered in self._asked]
            os.write(self._tell, b"!")

    def _deliver(self) -> None:
        os.read(self._answers, 1)
        self._busy = False
        for answered, outcome in self._answered:
            # Who has hung up meanwhile waits for nothing.
            if answered.cancelled():
                continue
            if isinstance(outcome, Exception):
                answered.set_exception(outcome)
            else:
                answered.set_result(outcome)
        self._asked, self._answered = [], []
        if self._waiting:
            self._hand_over()


def _outcome(work: Work) -> bytes | Exception:
    try:
        return work()
    except Exception as error:
        # Whoever asked gets it, as from any other thread.
        return error
