"""OpenTelemetry is off unless it is asked for, and says what it lacks."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from vigie.config import Settings
from vigie.errors import InvalidDataError
from vigie.main import create_app


@pytest.mark.skipif(
    find_spec("opentelemetry.exporter") is not None, reason="the exporter is installed"
)
def test_whoever_asks_for_spans_without_the_exporter_is_told_its_name(untracked: Settings) -> None:
    with pytest.raises(InvalidDataError) as refused:
        create_app(untracked.model_copy(update={"telemetry": True}))
    assert refused.value.field == "VIGIE_TELEMETRY"
    assert "pip install opentelemetry-exporter-otlp-proto-http" in str(refused.value.remedy)
