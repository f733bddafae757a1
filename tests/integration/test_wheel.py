"""The wheel in somebody else's project, whose own modules it neither hides nor runs."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from vigie import __version__
from vigie.local import await_health, running

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
FOREIGN = "raise SystemExit('a module of the working directory was run')\n"
HEALTH = "/api/v1/anomalies/health"


def uv(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([UV, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ("build", "--wheel", "--out-dir", folder, ROOT)
    # `make setup` has put the build backend into the cache, which may have been emptied since.
    if uv(*build, "--offline").returncode != 0:
        built = uv(*build)
        assert built.returncode == 0, built.stderr
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment with the wheel and the libraries, but without this checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    [libraries] = folder.glob("lib/python*/site-packages")
    # A path in a .pth file is searched, but .pth files in it, as of an editable install, are not.
    (libraries / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "bin/python"
    installed = uv("pip", "install", "--no-deps", "--offline", "--python", python, wheel)
    assert installed.returncode == 0, installed.stderr
    return python.parent


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with modules that are named like ours and like our libraries."""
    folder = tmp_path / "project"
    for package in ("app", "vigie"):
        (folder / package).mkdir(parents=True)
        for module in ("main", "config", "cli"):
            (folder / package / f"{module}.py").write_text(FOREIGN)
    (folder / "app/__init__.py").write_text("OWNER = 'the project'\n")
    (folder / "vigie/__init__.py").write_text(FOREIGN)
    for module in ("mlflow", "uvicorn", "fastapi"):
        (folder / f"{module}.py").write_text(FOREIGN)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    # A new installation compiles its kernels at its first start; nothing is scored here.
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    return folder


def title(address: str) -> str:
    return str(httpx.get(f"{address}/openapi.json", trust_env=False).json()["info"]["title"])


def test_the_wheel_brings_one_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"vigie", f"vigie-{__version__}.dist-info"}
    assert "vigie/py.typed" in names
    assert any(name.startswith("vigie/history/migrations/versions/") for name in names)


def test_a_project_keeps_its_own_app(programs: Path, project: Path, tmp_path: Path) -> None:
    def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
        command = [programs / "python", "-c", code]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    assert run("import app; print(app.OWNER)", project).stdout == "the project\n"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert "No module named 'app'" in run("import app", elsewhere).stderr
    where = Path(run("import vigie; print(vigie.__file__)", elsewhere).stdout)
    assert where.is_relative_to(programs.parent)


def test_serve_in_a_project_serves_ours(
    programs: Path, project: Path, new_port: Callable[[], int]
) -> None:
    port, log = new_port(), project / "log"
    variables = {"VIGIE_PORT": str(port), "MLFLOW_ENABLED": "false"}
    with running([str(programs / "vigie"), "serve"], variables, log) as process:
        await_health("The service", process, f"http://127.0.0.1:{port}{HEALTH}", log)
        assert title(f"http://127.0.0.1:{port}") == "Vigie"


def test_up_in_a_project_starts_our_mlflow_and_our_service(
    programs: Path, project: Path, new_port: Callable[[], int]
) -> None:
    port, mlflow, log = new_port(), new_port(), project / "log"
    variables = {
        "VIGIE_PORT": str(port),
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow}",
    }
    with running([str(programs / "vigie"), "up"], variables, log) as process:
        await_health("The service", process, f"http://127.0.0.1:{port}{HEALTH}", log)
        assert title(f"http://127.0.0.1:{port}") == "Vigie"
        version = httpx.get(f"http://127.0.0.1:{mlflow}/version", trust_env=False).text
        assert version.startswith("3.")
