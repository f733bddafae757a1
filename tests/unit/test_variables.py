"""A misspelt setting is named, with the one that was meant."""

from __future__ import annotations

from vigie.training.variables import unknown_variables


def test_a_misspelt_variable_is_named_with_the_nearest(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert unknown_variables() == []
    monkeypatch.setenv("VIGIE_PROT", "8085")
    monkeypatch.setenv("VIGIE_N_ESTIMATORS", "50")
    monkeypatch.setenv("VIGIE_SOURCE_TOKEN", "secret")
    monkeypatch.setenv("VIGIE_DB_PASSWORD", "secret")
    monkeypatch.setenv("VIGIE_XYZZY", "1")
    (tmp_path / ".env").write_text("VIGIE_CONTAMINATIONS=0.02\nOTHER=1\n")
    assert unknown_variables() == [
        "VIGIE_CONTAMINATIONS is no setting, and is ignored. Did you mean VIGIE_CONTAMINATION?",
        "VIGIE_PROT is no setting, and is ignored. Did you mean VIGIE_PORT?",
        "VIGIE_XYZZY is no setting, and is ignored.",
    ]
