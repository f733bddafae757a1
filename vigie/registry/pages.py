"""Addresses of MLflow's pages, for people.

The root of MLflow's site opens on traces of language models; these addresses open on training runs.
"""

from __future__ import annotations

from urllib.parse import urlsplit

VIEW = "workflowType=machine_learning"
"""Query for the view of training runs; by default a new browser shows traces."""


def runs_page(uri: str, experiment_id: str) -> str | None:
    """Return the address of the page with an experiment's runs; None if no server is at ``uri``."""
    return _page(uri, f"experiments/{experiment_id}?{VIEW}")


def run_page(uri: str, experiment_id: str, run_id: str) -> str | None:
    """Return the address of the page of one run; None if no server is at ``uri``."""
    return _page(uri, f"experiments/{experiment_id}/runs/{run_id}?{VIEW}")


def _page(uri: str, route: str) -> str | None:
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return None
    # Without credentials: a browser asks for its own.
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}/#/{route}"
