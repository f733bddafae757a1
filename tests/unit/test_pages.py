"""The addresses of MLflow's pages that people are given."""

from __future__ import annotations

import pytest

from vigie.registry.pages import run_page, runs_page


@pytest.mark.parametrize(
    ("uri", "site"),
    [
        ("http://localhost:5000", "http://localhost:5000"),
        ("https://mlflow.example/behind/a/path/", "https://mlflow.example/behind/a/path"),
        ("https://bob:secret@mlflow.example:8443", "https://mlflow.example:8443"),
    ],
)
def test_a_page_is_on_the_site_of_the_server_and_shows_no_password(uri, site):
    view = "workflowType=machine_learning"
    assert runs_page(uri, "7") == f"{site}/#/experiments/7?{view}"
    assert run_page(uri, "7", "abc") == f"{site}/#/experiments/7/runs/abc?{view}"


def test_a_database_without_a_server_has_no_pages():
    assert runs_page("sqlite:///mlflow.db", "7") is None
    assert run_page("sqlite:///mlflow.db", "7", "abc") is None
