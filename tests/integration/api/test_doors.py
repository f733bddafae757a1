"""The service behind TLS, its own and nginx's, as docs/how-to/protect.md shows it."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from problems import problem_in

from vigie.config import Settings
from vigie.history.keys import KeyStore
from vigie.keys import Scope, new_key
from vigie.local import await_health, running, service, trusting

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/how-to/protect.md").read_text(encoding="utf-8")
API = "/api/v1/anomalies"
NGINX = """\
daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include vigie.conf;
}
"""


class Certified(NamedTuple):
    cert: Path
    key: Path


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    """A certificate, made as the page says."""
    return certificate(tmp_path)


def certificate(folder: Path) -> Certified:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    [command] = re.findall(r"^\$ (openssl .*?[^\\])$", PAGE, re.M | re.S)
    subprocess.run(["bash", "-c", command], cwd=folder, check=True, capture_output=True)
    return Certified(folder / "cert.pem", folder / "key.pem")


def made(settings: Settings, *scopes: Scope) -> str:
    key, sent = new_key(" ".join(scopes), scopes)
    store = KeyStore(settings)
    store.add(key)
    store.close()
    return sent


def named(port: int, trusted: ssl.SSLContext) -> httpx.Client:
    """Return a client that asks for vigie.example, and checks that this is who answers."""
    trusted.check_hostname = True
    client = httpx.Client(
        base_url=f"https://127.0.0.1:{port}", verify=trusted, timeout=30, trust_env=False
    )
    client.headers["Host"] = "vigie.example"
    return client


def asked(client: httpx.Client, path: str, key: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return client.get(path, headers=headers, extensions={"sni_hostname": "vigie.example"})


def test_the_service_speaks_tls_and_takes_a_renewed_certificate(
    certified: Certified, untracked: Settings, new_port: Callable[[], int]
) -> None:
    settings = untracked.model_copy(
        update={"host": "0.0.0.0", "port": new_port(), "tls_cert": certified.cert}
        | {"tls_key": certified.key}
    )
    key = made(settings, Scope.READ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ENABLED", "false")
        with service(settings) as address:
            assert address.startswith("https://")
            with named(settings.port, trusting(certified.cert)) as client:
                problem_in(asked(client, f"{API}/status"), 401)
                answer = asked(client, f"{API}/status", key)
                assert answer.status_code == 200
                assert "max-age=" in answer.headers["strict-transport-security"]
            with pytest.raises(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{settings.port}{API}/health", trust_env=False)
            certificate(certified.cert.parent)
            with named(settings.port, trusting(certified.cert)) as client:
                assert asked(client, f"{API}/health").status_code == 200
    log = (settings.state_dir / "vigie.log").read_text()
    assert "was renewed" in log
    assert key.split("_")[2] not in log


@pytest.fixture
def proxied(
    certified: Certified,
    untracked: Settings,
    new_port: Callable[[], int],
    tmp_path: Path,
) -> Iterator[tuple[httpx.Client, Settings]]:
    """The service behind nginx, with the page's configuration at other ports."""
    if (nginx := shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")) is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    settings = untracked.model_copy(update={"auth": "on", "port": new_port()})
    made(settings, Scope.ADMIN)
    public = new_port()
    [shown] = re.findall(r"^```nginx\n(.*?)^```$", PAGE, re.M | re.S)
    for written, here in (
        ("443 ssl", f"127.0.0.1:{public} ssl"),
        ("/etc/vigie/cert.pem", str(certified.cert)),
        ("/etc/vigie/key.pem", str(certified.key)),
        ("127.0.0.1:8084", f"127.0.0.1:{settings.port}"),
    ):
        assert written in shown
        shown = shown.replace(written, here)
    (tmp_path / "vigie.conf").write_text(shown)
    (tmp_path / "nginx.conf").write_text(NGINX)
    log = tmp_path / "nginx.log"
    command = [nginx, "-p", str(tmp_path), "-e", "stderr", "-c", "nginx.conf"]
    with service(settings), running(command, {}, log) as process:
        health = f"https://127.0.0.1:{public}{API}/health"
        await_health("nginx", process, health, log, certified.cert)
        with named(public, trusting(certified.cert)) as client:
            yield client, settings


def test_behind_nginx_keys_and_https_hold_and_no_log_has_a_key(
    proxied: tuple[httpx.Client, Settings], tmp_path: Path
) -> None:
    client, settings = proxied
    key = made(settings, Scope.READ)

    problem_in(asked(client, f"{API}/status"), 401)
    answer = asked(client, f"{API}/status", key)
    assert answer.status_code == 200
    # Vigie knows from nginx that the client speaks TLS.
    assert "max-age=" in answer.headers["strict-transport-security"]
    assert asked(client, "/", key).headers["location"] == "/docs"
    assert asked(client, "/docs", key).status_code == 200
    for one, status in ((key, 403), (made(settings, Scope.TRAIN), 422)):
        refused = client.post(
            f"{API}/train",
            json={},
            headers={"X-API-Key": one},
            extensions={"sni_hostname": "vigie.example"},
        )
        problem_in(refused, status)
    # Wherever somebody puts a key.
    asked(client, f"/{key}", key)
    asked(client, f"{API}/status", f"{key}0")
    secret = key.split("_")[2]
    told = (settings.state_dir / "vigie.log").read_text()
    assert "without a valid API key" in told
    assert "POST /api/v1/anomalies/train by API key train (" in told
    assert secret not in told
    assert "GET /api/v1/anomalies/status" in (tmp_path / "access.log").read_text()
