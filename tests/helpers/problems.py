"""What every refusal over HTTP must be."""

from __future__ import annotations

from typing import Any

import httpx


def problem_in(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check that an answer is a problem that says what to do, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["remedy"]
    return body
