"""A limit of the rate of requests, for each client.

References
----------
ITU-T I.371 (2004), Annex A.2: the generic cell rate algorithm, as virtual scheduling.
"""

from __future__ import annotations

MOST_CLIENTS = 10_000
"""Clients that are remembered, unless more are active at once."""


class RateLimit:
    """Let each client send ``n`` requests at once, and ``n`` in each period from then on.

    One number for each client: when all of its requests so far were due at an even rate.

    Parameters
    ----------
    n : int
        Requests in a period.
    period_s : float
        The period, in seconds.
    """

    def __init__(self, n: int, period_s: float):
        self._interval_s = period_s / n
        self._burst_s = period_s - self._interval_s
        self._due: dict[str, float] = {}
        self._most = MOST_CLIENTS

    def wait_s(self, client: str, now: float) -> float:
        """Count a request, and return 0; or return in how many seconds it would be allowed.

        Parameters
        ----------
        client : str
            Who sends it.
        now : float
            The time, in seconds, of a clock that never goes back.
        """
        due = max(self._due.get(client, now), now)
        if (wait_s := due - now - self._burst_s) > 1e-9:
            return wait_s
        if len(self._due) >= self._most:
            self._due = {name: end for name, end in self._due.items() if end > now}
            self._most = max(2 * len(self._due), MOST_CLIENTS)
        self._due[client] = due + self._interval_s
        return 0.0
