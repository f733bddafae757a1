"""Thousands of invalid bodies: the service refuses each of them, and its state does not change."""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import fuzz
import httpx
import pytest

from vigie import samples
from vigie.config import Settings
from vigie.errors import InvalidDataError
from vigie.training.preparation import prepare_body

logger = logging.getLogger(__name__)

Running = Callable[[Settings], AbstractContextManager[httpx.Client]]

BODIES = int(os.environ.get("FUZZED_BODIES", "1500"))
TRAININGS = 4
"""Over HTTP; each is a process of its own."""
INSPECTED = int(os.environ.get("INSPECTED_TABLES", "10"))
"""Random bodies and parameters of ``/inspect``; each is a process of its own, too."""
MOST_GROWTH = 24 * 1024 * 1024
JSON = {"Content-Type": "application/json"}
INSIDE = re.compile(
    r"Traceback|\.py\b|site-packages|pydantic|starlette|fastapi|uvicorn|sqlalchemy|numpy|/tmp/",
    re.I,
)
SMALL = {
    "n_estimators": 25,
    "epochs": 2,
    "encoder_layers": (8,),
    "decoder_layers": (8,),
    "sequence_length": 5,
    "calibration_folds": 2,
}


@dataclass(frozen=True)
class Plant:
    """A service whose models are trained, and where it keeps what it keeps."""

    api: httpx.Client
    settings: Settings

    def post(self, path: str, body: Any) -> Any:
        response = self.api.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    @property
    def memory(self) -> int:
        """Bytes that the service's process holds."""
        for task in Path("/proc/self/task").iterdir():
            for pid in (task / "children").read_text().split():
                process = Path("/proc", pid)
                if b"vigie.cli\0serve" in (process / "cmdline").read_bytes():
                    status = (process / "status").read_text()
                    found = re.search(r"VmRSS:\s+(\d+) kB", status)
                    assert found
                    return int(found[1]) * 1024
        raise AssertionError("there is no service")


@pytest.fixture(scope="module")
def plant(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    settings = Settings(mlflow_enabled=False, state_dir=tmp_path_factory.mktemp("state"), **SMALL)
    with running(settings) as api:
        plant = Plant(api, settings)
        rows = samples.healthy(300).data.tolist()
        plant.post("/train?wait=true", {"data": rows, "feature_names": list(samples.FEATURE_NAMES)})
        yield plant


@pytest.fixture
def known(plant: Plant) -> Iterator[None]:
    """Readings of a machine of its own are answered after a test exactly as before it."""
    worn = samples.faulty("bearing_wear", 400, onset=200)
    readings = [
        {
            "asset_id": "known",
            "timestamp": f"{time}Z",
            "features": dict(zip(worn.feature_names, row, strict=True)),
        }
        for time, row in zip(worn.timestamps[290:330], worn.data[290:330].tolist(), strict=True)
    ]
    plant.post("/detect/batch", readings)
    before = plant.post("/detect/batch", readings)
    assert any(result["is_anomaly"] for result in before)
    yield
    assert plant.post("/detect/batch", readings) == before


def bodies(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield addresses and bodies, always the same ones for a seed."""
    random = Random(seed)
    for _ in range(count):
        if random.random() < 0.6:
            yield "/detect", fuzz.wronged(random, fuzz.readings(random, 1)[0])
        else:
            count = random.choice([1, 2, 5, 10])
            yield "/detect/batch", fuzz.wronged(random, fuzz.readings(random, count))


def send(plant: Plant, asked: Iterator[tuple[str, bytes]]) -> Counter[int]:
    """Send bodies one after the other, check each answer, and return how often each status came."""
    url = plant.api.base_url
    connection = http.client.HTTPConnection(url.host, url.port, timeout=60)
    found: Counter[int] = Counter()
    for path, body in asked:
        connection.request("POST", f"{url.path.rstrip('/')}{path}", body, JSON)
        response = connection.getresponse()
        text = response.read().decode()
        found[response.status] += 1
        assert response.status < 500, f"{path} {body!r}: {text}"
        assert not INSIDE.search(text), f"{path} {body!r}: {text}"
        if response.status != 200:
            assert response.headers["Content-Type"] == "application/problem+json"
            assert {"detail", "remedy"} <= set(json.loads(text)), text
    connection.close()
    return found


@pytest.mark.usefixtures("known")
def test_no_body_is_too_odd_to_be_answered_and_none_leaves_anything(plant):
    half = BODIES // 2
    first = send(plant, bodies(1, half))
    before = plant.memory
    second = send(plant, bodies(2, BODIES - half))
    after = plant.memory
    found = first + second
    logger.info(
        "%d bodies, answered by %s; %d MiB after the first half, %d MiB after the second",
        *(found.total(), dict(sorted(found.items())), before >> 20, after >> 20),
    )
    assert found[200] > BODIES // 20
    assert found[422] > BODIES // 2
    assert after - before < MOST_GROWTH


@pytest.mark.usefixtures("known")
def test_no_training_is_asked_for_too_oddly_to_be_refused(plant):
    random, odd = Random(3), []
    for _ in range(BODIES // 5):
        body = fuzz.wronged(random, fuzz.training(random))
        try:
            prepare_body(body, plant.settings)
        except InvalidDataError as error:
            odd.append((body, error))
    assert BODIES // 10 < len(odd) < BODIES // 5
    assert all(error.field and not INSIDE.search(str(error)) for _, error in odd)
    statuses = send(plant, (("/train", body) for body, _ in random.sample(odd, TRAININGS)))
    assert statuses == {422: TRAININGS}


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    "text",
    [
        "[" + "0," * 15_000_000 + "0]",
        "[" + "{}," * 10_000_000 + "{}]",
        '{"asset_id": "a", "features": {' + '"a": 1,' * 4_000_000 + '"a": 1}}',
        '{"asset_id": "a", "features": {"a": 1}, "metadata": {"a": [' + "0," * 15_000_000 + "0]}}",
    ],
    ids=["zeros", "objects", "one key", "metadata"],
)
@pytest.mark.parametrize("path", ["/detect", "/detect/batch"])
def test_millions_of_values_are_refused_unread(plant, path, text):
    response = plant.api.post(path, content=text, headers=JSON)
    assert response.status_code == 422
    assert "values" in response.json()["detail"]
    assert response.json()["remedy"]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    "asked",
    [
        ("--exclude-path-regex=train|inspect", "--max-examples=30"),
        # Each costs a process, so only some.
        ("--include-path-regex=inspect", "--phases=examples,coverage"),
        # Whatever stands in it, a text is a file.
        (
            "--include-path-regex=inspect",
            f"--max-examples={INSPECTED}",
            "--phases=fuzzing",
            "--exclude-checks=positive_data_acceptance,negative_data_rejection",
        ),
        # None that trains.
        ("--include-path-regex=train", "--max-examples=5", "--phases=fuzzing", "--mode=negative"),
    ],
    ids=["readings", "tables", "tables at random", "trainings"],
)
def test_what_the_openapi_document_says_is_true(plant, asked):
    command = [sys.executable, "-m", "schemathesis.cli", "run", "--generation-deterministic"]
    # A reading may be all that the document asks for, and still lack what the models look at.
    command += ["--exclude-checks=positive_data_acceptance", "--warnings=off", "--no-color", *asked]
    done = subprocess.run(
        [*command, str(plant.api.base_url.join("/openapi.json"))],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert counted, done.stdout
    logger.info("Schemathesis: %s", counted[0])
    assert counted[1] == counted[2]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "..", "a/b", "nul", "con:", "$HOME", "~", "-rf", "%2e"],
)
def test_a_name_never_becomes_a_path(plant, name):
    def files() -> set[Path]:
        return {
            path
            for folder in (plant.settings.state_dir, Path.cwd())
            for path in folder.parent.rglob("*")
            # SQLite's own come and go.
            if not path.name.startswith("history.db-")
        }

    row = samples.healthy(1).data[0].tolist()
    features = dict(zip(samples.FEATURE_NAMES, row, strict=True)) | {name: 1.0}
    reading = {"asset_id": name, "sensor_id": name, "features": features, "metadata": {name: name}}
    before = files()
    result = plant.post("/detect", reading)
    assert result["asset_id"] == result["sensor_id"] == name
    with suppress(InvalidDataError):
        prepare_body(
            json.dumps({"data": [[1.0]] * 9, "model_names": [name]}).encode(), plant.settings
        )
    assert files() == before
