"""The limit of the rate of each client."""

from __future__ import annotations

import pytest

from vigie.api.rate import MOST_CLIENTS, RateLimit


def test_a_client_may_send_all_at_once_and_then_at_an_even_rate() -> None:
    rate = RateLimit(6, 60.0)
    assert [rate.wait_s("a", 100.0) for _ in range(6)] == [0.0] * 6
    assert rate.wait_s("a", 100.0) == pytest.approx(10.0)
    # What is refused does not count.
    assert rate.wait_s("a", 105.0) == pytest.approx(5.0)
    assert rate.wait_s("b", 105.0) == 0.0
    assert [rate.wait_s("a", 110.0 + 10.0 * n) for n in range(5)] == [0.0] * 5
    assert rate.wait_s("a", 150.0) == pytest.approx(10.0)
    assert [rate.wait_s("a", 1000.0) for _ in range(7)][:6] == [0.0] * 6


def test_clients_that_are_gone_are_forgotten() -> None:
    rate = RateLimit(1, 1.0)
    for number in range(3 * MOST_CLIENTS):
        assert rate.wait_s(str(number), number / 1000) == 0.0
    assert len(rate._due) <= MOST_CLIENTS + 1
