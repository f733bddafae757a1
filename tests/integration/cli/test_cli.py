"""``vigie`` as people and scripts call it: as a process, by its output and exit code."""

from __future__ import annotations

import csv
import getpass
import io
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import loaded_machine
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vigie import __version__, samples
from vigie.config import Settings
from vigie.detectors.catalogue import algorithms
from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService
from vigie.services.mlflow_service import MLflowService

CHEAP = {
    "VIGIE_FIGURES": "false",
    "VIGIE_N_ESTIMATORS": "25",
    "VIGIE_EPOCHS": "2",
    "VIGIE_ENCODER_LAYERS": "8",
    "VIGIE_DECODER_LAYERS": "8",
    "VIGIE_SEQUENCE_LENGTH": "5",
}
NAMES = list(samples.FEATURE_NAMES)
Finished = subprocess.CompletedProcess[str]

WARM = """
import gc, json, os, signal, sys
from vigie import garbage

garbage.search_rarely()
import pandas, pyarrow.parquet, mlflow.sklearn
import vigie.cli, vigie.tables.machines, vigie.cli.render.events
import vigie.detectors.isolation_forest.detector, vigie.detectors.one_class_svm.detector
import vigie.main, vigie.tracking.figures

# Else each command looks for garbage among all of this when it ends, for two seconds.
gc.freeze()
for line in sys.stdin:
    command = json.loads(line)
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    signal.alarm(300)
    os.chdir(command["folder"])
    os.environ.update(command["environment"])
    for number, name in enumerate((os.devnull, "stdout", "stderr")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["vigie", *command["arguments"]]
    sys.exit(vigie.cli.main())
"""


class Shell:
    """Runs each command in a process of its own, which has imported its libraries already.

    Imported afresh by each of some thirty commands, they would take most of the time of all tests.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path):
        self._process, self.folder = process, folder

    def run(self, *arguments: str, **environment: str) -> Finished:
        """Run a command in the folder, its state kept there."""
        environment = {**CHEAP, "VIGIE_STATE_DIR": str(self.folder / "state"), **environment}
        command = {
            "folder": str(self.folder),
            "arguments": arguments,
            "environment": environment,
        }
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(command), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        texts = [(self.folder / name).read_text() for name in ("stdout", "stderr")]
        return Finished(list(arguments), code, *texts)


@pytest.fixture(scope="module")
def shell(folder: Path) -> Iterator[Shell]:
    with subprocess.Popen(
        [sys.executable, "-c", WARM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Shell(process, folder)


def words(text: str) -> str:
    """Return a text without its line breaks, wherever the terminal has put them."""
    return " ".join(text.split())


def error_of(process: Finished) -> str:
    """Return what a command that failed says of it: an error that we know, no traceback."""
    assert process.returncode == 1, process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    assert process.stdout == ""
    return words(process.stderr)


def write_files(folder: Path) -> None:
    """Write recordings as people have them: with a time, a label, and a separator of choice."""
    healthy, fault = samples.healthy(300), samples.faulty("bearing_wear", 300, onset=100)
    for name, recording in (("healthy", healthy), ("fault", fault)):
        table = pd.DataFrame(recording.data, columns=NAMES)
        table.insert(0, "time", pd.Series(recording.timestamps).dt.strftime("%d.%m.%Y %H:%M:%S"))
        table["label"] = recording.labels
        table.to_csv(folder / f"{name}.csv", sep=";", index=False)
        table.to_parquet(folder / f"{name}.parquet")
        if name == "healthy":
            table[::-1].to_csv(folder / "backwards.csv", index=False)
    loaded = loaded_machine.recording(400, 1, (0.3, 0.8))
    loaded["product"] = np.where(loaded["load"] > 0.5, "sugar", "flour")
    loaded.drop(columns="load").to_csv(folder / "loaded.csv", index=False)
    table = pd.DataFrame(healthy.data, columns=NAMES)
    table.loc[3, "flow_rate"] = np.nan
    table.to_csv(folder / "gap.csv", index=False)
    table.drop(columns="flow_rate").to_csv(folder / "short.csv", index=False)
    other = pd.DataFrame(healthy.data[:120, :2], columns=["Schwingung", "Druck"])
    other.to_csv(folder / "other.csv", index=False)
    labelled = table.assign(anomaly=np.repeat([0, 1, 0], [200, 60, 40]))
    labelled.to_csv(folder / "labelled.csv", index=False)
    (folder / "empty.csv").write_text("")
    (folder / "folder").mkdir()
    (folder / "folder" / "one.csv").write_text("a\n1\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("recordings")
    write_files(made)
    return made


# What needs no server.


def cold(*arguments: str) -> Finished:
    """Run a command as a new process."""
    return subprocess.run(
        [sys.executable, "-m", "vigie.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_help_names_every_command():
    process = cold("--help")
    assert process.returncode == 0
    for command in ("up", "serve", "train", "detect", "backtest", "models", "doctor", "demo"):
        assert f" {command} " in process.stdout


def test_the_version_is_printed():
    process = cold("--version")
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == f"vigie {__version__}"


@pytest.fixture(scope="module")
def offline(shell: Shell) -> dict[str, Finished]:
    """What commands say without MLflow."""
    commands = {
        "no such file": ["train", "nowhere.csv"],
        "misspelt file": ["train", "folder/../helthy.csv"],
        "folder": ["train", "folder"],
        "standard input": ["train", "-"],
        "device": ["train", "/dev/null"],
        "no such column": ["train", "healthy.csv", "--exclude", "colour"],
        "no such feature": ["train", "healthy.csv", "--feature", "colour"],
        "no range": ["train", "healthy.csv", "--rows", "5-9"],
        "range beyond the end": ["train", "healthy.csv", "--rows", "400:500"],
        "no table": ["train", "empty.csv"],
        "no such detector": ["train", "healthy.csv", "--model", "forest"],
        "no model": ["detect", "fault.csv"],
        "list": ["models", "list"],
        "doctor": ["doctor"],
        "backwards": ["train", "backwards.csv", "--model", "isolation_forest"],
        "setting": ["train", "loaded.csv", "--model", "isolation_forest"],
        "context": ["train", "loaded.csv", "--model", "isolation_forest", "--context", "product"],
        "no such context": ["train", "healthy.csv", "--context", "colour"],
        "labelled": ["train", "labelled.csv", "--rows", "11:300", "--model", "one_class_svm"],
    }
    for command in commands.values():
        if command[0] == "train":
            command += ["--save", "saved"]
    forest = ["--model", "isolation_forest"]
    commands |= {
        "models would be lost": ["train", "healthy.csv"],
        "no folder to save in": ["train", "healthy.csv", "--save", "healthy.csv"],
        "saved": ["train", "healthy.csv", "--exclude", "label", *forest, "--save", "kept"],
        "loaded": ["detect", "fault.csv", "--load", "kept"],
        "too few rows": ["train", "healthy.csv", "--rows", "1:3", "--save", "few"],
        "too few for one": [
            *("train", "healthy.csv", "--rows", "1:5", "--save", "few"),
            *("--model", "one_class_svm", "--model", "vector_autoregression"),
        ],
        "no folder": ["detect", "fault.csv", "--load", "nowhere"],
        "no saved model": ["detect", "fault.csv", "--load", "kept/isolation_forest"],
        "not saved": ["detect", "fault.csv", "--load", "kept", "--model", "lstm_autoencoder"],
    }
    return {name: shell.run(*command, MLFLOW_ENABLED="false") for name, command in commands.items()}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no such file", ["no file nowhere.csv"]),
        ("misspelt file", ["no file folder/../helthy.csv", "mean folder/../healthy.csv?"]),
        ("folder", ["folder is a folder", "such as folder/one.csv"]),
        ("standard input", ["Standard input cannot be read", "Write it to a file"]),
        ("device", ["/dev/null is no regular file"]),
        ("no such column", ["--exclude", "no column colour", "flow_rate, motor_current, label"]),
        ("no such feature", ["--feature:", "no column colour", "flow_rate, motor_current, label"]),
        ("no such context", ["--context:", "no column colour", "motor_current, label"]),
        ("no range", ["--rows", "'5-9'", "1:400"]),
        ("range beyond the end", ["--rows", "300 rows"]),
        ("no table", ["empty.csv is empty", "names and readings"]),
        (
            "no such detector",
            [
                "'forest'",
                "isolation_forest, one_class_svm, vector_autoregression, lstm_autoencoder",
            ],
        ),
        ("no model", ["No model can answer", "MLFLOW_ENABLED=true", "--load FOLDER"]),
        ("models would be lost", ["would be lost", "--save FOLDER", "MLFLOW_ENABLED=true"]),
        ("no folder to save in", ["--save", "not writable"]),
        ("no folder", ["no folder nowhere", "--save FOLDER"]),
        ("no saved model", ["no saved model in kept/isolation_forest", "--save FOLDER"]),
        (
            "not saved",
            ["kept has no model of lstm_autoencoder, only of isolation_forest", "--save kept"],
        ),
        ("list", ["Tracking is disabled", "MLFLOW_ENABLED=true"]),
    ],
)
def test_an_error_says_what_is_wrong_and_what_to_do(offline, command, said):
    error = error_of(offline[command])
    for part in said:
        assert part in error


def test_models_are_saved_as_data_and_assess_a_recording_without_mlflow(offline, shell):
    assert offline["saved"].returncode == 0, offline["saved"].stderr
    assert "vigie detect FILE --load kept" in words(offline["saved"].stdout)
    saved = [path for path in (shell.folder / "kept").rglob("*") if path.is_file()]
    assert {path.suffix for path in saved} == {".json", ".safetensors"}
    assert offline["loaded"].returncode == 0, offline["loaded"].stderr
    assert "–300" in offline["loaded"].stdout
    assert "vibration_kurtosis" in offline["loaded"].stdout


def test_a_damaged_saved_model_is_refused_by_its_folder(offline, shell):
    assert offline["saved"].returncode == 0, offline["saved"].stderr
    shutil.copytree(shell.folder / "kept", shell.folder / "damaged")
    arrays = shell.folder / "damaged/isolation_forest/arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-8] + bytes(8))
    error = error_of(shell.run("detect", "fault.csv", "--load", "damaged", MLFLOW_ENABLED="false"))
    assert "damaged/isolation_forest" in error
    assert "checksum" in error


def test_a_training_that_fails_is_explained_once_in_one_line(offline):
    assert offline["too few rows"].returncode == 1
    error = error_of(offline["too few rows"])
    assert error.endswith("Error: data: 3 rows are too few. Give at least 4, better 2000.")
    assert error.count("few") == 1

    done = offline["too few for one"]
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    [line] = [line for line in lines if "vector_autoregression was not trained." in line]
    assert re.match(r"\d{4}-\S+ ERROR vigie\.\S+: vector_autoregression was not trained\. ", line)
    assert "Training needs at least" in line
    assert "Trained 1 of 2 detectors, but not vector_autoregression." in words(done.stderr)
    assert "With 5 rows the false-alarm rate is a guess. Record at least 100 rows." in done.stderr


def test_log_lines_are_json_on_demand(shell):
    done = shell.run(
        *("train", "healthy.csv", "--rows", "1:5", "--save", "few"),
        *("--model", "one_class_svm", "--model", "vector_autoregression"),
        MLFLOW_ENABLED="false",
        VIGIE_LOG_FORMAT="json",
    )
    logged = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [line["level"] for line in logged if "not trained" in line["message"]] == ["ERROR"]


@pytest.mark.parametrize("command", ["no such column", "no such detector", "list"])
def test_an_error_is_one_line_however_long(offline, command):
    [line] = [line for line in offline[command].stderr.splitlines() if "Left out" not in line]
    assert line.startswith("Error: ")


def test_rows_that_are_not_in_order_of_time_are_trained_on_with_a_warning(offline):
    assert offline["backwards"].returncode == 0, offline["backwards"].stderr
    assert "newest first" in words(offline["backwards"].stderr)


def test_labelled_faults_in_the_training_rows_are_counted_with_the_rows_before_them(offline):
    assert offline["labelled"].returncode == 0, offline["labelled"].stderr
    said = "60 rows are labelled anomaly = 1 and count as healthy. Give --rows 11:200"
    assert said in words(offline["labelled"].stderr)


def test_a_column_that_looks_like_a_setting_is_proposed_as_context(offline):
    assert offline["setting"].returncode == 0, offline["setting"].stderr
    assert "product looks like a setting" in words(offline["setting"].stdout)
    assert "--context product" in words(offline["setting"].stdout)


def test_sensors_are_trained_given_a_column_of_words(offline):
    assert offline["context"].returncode == 0, offline["context"].stderr
    assert "looks like a setting" not in offline["context"].stdout
    assert "in the average context" in words(offline["context"].stdout)


def test_the_doctor_names_disabled_tracking_with_its_remedy(offline):
    assert offline["doctor"].returncode == 1
    assert "MLFLOW_ENABLED is false" in words(offline["doctor"].stdout)
    assert "Set MLFLOW_ENABLED=true" in words(offline["doctor"].stdout)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VIGIE_CONTAMINATION", "2"),
        ("VIGIE_ENCODER_LAYERS", "wide"),
        ("MLFLOW_ENABLED", "maybe"),
        ("MLFLOW_TRACKING_URI", "localhost:5000"),
    ],
)
def test_a_wrong_setting_is_named_by_its_variable(shell, variable, value):
    error = error_of(shell.run("doctor", **{variable: value}))
    assert variable in error
    assert f"'{value}'" in error


@pytest.mark.parametrize(
    "command",
    [
        *(["up"], ["serve"], ["sync"], ["models", "list"]),
        *(["train", "nowhere.csv"], ["detect", "nowhere.csv"], ["inspect", "nowhere.csv"]),
        ["backtest", "nowhere.csv", "--labels", "label"],
    ],
)
def test_a_misspelt_setting_is_named_once_before_a_command_works(shell, busy_port, command):
    environment = {
        "VIGIE_PORT": str(busy_port),
        "MLFLOW_TRACKING_URI": f"http://localhost:{busy_port}",
        "MLFLOW_ENABLED": "false",
        "VIGIE_PROT": "8085",
    }
    done = shell.run(*command, **environment)
    error = error_of(done)
    assert error.count("VIGIE_PROT is no setting, and is ignored. Did you mean VIGIE_PORT?") == 1
    assert error.index("VIGIE_PROT") < error.index("Error:")


def test_help_names_no_misspelt_setting_and_the_doctor_lists_it_itself(shell):
    for arguments in (["train", "--help"], ["doctor", "--help"], ["models", "--help"]):
        done = shell.run(*arguments, VIGIE_PROT="8085")
        assert done.returncode == 0
        assert "VIGIE_PROT" not in done.stdout + done.stderr
    done = shell.run("doctor", VIGIE_PROT="8085", MLFLOW_ENABLED="false")
    assert done.stdout.count("VIGIE_PROT") == 1
    assert "VIGIE_PROT" not in done.stderr


def test_a_variable_in_the_address_of_a_source_is_not_called_misspelt(shell):
    address = "sqlite:///${VIGIE_PLANT}.db"
    done = shell.run("inspect", address, "--query", "SELECT 1", VIGIE_PLANT="nowhere")
    assert "is no setting" not in error_of(done)


@pytest.mark.parametrize(
    "command",
    [["doctor"], ["up"], ["serve"], ["demo"], ["inspect", "healthy.csv"], ["models", "list"]],
)
def test_a_file_of_settings_in_another_encoding_is_named_with_its_line(shell, command):
    file = shell.folder / ".env"
    file.write_bytes(b"VIGIE_EPOCHS=2\n# r\xe9glages\n")
    try:
        done = shell.run(*command)
    finally:
        file.unlink()
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"{file} is not in UTF-8: see line 2" in words(done.stderr)
    assert "Save it as UTF-8" in words(done.stderr)


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_in_use_is_named_with_what_to_set(shell, busy_port, new_port):
    error = error_of(shell.run("serve", VIGIE_PORT=str(busy_port), MLFLOW_ENABLED="false"))
    assert f"Port {busy_port} is in use" in error
    assert "VIGIE_PORT=" in error

    uri = f"http://localhost:{busy_port}"
    error = error_of(shell.run("up", MLFLOW_TRACKING_URI=uri, VIGIE_PORT=str(new_port())))
    assert f"Port {busy_port} is in use" in error
    assert "MLFLOW_TRACKING_URI=http://localhost:" in error
    assert "vigie serve" in error
    assert "Starting" not in error

    # Before MLflow starts.
    free = f"http://localhost:{new_port()}"
    error = error_of(shell.run("up", MLFLOW_TRACKING_URI=free, VIGIE_PORT=str(busy_port)))
    assert f"Port {busy_port} is in use" in error
    assert "Starting" not in error


def test_a_second_vigie_is_told_where_the_first_runs(shell, untracked, running, new_port):
    uri = f"http://localhost:{new_port()}"
    with running(untracked) as api:
        port = str(api.base_url.port)
        error = error_of(shell.run("up", MLFLOW_TRACKING_URI=uri, VIGIE_PORT=port))
    assert f"Vigie already runs at http://127.0.0.1:{port}/docs, but MLflow does not" in error
    assert "Ctrl-C in its terminal" in error
    assert "Starting" not in error


@pytest.fixture(scope="module")
def away(shell: Shell, new_port: Callable[[], int]) -> dict[str, Finished]:
    """What commands say while no server is there."""
    commands = {
        "doctor": ["doctor"],
        "detect": ["detect", "fault.csv"],
        "train": ["train", "healthy.csv", "--model", "one_class_svm", "--promote"],
    }
    uri = f"http://localhost:{new_port()}"
    # A state of its own: what is trained here waits for a server, and would go to the next one.
    state = str(shell.folder / "state-away")
    return {
        name: shell.run(*command, MLFLOW_TRACKING_URI=uri, VIGIE_STATE_DIR=state)
        for name, command in commands.items()
    }


def test_the_doctor_names_a_server_that_is_away_with_its_remedy(away):
    assert away["doctor"].returncode == 1
    said = words(away["doctor"].stdout)
    assert "cannot be reached" in said
    assert "vigie up" in said
    assert "Traceback" not in away["doctor"].stderr


def test_a_state_folder_that_cannot_be_made_is_named_with_its_variable(shell, new_port):
    (shell.folder / "file").write_text("no folder")
    uri, state = f"http://localhost:{new_port()}", str(shell.folder / "file" / "state")

    def vigie(*arguments: str) -> Finished:
        return shell.run(*arguments, MLFLOW_TRACKING_URI=uri, VIGIE_STATE_DIR=state)

    for command in ("sync", "up"):
        error = error_of(vigie(command))
        assert f"VIGIE_STATE_DIR: {state} is not writable" in error
        assert "Set it to a writable folder" in error
    said = words(vigie("doctor").stdout)
    assert f"{state} is not writable" in said
    assert "VIGIE_STATE_DIR: Set it to" in said
    # There is a model all the same.
    trained = vigie("train", "healthy.csv", "--model", "one_class_svm")
    assert trained.returncode == 0
    assert "Set VIGIE_STATE_DIR to a writable folder" in words(trained.stderr)
    assert "Traceback" not in trained.stderr


def test_a_registry_that_cannot_be_asked_is_not_called_empty(away):
    error = error_of(away["detect"])
    assert "cannot be reached" in error
    assert "the registry has none" not in error


def test_a_promotion_that_could_not_be_made_is_no_success(away, shell):
    assert "cannot be reached" in words(away["train"].stderr)
    assert "one_class_svm" in away["train"].stdout
    assert away["train"].returncode == 1
    said = words(away["train"].stderr)
    outbox = shell.folder / "state-away" / "journal"
    safe = f"The trainings are safe in the outbox ({outbox}): `vigie sync`"
    assert f"Not promoted: one_class_svm. {safe}" in said


# What needs one.


@dataclass(frozen=True)
class Workplace:
    """A shell, and the registry that commands see that are run there."""

    shell: Shell
    settings: Settings

    @property
    def tracking(self) -> MLflowService:
        return MLflowService(self.settings)

    def vigie(self, *arguments: str, **environment: str) -> Finished:
        return self.shell.run(
            *arguments,
            **environment,
            MLFLOW_TRACKING_URI=self.settings.mlflow_tracking_uri,
            MLFLOW_EXPERIMENT_NAME=self.settings.mlflow_experiment_name,
        )


@pytest.fixture(scope="module")
def workplace(shell: Shell, mlflow_uri: str, new_state: Callable[[Path], Path]) -> Workplace:
    """A place where nothing has been trained yet."""
    settings = Settings(
        mlflow_tracking_uri=mlflow_uri,
        mlflow_experiment_name="the-command-line",
        tracking_patience_s=60,
        figures=False,
        epochs=2,
        encoder_layers=(8,),
        decoder_layers=(8,),
        sequence_length=5,
        state_dir=new_state(shell.folder / "state-of-the-tests"),
    )
    client = MLflowService(settings).server.client
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    return Workplace(shell, settings)


@pytest.fixture(scope="module")
def empty(workplace: Workplace) -> dict[str, Finished]:
    """What commands say of an empty registry."""
    return {"doctor": workplace.vigie("doctor"), "list": workplace.vigie("models", "list")}


@pytest.fixture(scope="module")
def trained(workplace: Workplace, empty: dict[str, Finished]) -> Finished:
    """Three detectors trained on a file and promoted, after ``empty``; the last from Python."""
    assert len(empty) == 2
    sequences = LSTMAutoencoderService(settings=workplace.settings)
    sequences.train(samples.healthy(300).data, NAMES)
    workplace.tracking.transition_model_stage("lstm_autoencoder", 1, "Production")
    names = ("isolation_forest", "one_class_svm", "vector_autoregression")
    chosen = [word for name in names for word in ("--model", name)]
    return workplace.vigie("train", "healthy.csv", "--exclude", "label", "--promote", *chosen)


@pytest.fixture(scope="module")
def shown(workplace: Workplace, trained: Finished) -> dict[str, Finished]:
    """What commands that change nothing say after that."""
    assert trained.returncode == 0, trained.stderr
    commands = {
        "table": ["detect", "fault.parquet"],
        "json": ["detect", "fault.csv", "--rows", "91:300", "--format", "json"],
        "csv": ["detect", "fault.csv", "--rows", "91:300", "--format", "csv"],
        "alarm": [
            "detect",
            "fault.csv",
            "--format",
            "csv",
            "--fail-on",
            "alarm",
            "--picture",
            "fault.png",
        ],
        "no alarm": ["detect", "fault.csv", "--rows", "1:60", "--fail-on", "alarm"],
        "short": ["detect", "short.csv"],
        "short, imputed": ["detect", "short.csv", "--faulty", "impute"],
        "list": ["models", "list"],
        "doctor": ["doctor"],
    }
    return {name: workplace.vigie(*command) for name, command in commands.items()}


def test_the_doctor_says_which_models_an_empty_registry_lacks(empty):
    assert empty["doctor"].returncode == 1
    said = words(empty["doctor"].stdout)
    for name in algorithms():
        assert f"Versions of {name}? none. Train one: `vigie train FILE --model {name}`" in said


def test_an_empty_registry_is_listed_as_such(empty):
    assert empty["list"].returncode == 0
    assert "vigie train FILE" in words(empty["list"].stdout)


def test_a_file_is_trained_on_by_its_numbers_and_the_versions_are_promoted(trained, workplace):
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.count("1 (Production)") == 3
    for name in ("isolation_forest", "one_class_svm"):
        model = workplace.tracking.load_model(name, stage="Production")
        assert list(model.feature_names) == NAMES
        assert model.n_samples == 300


def test_a_training_prints_the_address_of_each_run(trained, workplace):
    client = workplace.tracking.server.client
    site = workplace.settings.mlflow_tracking_uri
    for name in ("isolation_forest", "one_class_svm", "vector_autoregression"):
        run = client.get_run(client.get_model_version(name, "1").run_id)
        page = f"{site}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        assert page in trained.stdout
        [logged] = run.inputs.dataset_inputs
        assert logged.dataset.name == "healthy.csv"


def test_a_run_keeps_what_was_understood_of_its_file(trained, workplace, tmp_path):
    assert trained.returncode == 0, trained.stderr
    client = workplace.tracking.server.client
    [version] = client.search_model_versions("name='isolation_forest'")
    path = client.download_artifacts(version.run_id, "table.json", str(tmp_path))
    report = json.loads(Path(path).read_text())
    assert (report["name"], report["n_rows"]) == ("healthy.csv", 300)
    assert report["origin"]["separator"] == ";"
    assert [c["name"] for c in report["columns"] if c["kind"] == "sensor"] == NAMES


def test_a_training_says_the_smallest_step_of_each_sensor_that_it_would_see(trained):
    said = words(trained.stdout)
    assert "Smallest change that, if it lasts, raises an alarm within 20 or 200 readings" in said
    assert "within 20" in said
    for name in NAMES:
        assert name in said


def test_a_recording_is_judged_as_events_with_the_sensor_at_fault(shown):
    assert shown["table"].returncode == 0, shown["table"].stderr
    said = words(shown["table"].stdout)
    assert "of 300 rows are anomalous" in said
    assert "vibration_kurtosis" in said
    assert "–300" in said
    assert ", ".join(f"{name} v1" for name in algorithms()) in said


def test_a_recording_is_judged_without_a_state_folder_too(shown, workplace):
    (workplace.shell.folder / "file").write_text("no folder")
    state = str(workplace.shell.folder / "file" / "state")
    judged = workplace.vigie("detect", "fault.parquet", VIGIE_STATE_DIR=state)
    assert judged.returncode == 0
    assert judged.stdout == shown["table"].stdout
    assert "set VIGIE_STATE_DIR to a writable folder" in words(judged.stderr)
    assert "Traceback" not in judged.stderr


def test_json_is_all_that_stands_on_standard_output(shown):
    assert shown["json"].returncode == 0
    assert shown["json"].stderr == ""
    answer = json.loads(shown["json"].stdout)
    assert answer["versions"] == [f"{name} v1" for name in algorithms()]
    rows = answer["rows"]
    assert [row["row"] for row in rows] == list(range(91, 301))
    # Four rows until the window of five is full.
    assert [row["lstm_autoencoder"] is None for row in rows[:6]] == [True] * 4 + [False] * 2
    assert not any(row["is_anomaly"] for row in rows[:5])
    assert all(row["is_anomaly"] and row["criticality"] == "critical" for row in rows[-5:])
    assert rows[-1]["sensor"] == "vibration_kurtosis"
    assert rows[0]["sensor"] is None


def test_an_alarm_ends_the_command_with_status_3_where_that_is_asked_for(shown):
    assert shown["alarm"].returncode == 3, shown["alarm"].stderr
    assert ",alarm," in shown["alarm"].stdout
    assert shown["alarm"].stderr == ""
    assert shown["no alarm"].returncode == 0, shown["no alarm"].stdout


def test_a_recording_and_its_verdict_are_drawn(shown, workplace):
    assert shown["alarm"].stderr == ""
    with Image.open(workplace.shell.folder / "fault.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red = (np.abs(pixels - [0xD1, 0x49, 0x5B]).sum(axis=2) < 8).any(axis=0)
    # The alarm is in the last two thirds of the recording.
    assert not red[: len(red) // 3].any()
    assert red[-len(red) // 4 : -60].all()


def test_json_has_the_threshold_and_the_events_with_their_times(shown):
    answer = json.loads(shown["json"].stdout)
    assert answer["threshold"] == 0.99
    times = {row["row"]: row["time"] for row in answer["rows"]}
    assert all(time.endswith("Z") for time in times.values())
    [alarm] = [event for event in answer["events"] if event["kind"] == "alarm"]
    assert alarm["last_row"] == 300
    assert (alarm["start"], alarm["end"]) == (times[alarm["first_row"]], times[300])
    assert alarm["duration_s"] > 0
    assert alarm["sensors"][0]["name"] == "vibration_kurtosis"


def test_csv_says_the_same_as_json(shown):
    assert shown["csv"].stderr == ""
    table = list(csv.DictReader(io.StringIO(shown["csv"].stdout)))
    rows = json.loads(shown["json"].stdout)["rows"]
    assert list(table[0]) == list(rows[0])
    for line, row in zip(table, rows, strict=True):
        assert int(line["row"]) == row["row"]
        assert float(line["final_score"]) == row["final_score"]
        assert line["is_anomaly"].lower() == str(row["is_anomaly"]).lower()
        assert line["sensor"] == (row["sensor"] or "")
        assert line["time"] == row["time"]


def test_a_column_that_all_models_need_is_missed_before_a_row_is_judged(shown):
    error = error_of(shown["short"])
    assert "columns are missing: flow_rate, which every model needs" in error
    assert "--faulty impute" in error


def test_a_file_is_judged_without_a_column_where_that_is_said_outright(shown):
    done = shown["short, imputed"]
    assert done.returncode == 0, done.stderr
    assert "continue without flow_rate: not in short.csv." in words(done.stderr)
    assert "flow_rate: 300 of 300 values are missing" in words(done.stdout)


def test_the_list_shows_stage_and_run_of_every_version(shown, workplace):
    assert shown["list"].returncode == 0
    for name in algorithms():
        [version] = workplace.tracking.list_versions(name)
        [line] = [line for line in shown["list"].stdout.splitlines() if line.startswith(f"{name} ")]
        assert "Production" in line
        assert version.run_id[:7] in line
        assert line.split()[-3:-1] == ["300", "8"]
        assert len(line) <= 80


def test_the_doctor_finds_a_healthy_registry_healthy(shown):
    assert shown["doctor"].returncode == 0, shown["doctor"].stdout
    said = words(shown["doctor"].stdout)
    assert "fail" not in said
    assert said.count("is in Production and serves") == 4
    assert said.count("readable? yes, 8 features") == 4


def test_parquet_rows_and_features_are_chosen_and_a_version_promoted_and_rolled_back(
    shown, workplace
):
    assert shown
    chosen = ["--feature", "vibration_rms", "--feature", "flow_rate", "--rows", "1:120"]
    done = workplace.vigie("train", "healthy.parquet", "--model", "one_class_svm", *chosen)
    assert done.returncode == 0, done.stderr
    assert " 120 " in done.stdout
    model = workplace.tracking.load_model("one_class_svm", version=2)
    assert model.feature_names == ("vibration_rms", "flow_rate")
    assert model.n_samples == 120

    def in_production() -> int:
        return workplace.tracking.get_latest_versions("one_class_svm", ["Production"])[0].version

    assert in_production() == 1
    reason = "Trained after the overhaul of line 2, see report\x1b[2J 17"
    error = error_of(workplace.vigie("models", "promote", "one_class_svm", "2", "--reason", reason))
    assert r"reason: Character 49 (\x1b) is no text." in error
    assert in_production() == 1
    reason = "Trained after the overhaul of line 2,\nsee report 17"
    done = workplace.vigie("models", "promote", "one_class_svm", "2", "--reason", reason)
    assert done.stdout.strip() == "one_class_svm version 2 is in Production."
    # Readings of the version before have all that this one needs.
    assert "Warning" not in done.stderr
    assert in_production() == 2
    done = workplace.vigie("models", "rollback", "one_class_svm", "--reason", "It was line 3.")
    assert "version 1 serves again" in done.stdout
    assert in_production() == 1
    done = workplace.vigie("models", "history", "one_class_svm", COLUMNS="80")
    assert max(map(len, done.stdout.splitlines())) <= 80
    head, back, out_again, to, out, trained = (
        row.split() for row in done.stdout.splitlines() if re.match(r"when|20\d\d-", row)
    )
    assert head == ["when", "(UTC)", "version", "move", "by", "reason"]
    who = getpass.getuser()
    assert back[2:] == ["1", "back", "to", "Production", who, "It", "was", "line", "3."]
    assert out_again[2:6] == ["2", "replaced", "in", "Production"]
    assert to[2:7] == ["2", "to", "Production", who, "Trained"]
    assert r" 2,\nsee " in words(done.stdout)
    assert out[2:6] == ["1", "replaced", "in", "Production"]
    assert trained[2:] == ["1", "trained", "for", "Production", who, "–"]
    for wrong in (["rollback", "oneclasssvm"], ["promote", "svm", "1"], ["history", "svm"]):
        error = error_of(workplace.vigie("models", *wrong))
        assert f"There is no model '{wrong[1]}' in the registry" in error
        assert 'Did you mean "one_class_svm"? Detectors: isolation_forest, one_class_svm' in error
    error = error_of(workplace.vigie("models", "promote", "isolationforest--pump-3", "1"))
    assert 'Did you mean "isolation_forest--pump-3"?' in error
    # The doctor advises against no such decision.
    assert "models promote one_class_svm" not in words(workplace.vigie("doctor").stdout)
    done = workplace.vigie("train", "healthy.parquet", "--model", "one_class_svm", *chosen)
    assert done.returncode == 0, done.stderr
    said = words(workplace.vigie("doctor").stdout)
    assert "`vigie models promote one_class_svm 3` takes a newer one" in said


def test_a_version_of_another_machine_replaces_none_without_a_word(shown, workplace):
    assert shown
    done = workplace.vigie("train", "other.csv", "--model", "isolation_forest")
    assert done.returncode == 0, done.stderr
    waits = "Waits, since another one is in Production: isolation_forest 2 (1 serves)."
    assert waits in words(done.stdout)
    assert "other sensors" not in done.stderr
    said = words(workplace.vigie("doctor").stdout)
    assert "version 1 is in Production and serves. 2 is newer, but has other sensors." in said
    assert "models promote isolation_forest" not in said
    done = workplace.vigie("models", "promote", "isolation_forest", "2")
    assert done.returncode == 0, done.stderr
    said = words(done.stderr)
    assert "Version 1 goes on serving until the other models know the same sensors" in said
    needed = "version 2 needs Schwingung, Druck, which one_class_svm, vector_autoregression, "
    assert f"{needed}lstm_autoencoder do not know. Promote versions of these that do" in said
    assert f"other sensors ({', '.join(NAMES[:4])}, ...): isolation_forest 1." in said
    assert "without Schwingung, Druck are refused" in said
    assert "`vigie models rollback NAME`" in said
    done = workplace.vigie("models", "rollback", "isolation_forest")
    assert "version 1 serves again" in done.stdout
    done = workplace.vigie("train", "other.csv", "--model", "isolation_forest", "--promote")
    assert "without Schwingung, Druck are refused" in words(done.stderr)
    assert "Waits" not in done.stdout
    workplace.vigie("models", "rollback", "isolation_forest")


def test_what_serves_is_judged_by_and_said_until_all_models_know_the_same_sensors(shown, workplace):
    assert shown
    done = workplace.vigie("train", "other.csv", "--promote")
    assert done.returncode == 0, done.stderr
    assert "`vigie models rollback --all` brings the old ones back" in words(done.stderr)
    done = workplace.vigie("models", "rollback", "isolation_forest")
    assert re.search(r"version 1 is in Production again, instead of \d\.", words(done.stdout))
    said = words(done.stderr)
    assert "goes on serving until the other models know the same sensors: version 1 needs" in said
    others = ("one_class_svm", "vector_autoregression", "lstm_autoencoder")
    assert f"which {', '.join(others)} do not know. Roll these back too: " in said
    for name in others:
        assert f"`vigie models rollback {name}`" in said
    # As a service does.
    done = workplace.vigie("detect", "other.csv")
    assert done.returncode == 0, done.stderr
    assert re.search(r"isolation_forest v[2-9]", words(done.stdout))

    done = workplace.vigie("models", "rollback", "--all")
    assert done.returncode == 0, done.stderr
    for name in others:
        assert f"{name}: version 1 serves again" in words(done.stdout)
    assert "isolation_forest stays as it is: No version" in words(done.stdout)
    done = workplace.vigie("detect", "fault.parquet")
    assert ", ".join(f"{name} v1" for name in algorithms()) in words(done.stdout)
    for wrong in ([], ["isolation_forest", "--all"]):
        error = error_of(workplace.vigie("models", "rollback", *wrong))
        assert "Name one model, or say --all" in error


def test_what_a_command_has_changed_is_judged_by_while_mlflow_is_away(shown, workplace, failing):
    assert shown
    server = failing(workplace.settings.mlflow_tracking_uri, 10_000, "gone")

    def vigie(*arguments: str) -> Finished:
        return workplace.shell.run(
            *arguments,
            MLFLOW_TRACKING_URI=server.uri,
            MLFLOW_EXPERIMENT_NAME=workplace.settings.mlflow_experiment_name,
            VIGIE_STATE_DIR=str(workplace.shell.folder / "state-behind"),
        )

    def judged_without_mlflow() -> Finished:
        server.left = 0
        try:
            done = vigie("detect", "fault.parquet", "--model", "one_class_svm")
        finally:
            server.left = 10_000
        assert done.returncode == 0, done.stderr
        said = "MLflow does not answer: these are the versions that served as it confirmed them at "
        assert re.search(rf"{said}\d{{4}}-\d\d-\d\d \d\d:\d\d UTC\.", words(done.stderr))
        return done

    chosen = ["--exclude", "label", "--rows", "1:200", "--model", "one_class_svm"]
    done = vigie("train", "healthy.csv", *chosen, "--promote")
    assert done.returncode == 0, done.stderr
    [version] = re.findall(r"one_class_svm\D+(\d+) \(Production\)", done.stdout)
    assert f"one_class_svm v{version}" in judged_without_mlflow().stdout
    for command in (["rollback", "one_class_svm"], ["promote", "one_class_svm", version]):
        done = vigie("models", *command)
        assert done.returncode == 0, done.stderr
        serving = version if command[0] == "promote" else "1"
        assert f"one_class_svm v{serving}" in judged_without_mlflow().stdout
    vigie("models", "rollback", "one_class_svm")
