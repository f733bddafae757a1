"""What the service tells of itself: metrics for Prometheus, ids of requests, its log."""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from in_process import Api, asked
from prometheus_client.parser import text_string_to_metric_families

from vigie import logs, samples
from vigie.config import Settings
from vigie.main import create_app

API = "/api/v1/anomalies"
SILENT_WITHIN_S = 1.0

Metrics = dict[str, dict[frozenset[tuple[str, str]], float]]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service without MLflow that has one detector."""
    settings = Settings(
        mlflow_enabled=False,
        state_dir=tmp_path_factory.mktemp("state"),
        n_estimators=25,
        access_log=True,
    )
    with asked(create_app(settings)) as client:
        bench = samples.healthy(300)
        client.app.state.service.train_all_models(
            bench.data, bench.feature_names, ["isolation_forest", "vector_autoregression"]
        )
        yield client


def scraped(api: Api) -> Metrics:
    """Return the value of each sample, by its name and labels."""
    response = api.get("/metrics")
    assert response.status_code == 200, response.text
    found: Metrics = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def labelled(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def readings(asset_id: str, rows: Any) -> list[dict[str, Any]]:
    """Return consecutive readings of an asset, one a second."""
    return [
        {
            "asset_id": asset_id,
            "features": dict(zip(samples.FEATURE_NAMES, row.tolist(), strict=True)),
            "timestamp": f"2026-01-05T08:{second // 60:02}:{second % 60:02}Z",
        }
        for second, row in enumerate(rows)
    ]


def test_the_counters_say_what_the_answers_said(api, fault):
    before = scraped(api)
    sent = readings("counted", fault.data)
    answers = [*api.post(f"{API}/detect/batch", json=sent[:-1]).json()]
    answers.append(api.post(f"{API}/detect", json=sent[-1]).json())
    # Late readings are assessed, and change no state of today.
    late = api.post(f"{API}/detect/batch", json=sent[:50]).json()
    after = scraped(api)

    def added(name: str, **labels: str) -> float:
        kind = labelled(**labels)
        return after[name].get(kind, 0.0) - before.get(name, {}).get(kind, 0.0)

    assert added("vigie_readings_assessed_total") == len(sent) + 50
    assert any(answer["is_anomaly"] for answer in answers)
    assert added("vigie_readings_anomalous_total") == sum(
        answer["is_anomaly"] for answer in [*answers, *late]
    )
    for model in ("isolation_forest", "vector_autoregression"):
        verdicts = [a["models"][model] for a in [*answers, *late] if model in a["models"]]
        of_it = {"model": model, "version": "none"}
        assert added("vigie_anomalies_total", **of_it) == sum(v["is_anomaly"] for v in verdicts)
        assert added("vigie_score_count", **of_it) == len(verdicts)
        assert added("vigie_score_sum", **of_it) == pytest.approx(sum(v["score"] for v in verdicts))
        assert added("vigie_score_bucket", **of_it, le="0.99") == sum(
            verdict["score"] <= 0.99 for verdict in verdicts
        )
    states = [answer["asset"]["state"] for answer in answers]
    entered = Counter(
        now for last, now in zip(["unknown", *states], states, strict=False) if now != last
    )
    assert entered["alarm"]
    for kind, value in after["vigie_asset_state_changes_total"].items():
        [(_, state)] = kind
        assert value - before["vigie_asset_state_changes_total"][kind] == entered[state], state
    assert added("vigie_assets", state=states[-1]) == 1
    requests = "vigie_http_requests_total"
    assert added(requests, method="POST", route=f"{API}/detect/batch", status="200") == 2
    timed = "vigie_http_request_duration_seconds_count"
    assert added(timed, method="POST", route=f"{API}/detect", status="200") == 1
    assert after["vigie_history_size_bytes"][labelled()] > 0
    assert after["vigie_history_up"][labelled()] == 1
    assert after["process_resident_memory_bytes"][labelled()] > 1e6


def test_a_request_is_counted_by_the_template_of_its_path_and_never_by_the_path(api):
    for number in range(3):
        api.get(f"/api/v1/jobs/{number}")
        api.get(f"/no/such/path/{number}")
        api.request(f"ODD{number}", "/")
        api.get(f"/assets/{number}.svg")
    counted = scraped(api)["vigie_http_requests_total"]
    assert counted[labelled(method="GET", route="/api/v1/jobs/{job_id}", status="404")] == 3
    assert counted[labelled(method="GET", route="unmatched", status="404")] == 3
    assert counted[labelled(method="other", route="unmatched", status="405")] == 3
    assert counted[labelled(method="GET", route="/assets", status="404")] == 3
    routes = {dict(kind)["route"] for kind in counted}
    assert not any(re.search(r"\d\.svg|path/\d|jobs/\d", route) for route in routes)


def test_metrics_come_in_the_format_that_is_asked_for(api):
    plain = api.get("/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"
    opened = api.get("/metrics", headers={"Accept": accept})
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert opened.text.endswith("# EOF\n")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_prometheus_own_tool_finds_nothing_wrong_with_the_metrics(api):
    api.post(f"{API}/detect", json=readings("checked", samples.healthy(1).data)[0])
    text = api.get("/metrics").text
    check = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


def test_a_database_that_is_silent_and_a_registry_that_is_down_delay_no_scrape(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = Settings(
            mlflow_tracking_uri="http://127.0.0.1:9",
            history_url=f"postgresql+psycopg://vigie:none@127.0.0.1:{port}/vigie",
            state_dir=tmp_path,
        )
        # Not started, which takes a second.
        with asked(create_app(settings), is_started=False) as api:
            assert "vigie_registry_up" not in scraped(api), "it was not asked yet"
            api.app.state.service.refresh()
            began = time.monotonic()
            found = scraped(api)
            assert time.monotonic() - began < SILENT_WITHIN_S
    assert found["vigie_registry_up"][labelled()] == 0
    assert "vigie_registry_confirmed_age_seconds" not in found
    assert "vigie_history_size_bytes" not in found
    assert found["vigie_outbox_records"][labelled()] == 0


def test_readings_that_are_not_stored_are_counted(tmp_path, new_port, healthy, names):
    settings = Settings(
        mlflow_enabled=False,
        history_url=f"postgresql+psycopg://vigie:none@127.0.0.1:{new_port()}/vigie",
        state_dir=tmp_path,
        n_estimators=25,
    )
    with asked(create_app(settings)) as api:
        api.app.state.service.train_all_models(healthy, names, ["isolation_forest"])
        for _ in range(2):
            api.post(f"{API}/detect/batch", json=readings("pump", healthy[:3]))
        found = scraped(api)
    assert found["vigie_history_unstored_readings_total"][labelled()] == 6
    assert found["vigie_history_outages_total"][labelled()] == 1
    assert found["vigie_history_up"][labelled()] == 0


# Ids of requests, and the log.


def bug() -> None:
    raise RuntimeError("no such thing")


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [
        ("abc-123", True),
        ("Root=1-67891233-abcdef012345678912345678", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        ("two words", False),
        ("\x1b[2J", False),
        ("é", False),
    ],
)
def test_an_answer_has_the_id_of_its_request_if_that_is_well_formed(api, sent, is_kept):
    response = api.get(f"{API}/health", headers={b"X-Request-ID": sent.encode("latin-1")})
    given = response.headers["x-request-id"]
    assert (given == sent) == is_kept
    assert is_kept or re.fullmatch("[0-9a-f]{16}", given)


def test_every_answer_has_an_id_of_its_own_and_a_500_has_it_as_its_number(untracked):
    app = create_app(untracked)
    app.add_api_route("/bug", bug)
    with asked(app, is_started=False) as api:
        refused = api.get("/", headers={"Host": "elsewhere.example"})
        answers = [
            *(api.get("/nowhere"), api.request("PUT", "/metrics"), refused, api.get("/bug")),
            *(api.post(f"{API}/detect", content=b"x"), api.request("HEAD", "/metrics")),
        ]
    assert [answer.status_code for answer in answers] == [404, 405, 421, 500, 415, 200]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
    failed = answers[3]
    assert failed.json()["incident"] == failed.headers["x-request-id"]


@pytest.fixture
def lines() -> Iterator[Any]:
    """What is logged during a test, as JSON or as text."""
    stream = io.StringIO()
    handler, logger = logging.StreamHandler(stream), logging.getLogger("vigie")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)

    def told(log_format: logs.LogFormat, act: Any) -> list[str]:
        handler.setFormatter(logs.formatter(log_format))
        stream.seek(0)
        stream.truncate()
        act()
        return stream.getvalue().splitlines()

    yield told
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.parametrize("path", ["detect", "detect/batch"])
def test_a_line_of_the_log_names_its_request_and_asset_as_fields(api, lines, healthy, path):
    asset = f"twice-{path}"

    def send_two_of_one_time() -> None:
        # More than a hundred kilobytes, so that another thread answers.
        padding = "x" * 150_000 if path == "detect/batch" else ""
        for row in healthy[:2]:
            [one] = readings(asset, [row])
            one["metadata"] = {"padding": padding}
            body = one if path == "detect" else [one]
            headers = {"X-Request-ID": "seen-by-the-proxy"}
            assert api.post(f"{API}/{path}", json=body, headers=headers).status_code == 200

    found = [json.loads(line) for line in lines("json", send_two_of_one_time)]
    [warned] = [line for line in found if line["level"] == "WARNING"]
    assert (warned["request_id"], warned["asset_id"]) == ("seen-by-the-proxy", asset)
    values = [f"{value:.4f}"[:6] for value in healthy[0]]
    assert not any(value in json.dumps(found) for value in values), "no reading is in the log"


def test_a_line_for_each_request_is_written_on_demand(api, lines, tmp_path):
    secret = "vigie_0123456789ab_" + "s" * 43

    def ask() -> None:
        api.get(f"{API}/health?key={secret}", headers={"X-Request-ID": "abc"})

    [line] = map(json.loads, lines("json", ask))
    assert (line["method"], line["path"], line["status"]) == ("GET", f"{API}/health", 200)
    assert (line["request_id"], line["logger"]) == ("abc", "vigie.access")
    assert 0 < line["duration_s"] < 10
    [text] = lines("text", ask)
    assert re.search(r" INFO vigie.access: \[abc\] GET \S+/health 200 in [\d.]+ ms from 127", text)

    quiet = Settings(mlflow_enabled=False, state_dir=tmp_path)
    with asked(create_app(quiet), is_started=False) as unasked:
        assert lines("json", lambda: unasked.get(f"{API}/health")) == []


def test_alarms_and_events_are_counted(api, fault):
    def total(name: str, before: Metrics) -> float:
        now = scraped(api)
        return sum(now[name].values()) - sum(before.get(name, {}).values())

    before = scraped(api)
    api.post(f"{API}/detect/batch", json=readings("alarmed", fault.data))
    alarms = api.get("/api/v1/alarms", params={"asset_id": "alarmed"}).json()["alarms"]
    assert alarms
    assert total("vigie_events_total", before) == len(alarms)
    assert total("vigie_alarms", before) == len(alarms)
    active = labelled(state="active", acknowledged="true")
    [known] = [alarm["id"] for alarm in alarms if alarm["state"] == "active"][:1]
    api.post(f"/api/v1/alarms/{known}/acknowledge", json={})
    assert scraped(api)["vigie_alarms"][active] == before["vigie_alarms"][active] + 1
