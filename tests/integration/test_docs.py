"""The documents: every snippet runs, every link leads somewhere, no page is too long.

How the code blocks of a document are read:

- ``python`` blocks run as they stand, from top to bottom, in one process and one namespace;
- ``bash`` blocks run as they stand in a shell, with curl's exit status telling of HTTP errors;
  one of ``vigie`` commands alone is given to the command line within this process, since each new
  one would import everything again; one that builds or fetches something (``make``, ``docker``,
  ``git``) is not run;
- a ``json`` block shows the answer of the ``bash`` block before it: the same fields, lists by
  their first item or left empty;
- on Getting started, a ``text`` block shows what the ``vigie`` command before it prints: the same
  words, whatever the numbers;
- an ``nginx`` block is run by ``tests/integration/api/test_doors.py``;
- ``console``, ``text`` and ``ini`` blocks are not run.

Two things differ from what a reader does: the addresses http://localhost:5000 and
http://localhost:8084 are replaced by those of this test's MLflow server and service, and small
hyper-parameters in the environment make the trainings short.
"""

from __future__ import annotations

import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import guide_snippets as original
import httpx
import mlflow
import numpy as np
import pytest

import vigie
from vigie import cli
from vigie.api.problems import STATUS
from vigie.config import Settings
from vigie.detectors.catalogue import algorithms
from vigie.errors import ModelNotFoundError
from vigie.main import create_app
from vigie.registry.lookup import pick
from vigie.services.mlflow_service import MLflowService

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, FRENCH = ROOT / "docs/mlflow-guide.md", ROOT / "docs/fr/mlflow-guide.md"
STARTED = ROOT / "docs/getting-started/index.md"
RUN_ELSEWHERE = (
    FRENCH,  # holds the same code as the English one
    *(  # by test_operations.py, on real stores
        ROOT / f"docs/{name}.md"
        for name in ("operations/backup", "how-to/login", "how-to/mlflow-elsewhere")
    ),
)
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FULL_TABLES = [ROOT / f"docs/benchmarks/{name}.md" for name in ("detection", "speed")]
LONGEST_PAGE = 2400  # words: ten minutes at 240 a minute
NOT_RUN = re.compile(r"^(make|docker|git)\b", re.MULTILINE)
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S
)
LANGUAGES = {"bash", "console", "ini", "json", "nginx", "python", "text"}
CRITICALITY = {"low", "medium", "high", "critical"}
SMALL: dict[str, Any] = {
    "figures": False,
    "n_estimators": 25,
    "epochs": 2,
    "encoder_layers": "8",
    "decoder_layers": "8",
    # A version that comes later than its training is no fault, but the next snippet wants it.
    "tracking_patience_s": 300,
}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass(frozen=True)
class Block:
    """A fenced block of a document; ``line`` is that of its first line of code."""

    document: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(
            named(document),
            text.count("\n", 0, found.start("code")) + 1,
            found["language"],
            textwrap.dedent(found["code"]),
        )
        for found in FENCE.finditer(text)
    ]


def is_run(page: Path) -> bool:
    """Whether the tests below run the snippets of a page."""
    return page not in RUN_ELSEWHERE and any(
        block.language in ("bash", "python") for block in blocks(page)
    )


class Reader:
    """Somebody who pastes the blocks of one document, one after the other."""

    def __init__(
        self, settings: Settings, service: httpx.Client, printed: Callable[[], str] | None = None
    ):
        self.settings = settings
        self.service = service
        self.printed = printed
        self.namespace: dict[str, Any] = {"__name__": "snippets"}
        self.answer = ""

    def paste(self, block: Block) -> None:
        match block.language:
            case "python":
                self.python(block)
            case "bash" if not NOT_RUN.search(block.code):
                self.bash(block)
            case "text" if self.printed is not None and (printed := self.printed()):
                assert words(block.code) == words(printed), block
            case "json":
                assert shows(json.loads(block.code), json.loads(self.answer)), (
                    f"{block}: {self.answer}"
                )

    def python(self, block: Block) -> None:
        code = "\n" * (block.line - 1) + self.addressed(block.code)
        exec(compile(code, str(ROOT / block.document), "exec"), self.namespace)

    def bash(self, block: Block) -> None:
        commands = uncommented(block).splitlines()
        if all(command.startswith("vigie ") for command in commands):
            for command in commands:
                self.vigie(command)
            return
        self.await_service()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.addressed(block.code)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        self.answer = done.stdout

    def vigie(self, command: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", shlex.split(command))
            with pytest.raises(SystemExit) as end:
                cli.main()
        assert not end.value.code, command

    def addressed(self, code: str) -> str:
        base = self.service.base_url
        code = code.replace("http://localhost:5000", self.settings.mlflow_tracking_uri)
        return code.replace("http://localhost:8084", f"{base.scheme}://{base.netloc.decode()}")

    def await_service(self) -> None:
        """Return once the service serves what the registry says; a reader pastes no faster."""
        registry = MLflowService(self.settings)
        wanted = {}
        for name in algorithms():
            try:
                version = pick(registry.server, name)
            except ModelNotFoundError:
                continue
            wanted[name] = (version.version, version.stage)
        deadline = time.monotonic() + 30
        serving: dict[str, Any] = {}
        while time.monotonic() < deadline:
            models = self.service.get("/status").json()["models"]
            serving = {name: (models[name]["version"], models[name]["stage"]) for name in wanted}
            if serving == wanted:
                return
            time.sleep(0.05)
        pytest.fail(f"The service serves {serving}, the registry says {wanted}.")


def words(output: str) -> set[str]:
    """Return the words of an output, without what depends on the machine."""
    output = re.sub(r"https?://\S+", "", output)
    return set(re.findall(r"[^\W\d_]{2,}", output)) - CRITICALITY


def shows(shown: Any, answer: Any) -> bool:
    """Whether an answer has the fields shown; an empty list or null may stand for what it likes."""
    if isinstance(shown, dict) and isinstance(answer, dict):
        return set(shown) == set(answer) and all(shows(shown[key], answer[key]) for key in shown)
    if isinstance(shown, list) and isinstance(answer, list):
        return not shown or (bool(answer) and shows(shown[0], answer[0]))
    return shown is None or isinstance(answer, type(shown))


@pytest.fixture(scope="module")
def service(
    mlflow_uri: str,
    running: Callable[[Settings], AbstractContextManager[httpx.Client]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[httpx.Client]:
    """One service for all documents, since a new one would import everything again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("service"))
        settings = Settings(mlflow_tracking_uri=mlflow_uri, **SMALL)
        with running(settings) as client:
            yield client


@pytest.fixture
def short(tracked: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The settings of a reader: the guides' experiment, small models, and a curl that fails."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "anomaly-detection")
    for name, value in SMALL.items():
        monkeypatch.setenv(f"VIGIE_{name.upper()}", str(value))
    monkeypatch.setenv("CURL_HOME", str(Path.cwd()))
    Path(".curlrc").write_text('fail\nsilent\nshow-error\nnoproxy = "*"\n')
    yield Settings()
    mlflow.set_tracking_uri(None)


@pytest.mark.parametrize(
    "document", [page for page in PAGES if page != STARTED and is_run(page)], ids=named
)
def test_every_snippet_runs_as_it_stands(
    document: Path, short: Settings, service: httpx.Client
) -> None:
    read(document, Reader(short, service))


def test_getting_started_prints_what_it_shows(
    short: Settings,
    service: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for file in STARTED.parent.glob("*.csv"):
        shutil.copy(file, file.name)
    monkeypatch.setenv("COLUMNS", "80")
    for name in set(SMALL) - {"tracking_patience_s", "figures"}:
        monkeypatch.delenv(f"VIGIE_{name.upper()}")

    read(STARTED, Reader(Settings(), service, lambda: capsys.readouterr().out))


def read(document: Path, reader: Reader) -> None:
    def paste_all() -> None:
        # Which metrics a training has depends on its rows.
        np.random.seed(0)
        for block in blocks(document):
            reader.paste(block)

    # A context of its own: no run is open in it, and none is the last one.
    Context().run(paste_all)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_block_is_of_a_language_that_nobody_runs(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES


@pytest.mark.parametrize(
    "page", [page for page in ROOT.glob("docs/**/*.md") if page not in FULL_TABLES], ids=named
)
def test_every_page_is_read_in_ten_minutes(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").split()) <= LONGEST_PAGE


def test_both_guides_hold_the_same_code() -> None:
    english, french = (
        [
            (block.language, uncommented(block))
            for block in blocks(guide)
            if block.language != "text"
        ]
        for guide in (ENGLISH, FRENCH)
    )

    assert english == french


def test_the_original_guides_python_runs_word_for_word(short: Settings) -> None:
    service = MLflowService(short)
    namespace: dict[str, Any] = {"__name__": "snippets"}

    def read() -> None:
        for _ in range(2):
            exec(original.TRAIN, namespace)
        # The guide asks for a version in each of the two stages.
        service.transition_model_stage("isolation_forest", 1, "Production")
        service.transition_model_stage("isolation_forest", 2, "Staging")
        for snippet in (original.LOAD, original.TRANSITION, original.RUN, original.METRICS):
            exec(snippet, namespace)

    Context().run(read)

    assert {"anomaly_rate", "mean_score", "std_score"} <= set(namespace["metrics"])
    assert namespace["service"].feature_names == [f"feature{i}" for i in range(1, 6)]
    assert set(namespace["model"].predict(namespace["X"])) <= {0, 1}
    assert service.get_latest_versions("isolation_forest", ["Production"])[0].version == 2
    logged = service.server.client.get_run(namespace["run"].info.run_id)
    assert logged.info.run_name == "experiment_2024_01_01"
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics == {"custom_metric_1": 0.95, "custom_metric_2": 0.87}


def test_the_original_guides_client_runs_but_for_the_call_that_mlflow_removed(
    short: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    service = MLflowService(short)
    exec(original.TRAIN, {"__name__": "snippets"})
    service.transition_model_stage("isolation_forest", 1, "Production")
    [run, *_] = service.search_runs()
    code = original.CLIENT.replace("http://localhost:5000", short.mlflow_tracking_uri)
    code = code.replace("<run_id>", run.info.run_id)

    with pytest.raises(AttributeError, match="list_experiments"):
        exec(code, {"__name__": "snippets"})
    exec(code.replace("list_experiments", "search_experiments"), {"__name__": "snippets"})

    printed = capsys.readouterr().out
    assert "'anomaly-detection'" in printed
    assert "'anomaly_rate'" in printed
    assert printed.endswith(("[1]\n", "['1']\n"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as a site; a broken link fails its build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_no_page_of_the_site_loads_anything_from_elsewhere(site: Path) -> None:
    loaded = {
        (page.name, address)
        for page in site.rglob("*.html")
        for address in re.findall(
            r"<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\s\">]+)",
            page.read_text(encoding="utf-8"),
        )
    }

    assert loaded == set()


def test_the_site_names_every_setting_command_and_request(site: Path) -> None:
    def page(name: str) -> str:
        return (site / f"reference/{name}.html").read_text(encoding="utf-8")

    settings = page("settings")
    for name, field in Settings.model_fields.items():
        assert str(field.validation_alias or f"VIGIE_{name.upper()}") in settings
    commands = [
        command.name or command.callback.__name__ for command in cli.app.registered_commands
    ]
    for command in commands:
        assert f"vigie {command}" in page("command-line")
    for path in create_app().openapi()["paths"]:
        assert path in page("rest")
    for name in vigie.__all__:
        assert name in page("python")


def test_the_page_of_the_settings_in_the_repository_is_up_to_date() -> None:
    hooks = runpy.run_path(str(ROOT / "docs/hooks.py"))
    assert hooks["SETTINGS"].read_text(encoding="utf-8") == hooks["settings"]()


def test_the_architecture_shows_who_may_import_whom_and_which_error_is_which_status() -> None:
    page = "".join(
        (ROOT / f"docs/architecture/{name}.md").read_text(encoding="utf-8")
        for name in ("index", "http")
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [layers] = [
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    statuses = re.findall(r"^\| `(\w+Error)` \| (\d{3}) \|$", page, re.MULTILINE)

    assert "```text\n" + "\n".join(layers) + "\n```" in page
    assert dict(statuses) == {kind.__name__: f"{status:d}" for kind, status in STATUS.items()}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)

    assert broken == []


def uncommented(block: Block) -> str:
    """Return the code of a block without its comments and blank lines."""
    code = block.code
    if block.language == "python":
        tokens = tokenize.generate_tokens(io.StringIO(code).readline)
        kept = [token for token in tokens if token.type != tokenize.COMMENT]
        code = tokenize.untokenize(kept)
    elif block.language in ("bash", "console"):
        code = re.sub(r"(^|\s)#.*$", "", code, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in code.splitlines() if line.strip())


def prose(page: Path) -> str:
    """Return a page without its code."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`\n]*`", "`", text)


def links(page: Path) -> list[str]:
    text = prose(page)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    found += re.findall(r"^\[[^\]]+\]: *(\S+)", text, re.MULTILINE)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
