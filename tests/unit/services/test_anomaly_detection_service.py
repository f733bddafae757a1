"""The detectors together, from Python: who answers, and who abstains."""

import numpy as np
import pytest

from vigie.errors import InvalidDataError
from vigie.services.anomaly_detection_service import AnomalyDetectionService


@pytest.fixture
def service(untracked):
    """A forest trained on two sensors, and an SVM on three others."""
    rng = np.random.default_rng(0)
    service = AnomalyDetectionService(untracked)
    service.train_all_models(rng.normal(size=(100, 2)), ["a", "b"], ["isolation_forest"])
    service.train_all_models(rng.normal(size=(100, 3)), ["c", "d", "e"], ["one_class_svm"])
    yield service
    service.close()


def test_a_model_of_other_features_abstains_by_name_and_reason(service):
    result = service.detect_anomaly({"asset_id": "pump", "features": {"a": 9.0, "b": 9.0}})
    assert list(result.models) == ["isolation_forest"]
    assert result.abstained == {"one_class_svm": "missing from the reading: c, d, e"}
    assert result.final_score == result.models["isolation_forest"].score
    assert result.is_anomaly
    assert {sensor.name for sensor in result.sensors} == {"a", "b"}


def test_each_reading_of_a_batch_is_judged_by_the_models_that_know_it(service):
    forest, svm = {"a": 0.1, "b": 0.2}, {"c": 0.1, "d": 0.2, "e": 0.3}
    batch = [{"asset_id": "pump", "features": features} for features in (svm, forest, svm | forest)]
    answered = [set(result.models) for result in service.detect_anomalies_batch(batch)]
    assert answered == [
        {"one_class_svm"},
        {"isolation_forest"},
        {"isolation_forest", "one_class_svm"},
    ]


def test_a_reading_that_no_model_can_judge_is_named(service):
    batch = [{"asset_id": "pump", "features": {"a": 0.1, "b": 0.2}}] * 2
    batch.append({"asset_id": "pump", "features": {"a": 0.1}})
    with pytest.raises(InvalidDataError, match=r"\[2\]\.features\.b: It is missing"):
        service.detect_anomalies_batch(batch)


def test_of_two_readings_with_one_time_none_is_hidden_by_the_other(service):
    times = [f"2026-03-01T00:00:{second:02d}Z" for second in (0, 0, 1, 1, 1, 2)]
    values = (0.1, 9.0, 0.2, 9.0, 0.1, 0.3)
    batch = [
        {"asset_id": "together", "timestamp": time, "features": {"a": value, "b": 0.0}}
        for time, value in zip(times, values, strict=True)
    ]
    alone = [service.detect_anomaly({**reading, "asset_id": "alone"}) for reading in batch]
    together = service.detect_anomalies_batch(batch)
    for results in (alone, together):
        assert [result.is_anomaly for result in results] == [value > 1.0 for value in values]
    # One by one, each takes the place of the one before; in a batch, all stay.
    assert [result.replaced for result in alone] == [False, True, False, True, True, False]
    assert not any(result.replaced for result in together)
