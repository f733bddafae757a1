"""Whose key it is: the keys of the database, in memory for some seconds.

A request reads memory only. The table is read again in the background when it was read more than
``CHECK_EVERY_S`` ago; an answer waits for that if it was more than ``CERTAIN_S`` ago, or if the key
is unknown. So a new key works at once, and a revoked one for ten seconds at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vigie.breaker import CircuitBreaker
from vigie.errors import HistoryError, KeyRefusedError
from vigie.keys import ApiKey, parsed

if TYPE_CHECKING:
    from vigie.history.keys import KeyStore

logger = logging.getLogger(__name__)

CHECK_EVERY_S, CERTAIN_S = 5.0, 8.0
"""Age of what was read at which it is read again, and at which an answer waits for that."""
PATIENCE_S = 1.5
"""How long an answer waits for the database, in seconds."""
OUTAGE_S = 300.0
"""How long known keys are valid while the database does not answer, in seconds."""
READ_EVERY_S = 0.2
"""Least time between two readings of the table, so that unknown keys cannot keep it busy."""
QUIET_AFTER_FAILURE_S = 5.0
"""How long a failed database is not asked, in seconds."""
USE_EVERY_S = 60.0
"""Least time between two records of the use of a key, in seconds."""


class Keyring:
    """Verify keys, in one event loop.

    Parameters
    ----------
    open_store : callable
        Opens the table of keys; called in a thread when the first key is verified.
    """

    def __init__(self, open_store: Callable[[], KeyStore]):
        self._open_store = open_store
        self._store: KeyStore | None = None
        # Of its own, so that neither trainings nor readings keep it busy.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keys")
        self._keys: dict[str, ApiKey] = {}
        self._read_at = -float("inf")
        """When the reading began from which ``_keys`` come."""
        self._started_at = -float("inf")
        self._reading: asyncio.Task[None] | None = None
        self._breaker = CircuitBreaker[HistoryError]()
        self._noted_at: dict[str, float] = {}
        self._verified: dict[str, ApiKey] = {}
        """What clients have sent since the reading, and whose it is."""

    def recently_verified(self, text: str) -> ApiKey | None:
        """Return the key that a client has sent, if ``verified`` need not be asked about it.

        A key that was verified since the table was read is found by the hash of a dictionary, which
        is keyed: how long that takes tells nothing of a secret.
        """
        key = self._verified.get(text)
        now = time.monotonic()
        if (
            key is None
            or now - self._read_at > CHECK_EVERY_S
            or now - self._noted_at[key.id] >= USE_EVERY_S
            or (key.expires and not key.is_active(datetime.now(UTC)))
        ):
            return None
        return key

    async def verified(self, text: str) -> ApiKey:
        """Return the key that a client has sent.

        Raises
        ------
        KeyRefusedError
            If it is unknown, revoked or expired.
        HistoryError
            If the database cannot say so.
        """
        if (parts := parsed(text)) is None:
            raise KeyRefusedError("What was sent is no API key of Vigie.")
        number, secret = parts
        now = time.monotonic()
        if number not in self._keys:
            await self._read_since(now)
        elif now - self._read_at > CERTAIN_S:
            await self._read_since(now - CERTAIN_S)
        elif now - self._read_at > CHECK_EVERY_S and not self._breaker.is_open:
            self._read()
        key = self._keys.get(number)
        if self._read_at < (now if key is None else now - OUTAGE_S):
            self._breaker.check()
            raise HistoryError("The database of API keys does not answer.")
        if key is None or not key.belongs_to(secret):
            raise KeyRefusedError("The API key is unknown.")
        if not key.is_active(moment := datetime.now(UTC)):
            how, since = ("was revoked", key.revoked) if key.revoked else ("expired", key.expires)
            raise KeyRefusedError(
                f"The API key {key.name} ({number}) {how} at {since:%Y-%m-%d %H:%M} UTC."
            )
        if now - self._noted_at.get(number, -USE_EVERY_S) >= USE_EVERY_S:
            self._noted_at[number] = now
            self._thread.submit(self._note_use, number, moment)
        self._verified[text] = key
        return key

    def close(self) -> None:
        """Release the database, once the last use of each key is stored."""
        self._thread.shutdown()
        if self._store is not None:
            self._store.close()

    async def _read_since(self, moment: float) -> None:
        """Wait until what is known was read at this time or later; not long, if the database fails.

        A reading that has been awaited in vain is not awaited again.
        """
        if self._reading and time.monotonic() - self._started_at > PATIENCE_S:
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self._read_at < moment and not self._breaker.is_open:
                    await asyncio.shield(self._read())
        except TimeoutError:
            return

    def _read(self) -> asyncio.Task[None]:
        """Return the reading of the table in progress, or a new one."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_table())
        return self._reading

    async def _read_table(self) -> None:
        try:
            await asyncio.sleep(max(self._started_at + READ_EVERY_S - time.monotonic(), 0.0))
            self._started_at = began = time.monotonic()
            loop = asyncio.get_running_loop()
            keys = await loop.run_in_executor(self._thread, self._load)
        except HistoryError as error:
            if self._breaker.count():
                logger.error("API keys cannot be verified. Known ones stay valid for "
                             "%.0f s. %s", OUTAGE_S, error)  # fmt: skip
            self._breaker.open(error, QUIET_AFTER_FAILURE_S)
        else:
            if self._breaker.recovered():
                logger.warning("API keys can be verified again.")
            self._keys, self._read_at, self._verified = keys, began, {}
        finally:
            self._reading = None

    def _load(self) -> dict[str, ApiKey]:
        if self._store is not None and self._store.is_gone:
            logger.error("The file with the API keys was deleted or replaced while the service "
                         "runs; the keys of the file that is there now are valid.")  # fmt: skip
            self._store.close()
            self._store = None
        if self._store is None:
            self._store = self._open_store()
        return {key.id: key for key in self._store.all()}

    def _note_use(self, number: str, used: datetime) -> None:
        if self._store is None or self._breaker.is_open:
            return
        try:
            self._store.note_use(number, used)
        except HistoryError as error:
            logger.warning("The last use of API key %s was not stored. %s", number, error)
