"""A version in Staging judges what is answered, in the shadow of the one that serves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from faults import eventually
from problems import problem_in
from typer.testing import CliRunner, Result

from vigie import samples
from vigie.assessment.assessment import Assessment
from vigie.assessment.engine import advance
from vigie.assessment.ensemble import Ensemble
from vigie.cli import app as cli
from vigie.client import AsyncClient, Client
from vigie.config import Settings
from vigie.errors import ModelNotFoundError
from vigie.main import create_app
from vigie.models.comparison import Comparison
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.detector_service import new_service
from vigie.services.mlflow_service import MLflowService
from vigie.serving import promotion, shadow
from vigie.serving.shadow import alarms_begun

FOREST, AUTOREGRESSION = "isolation_forest", "vector_autoregression"
SENSORS = tuple(samples.FEATURE_NAMES)
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
ASSETS = ("pump-1", "pump-2")
Rows = dict[str, np.ndarray]
N_ROWS = 300
CHEAP = {"n_estimators": 25, "calibration_folds": 2}


@pytest.fixture(scope="module")
def registry(
    mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory, healthy: np.ndarray
) -> Iterator[Settings]:
    """Settings of a process whose registry has two versions of two detectors.

    The first is in Production, the second, trained on half of the rows, in Staging. No test moves
    them, so that they are trained once.
    """
    settings = Settings(
        mlflow_tracking_uri=mlflow_uri,
        mlflow_experiment_name="comparison",
        state_dir=tmp_path_factory.mktemp("state"),
        figures=False,
        tracking_patience_s=60,
        **CHEAP,
    )
    tracking = MLflowService(settings)
    client = tracking.server.client
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    for name in (FOREST, AUTOREGRESSION):
        for rows, stage in ((healthy, "Production"), (healthy[:150], "Staging")):
            service = new_service(name, settings)
            service.train(rows, SENSORS)
            assert service.mlflow_service.flush(60)
            assert service.served is not None
            tracking.transition_model_stage(name, service.served.version, stage)
    yield settings
    for name in (FOREST, AUTOREGRESSION):
        client.delete_registered_model(name)


@pytest.fixture
def new_service_on(
    registry: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., AnomalyDetectionService]]:
    """Make services that compare when they are asked for the comparison, or end."""
    monkeypatch.setattr(shadow, "EVERY_S", 3600.0)
    made: list[AnomalyDetectionService] = []

    def make(**changed: Any) -> AnomalyDetectionService:
        service = AnomalyDetectionService(registry.model_copy(update=changed))
        service.refresh()
        made.append(service)
        return service

    yield make
    for service in made:
        service.close()


def readings(asset: str, rows: np.ndarray, first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "asset_id": asset,
            "timestamp": (START + timedelta(seconds=first + second)).isoformat(),
            "features": dict(zip(SENSORS, row.tolist(), strict=True)),
        }
        for second, row in enumerate(rows)
    ]


@pytest.fixture(scope="module")
def recordings() -> Rows:
    """Of each asset, rows in which a fault begins."""
    kinds = dict(zip(ASSETS, ("bearing_wear", "cavitation"), strict=True))
    return {asset: samples.faulty(kind, N_ROWS, onset=200).data for asset, kind in kinds.items()}


def sent(service: AnomalyDetectionService, rows: Rows, first: int = 0) -> list[Any]:
    """Send rows as a plant does: in parts, of all assets in turns."""
    answers = []
    length = len(next(iter(rows.values())))
    for start in range(0, length, 37):
        batch = [
            one
            for asset, of_it in rows.items()
            for one in readings(asset, of_it[start : start + 37], first + start)
        ]
        answers += service.detect_anomalies_batch(batch)
    return answers


def offline(settings: Settings, name: str, stage: str, rows: Rows) -> dict[str, Assessment]:
    """Assess all rows of each asset at once, by one version alone."""
    version = MLflowService(settings).load_model(name, stage=stage)
    ensemble = Ensemble({name: version}, settings.contamination, settings.max_gap_s)
    start = np.datetime64(START.replace(tzinfo=None), "us")
    times = start + np.arange(N_ROWS) * np.timedelta64(1, "s")
    return {
        asset: advance(
            ensemble,
            ensemble.no_look_back,
            times[: len(of_it)],
            ensemble.sensors.examine(
                ensemble.sensors.matrix(
                    dict(zip(SENSORS, row.tolist(), strict=True)) for row in of_it
                )
            ),
        )[0]
        for asset, of_it in rows.items()
    }


def require_offline(found: Comparison, settings: Settings, rows: Rows) -> None:
    """Check a comparison against both versions, each of which judges all rows at once."""
    name = found.model
    by = {
        side: offline(settings, name, stage, rows)
        for side, stage in (("champion", "Production"), ("challenger", "Staging"))
    }
    p_values = {s: np.concatenate([a.p_values for a in each.values()]) for s, each in by.items()}
    judged = ~np.isnan(p_values["champion"]) & ~np.isnan(p_values["challenger"])
    assert found.readings == judged.sum()
    assert found.abstained == (~judged).sum()
    assert found.dropped == 0
    anomalous = {side: (p < settings.contamination)[judged] for side, p in p_values.items()}
    equal = anomalous["champion"] == anomalous["challenger"]
    assert found.agreement == pytest.approx(equal.mean())
    for side, other in (("champion", "challenger"), ("challenger", "champion")):
        version = getattr(found, side)
        assert version.anomalies == anomalous[side].sum()
        assert version.only == (anomalous[side] & ~anomalous[other]).sum()
        assert version.alarms == sum(map(alarms_begun, by[side].values()))
        counts, _ = np.histogram(1.0 - p_values[side][judged], found.score_bins)
        assert version.scores == counts.tolist()
        low, high = version.anomaly_rate_low, version.anomaly_rate_high
        assert low < version.anomaly_rate < high
    shares: dict[str, dict[str, float]] = {side: {} for side in by}
    for asset in rows:
        of_it = {side: each[asset] for side, each in by.items()}
        known = np.all([~np.isnan(one.p_values) for one in of_it.values()], axis=0)
        either = np.flatnonzero(known & np.any([one.is_anomaly for one in of_it.values()], axis=0))
        for side, one in of_it.items():
            for reasons in one.reasons(either).values():
                for sensor in reasons:
                    shares[side][sensor.name] = shares[side].get(sensor.name, 0) + sensor.share
    assert found.explained == (anomalous["champion"] | anomalous["challenger"]).sum()
    for sensor in found.sensors:
        for side in by:
            share = shares[side][sensor.name] / found.explained
            assert getattr(sensor, f"{side}_share") == pytest.approx(share)


@pytest.mark.parametrize("name", [FOREST, AUTOREGRESSION])
def test_a_comparison_has_what_both_versions_say_of_all_rows_at_once(
    name: str,
    registry: Settings,
    new_service_on: Callable[..., AnomalyDetectionService],
    recordings: Rows,
) -> None:
    service = new_service_on(history_enabled=False)
    sent(service, recordings)
    found = service.comparison(name)
    assert found is not None
    assert (found.champion.version, found.challenger.version) == (1, 2)
    assert not found.stored
    require_offline(found, registry, recordings)
    if name == AUTOREGRESSION:
        assert found.champion.alarms > 0
    assert (found.enough, found.missing) == (False, 2000 - found.readings)
    said = f"Version 2 calls {found.challenger.anomalies} of {found.readings} readings anomalies"
    assert said in found.summary


def test_replicas_add_to_one_comparison_that_goes_on_after_a_restart(
    registry: Settings,
    new_service_on: Callable[..., AnomalyDetectionService],
    new_history: Callable[[], str],
    recordings: Rows,
) -> None:
    url = new_history()
    replicas = [new_service_on(history_url=url) for _ in ASSETS]
    for service, asset in zip(replicas, ASSETS, strict=True):
        sent(service, {asset: recordings[asset]})
    for service in replicas:
        service.close()

    again = new_service_on(history_url=url)
    found = again.comparison(AUTOREGRESSION)
    assert found is not None
    assert found.stored
    assert found.since is not None
    require_offline(found, registry, recordings)
    before = again.comparison(FOREST)
    assert before is not None

    sent(again, {"pump-3": recordings[ASSETS[0]]})
    after = again.comparison(FOREST)
    assert after is not None
    assert after.readings == before.readings + N_ROWS
    assert after.since == before.since
    assert before.until is not None
    assert after.until is not None
    assert after.until > before.until


def test_answers_are_the_same_with_and_without_a_version_in_staging(
    registry: Settings,
    new_service_on: Callable[..., AnomalyDetectionService],
    recordings: Rows,
    tmp_path: Path,
) -> None:
    urls = [f"sqlite:///{tmp_path / name}.db" for name in ("with", "without")]
    beside = sent(new_service_on(history_url=urls[0]), recordings)
    tracking = MLflowService(registry)
    for name in (FOREST, AUTOREGRESSION):
        tracking.transition_model_stage(name, 2, "None")
    try:
        service = new_service_on(history_url=urls[1])
        n_threads = threading.active_count()
        assert sent(service, recordings) == beside
        assert threading.active_count() == n_threads
        assert service.comparison(FOREST) is None
        problem = problem_in(asked(service, FOREST), 404)
        assert f"`vigie models promote {FOREST} VERSION --stage Staging`" in problem["remedy"]
    finally:
        for name in (FOREST, AUTOREGRESSION):
            tracking.transition_model_stage(name, 2, "Staging")


def asked(service: AnomalyDetectionService, name: str) -> httpx.Response:
    """Ask for a comparison over HTTP."""
    app = create_app(service.settings)
    app.state.service = service

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(f"/api/v1/models/{name}/comparison")

    return asyncio.run(get())


def test_it_is_read_over_http(
    new_service_on: Callable[..., AnomalyDetectionService], recordings: Rows
) -> None:
    service = new_service_on(history_enabled=False)
    assert "No reading has been compared yet" in asked(service, FOREST).json()["summary"]
    sent(service, recordings)
    answer = asked(service, FOREST)
    assert answer.status_code == 200
    assert Comparison.model_validate_json(answer.content) == service.comparison(FOREST)
    for wrong, meant in (("isolation_forrest", FOREST), (f"{FOREST}--pump-3", FOREST)):
        problem = problem_in(asked(service, wrong), 404)
        assert problem["field"] == "name"
        assert f'Did you mean "{meant}"' in problem["remedy"]


def test_a_challenger_that_cannot_be_opened_is_shown_and_changes_nothing(
    registry: Settings,
    new_service_on: Callable[..., AnomalyDetectionService],
    recordings: Rows,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracking = MLflowService(registry)
    client = tracking.server.client
    made = client.get_model_version(FOREST, "2")
    # A version that has the files that every other tool makes, and no serving form.
    bad = client.create_model_version(FOREST, made.source, made.run_id).version
    tracking.transition_model_stage(FOREST, bad, "Staging")
    try:
        service = new_service_on(history_enabled=False)
        for _ in range(3):
            service.refresh()
            sent(service, {"pump-1": recordings["pump-1"][:40]})
            found = service.comparison(FOREST)
            assert found is not None
            assert "allow_pickle" in str(found.problem)
            assert str(found.problem) in found.summary
        assert (found.challenger.version, found.readings) == (int(bad), 0)
        status = service.get_model_status()[FOREST]
        assert (status["version"], status["problem"]) == (1, None)
        assert sum("allow_pickle" in record.getMessage() for record in caplog.records) == 1
        other = service.comparison(AUTOREGRESSION)
        assert other is not None
        assert other.readings > 0
    finally:
        tracking.transition_model_stage(FOREST, 2, "Staging")
        client.delete_model_version(FOREST, bad)


def test_a_challenger_that_fails_on_readings_is_shown_and_answers_go_on(
    new_service_on: Callable[..., AnomalyDetectionService],
    recordings: Rows,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = new_service_on(history_enabled=False)
    pair = service.challengers.pairs()[FOREST]
    assert pair.opened is not None
    # What its checks and its trial have overlooked.
    vars(pair.opened.model)["arrays"] = {}
    for first in (0, 40):
        answers = sent(service, {"pump-1": recordings["pump-1"][:40]}, first)
        assert all(FOREST in answer.models for answer in answers)
        found = service.comparison(FOREST)
        assert found is not None
    assert "fails on readings" in str(found.problem)
    assert (found.readings, found.dropped) == (0, 80)
    assert sum("cannot be compared" in record.getMessage() for record in caplog.records) == 1
    other = service.comparison(AUTOREGRESSION)
    assert other is not None
    assert (other.problem, other.dropped) == (None, 0)


def test_what_is_not_compared_is_counted(
    new_service_on: Callable[..., AnomalyDetectionService],
    recordings: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, rows = new_service_on(history_enabled=False), recordings["pump-1"]

    def counts() -> tuple[int, int]:
        found = service.comparison(FOREST)
        assert found is not None
        return found.readings, found.dropped

    service.detect_anomalies_batch(readings("pump-1", rows[:20]))
    assert counts() == (20, 0)
    # Sent again, and older ones.
    service.detect_anomalies_batch(readings("pump-1", rows[:20]))
    service.detect_anomalies_batch(readings("pump-1", rows[20:25], -100))
    assert counts() == (20, 25)
    # More assets, and more readings, than are compared at once.
    monkeypatch.setattr(shadow, "MOST_ASSETS", 1)
    service.detect_anomalies_batch(readings("pump-2", rows[:10]))
    assert counts() == (20, 35)
    monkeypatch.setattr(shadow, "MOST_WAITING", 10)
    service.detect_anomalies_batch(readings("pump-1", rows[20:60], 20))
    assert counts() == (30, 65)


def test_it_is_stored_again_and_again_while_the_service_runs(
    new_service_on: Callable[..., AnomalyDetectionService],
    recordings: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    watching = new_service_on(history_url=url)
    monkeypatch.setattr(shadow, "EVERY_S", 0.01)
    monkeypatch.setattr(shadow, "SAVE_EVERY_S", 0.01)
    sent(new_service_on(history_url=url), recordings)

    def readings_stored() -> int:
        found = watching.comparison(FOREST)
        assert found is not None
        return found.readings

    eventually(lambda: readings_stored() == N_ROWS * len(ASSETS))


def test_verdicts_of_another_contamination_are_not_counted_together(
    new_service_on: Callable[..., AnomalyDetectionService], recordings: Rows, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"

    def compared(service: AnomalyDetectionService) -> int:
        found = service.comparison(FOREST)
        assert found is not None
        return found.readings

    before = new_service_on(history_url=url, contamination=0.01)
    sent(before, recordings)
    n = compared(before)
    assert n == N_ROWS * len(ASSETS)
    after = new_service_on(history_url=url, contamination=0.05)
    assert compared(after) == 0
    # Nothing is lost of what was counted.
    assert compared(new_service_on(history_url=url, contamination=0.01)) == n


def test_a_service_that_may_promotes_what_the_rule_lets_through(
    registry: Settings,
    new_service_on: Callable[..., AnomalyDetectionService],
    recordings: Rows,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(promotion, "JUDGE_EVERY_S", 0.0)
    # So that few readings are enough, and the rate of so small a forest is not above it.
    update = {"history_enabled": False, "contamination": 0.2}
    manual, service = new_service_on(**update), new_service_on(**update, promotion="automatic")
    healthy = {"pump-1": samples.healthy(N_ROWS, seed=9).data}
    for one in (manual, service):
        one.promote_by_rule()
        sent(one, healthy)
        one.promote_by_rule()
        one.promote_by_rule()
    said = [record.getMessage() for record in caplog.records]
    stays = f"Version 2 of '{FOREST}' stays in Staging: "
    assert [one for one in said if FOREST in one] == [
        f"{stays}too few readings are compared.",
        f"{stays}it is compared for less than a day.",
    ]

    monkeypatch.setattr(promotion, "AT_LEAST", timedelta(0))
    tracking = MLflowService(registry)

    def serving(one: AnomalyDetectionService) -> list[int]:
        one.refresh()
        status = one.get_model_status()
        return [status[name]["version"] for name in (FOREST, AUTOREGRESSION)]

    try:
        manual.promote_by_rule()
        assert serving(manual) == [1, 1]
        service.promote_by_rule()
        assert serving(service) == serving(manual) == [1, 2]
        assert f"{stays}it calls more readings anomalies than version 1" in caplog.text
        assert f"Version 2 of '{AUTOREGRESSION}' is promoted. It was compared" in caplog.text
        assert service.comparison(AUTOREGRESSION) is None
        move = tracking.history(AUTOREGRESSION)[0]
        assert (move.version, move.to_stage) == (2, "Production")
        assert move.by == "VIGIE_PROMOTION=automatic"
        assert move.reason is not None
        assert move.reason.startswith(f"{promotion.RULE} Version 2 calls")
        # Nobody has it promoted again.
        tracking.rollback(AUTOREGRESSION)
        service.refresh()
        service.promote_by_rule()
        assert serving(service) == [1, 1]
    finally:
        back_to_the_beginning(tracking)


def back_to_the_beginning(tracking: MLflowService) -> None:
    for name in (FOREST, AUTOREGRESSION):
        tracking.transition_model_stage(name, 1, "Production")
        tracking.transition_model_stage(name, 2, "Staging")


@contextmanager
def over_http(service: AnomalyDetectionService, port: int) -> Iterator[str]:
    """Answer for a service by a real server, as long as a block lasts."""
    app = create_app(service.settings)
    app.state.service = service
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def test_the_command_line_shows_what_the_database_and_a_service_have(
    registry: Settings,
    new_service_on: Callable[..., AnomalyDetectionService],
    recordings: Rows,
    new_port: Callable[[], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = registry.model_copy(update={"history_url": f"sqlite:///{tmp_path / 'history.db'}"})
    for name, value in settings.variables(*Settings.model_fields).items():
        monkeypatch.setenv(name, value)

    def compare(*words: str) -> Result:
        return CliRunner().invoke(cli, ["models", "compare", *words], env={"COLUMNS": "80"})

    assert "There is no history at" in str(compare(FOREST).exception)
    service = new_service_on(history_url=settings.history_url)
    sent(service, recordings)
    found = service.comparison(FOREST)
    assert found is not None
    with over_http(service, new_port()) as address:
        shown = compare(FOREST, "--server", address)
        refused = compare("isolation_forrest", "--server", address)
        assert f'Did you mean "{FOREST}"' in str(refused.exception)
    assert compare(FOREST).stdout == shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    said = " ".join(shown.stdout.split())
    assert found.summary in said
    assert all(sensor.name in said for sensor in found.sensors)
    assert "cannot be reached" in str(compare(FOREST, "--server", address).exception)


def test_a_promotion_without_its_comparison_says_so(
    registry: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = registry.model_copy(update={"history_url": f"sqlite:///{tmp_path / 'none.db'}"})
    for name, value in settings.variables(*Settings.model_fields).items():
        monkeypatch.setenv(name, value)
    try:
        promoted = CliRunner().invoke(cli, ["models", "promote", FOREST, "2"])
        assert f"{FOREST} version 2 is in Production." in promoted.stdout
        assert "The comparison of version 2 with the one that serves cannot be" in promoted.stderr
        assert "There is no history at" in promoted.stderr
        # Version 1 is in no comparison that could be missed.
        again = CliRunner().invoke(cli, ["models", "promote", FOREST, "1"])
        assert "comparison" not in again.stderr
    finally:
        back_to_the_beginning(MLflowService(settings))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_compares_promotes_and_rolls_back_and_the_history_has_the_comparison(
    registry: Settings,
    new_service_on: Callable[..., AnomalyDetectionService],
    new_port: Callable[[], int],
    kind: type[Client] | type[AsyncClient],
) -> None:
    service = new_service_on(history_enabled=False)
    sent(service, {"pump-1": samples.healthy(N_ROWS, seed=9).data})

    async def life(address: str) -> None:
        async with AsyncExitStack() as stack:
            client = kind(address)
            if isinstance(client, AsyncClient):
                await stack.enter_async_context(client)
            else:
                stack.enter_context(client)

            async def ask(method: str, *args: Any, **named: Any) -> Any:
                bound = getattr(client, method)
                if isinstance(client, AsyncClient):
                    return await bound(*args, **named)
                return await asyncio.to_thread(bound, *args, **named)

            found = await ask("comparison", FOREST)
            assert (found.champion.version, found.challenger.version) == (1, 2)
            moved = await ask("promote", FOREST, 2, reason="Trained after the overhaul.")
            assert (moved.version, moved.previous, moved.is_serving) == (2, 1, True)
            assert moved.compared == found.summary
            [model] = [model for model in await ask("list_models") if model.name == FOREST]
            assert (model.production, model.staging, model.newest) == (2, None, 2)
            assert (await ask("rollback", FOREST)).version == 1
            moves = await ask("list_moves", FOREST, limit=4)
            assert moves[2].reason == f"Trained after the overhaul. {found.summary}"
            assert moves[2].by == "127.0.0.1"
            assert [one.version for one in await ask("list_versions", FOREST)] == [2, 1]
            with pytest.raises(ModelNotFoundError, match="Did you mean"):
                await ask("list_versions", "isolation_forrest")

    try:
        with over_http(service, new_port()) as address:
            asyncio.run(life(address))
    finally:
        back_to_the_beginning(MLflowService(registry))
