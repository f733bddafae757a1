"""Log lines and log files, as processes write them and as `vigie up` keeps them."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from pathlib import Path

import pytest

from vigie import logs
from vigie.local import running

TIME_AND_LEVEL = re.compile(r"\d{4}[-/]\d\d[-/]\d\d[T ]\S+ (INFO|WARNING|ERROR)\b")
PROGRAM = """
import logging, sys
from vigie import logs

print("a library prints")
print("2026/11/30 04:25:04 WARNING mlflow.store: MLflow warns", flush=True)
logs.configure(logs.to_standard_error(sys.argv[1]))
logging.getLogger("vigie.x").error("ümlaut")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("vigie.x").exception("failed")
"""


def kept(folder: Path, program: str, log_format: logs.LogFormat) -> list[str]:
    """Return the lines of the log file that a program leaves."""
    log = folder / "service.log"
    command = [sys.executable, "-c", program, log_format]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with running(command, environment, log, log_format=log_format) as process:
        process.wait(60)
    return log.read_text(encoding="utf-8").splitlines()


def test_each_line_of_a_log_file_has_a_time_and_a_level(tmp_path):
    lines = kept(tmp_path, PROGRAM, "text")
    messages = [line for line in lines if not line.startswith(" ")]
    assert all(TIME_AND_LEVEL.match(line) for line in messages), lines
    said = [line.partition(" INFO ")[2] or line.partition(" ERROR ")[2] for line in messages]
    assert said[0] == "service: a library prints"
    assert said[2:] == ["vigie.x: ümlaut", "vigie.x: failed"]
    assert lines[-1].strip() == "ZeroDivisionError: division by zero"


def test_each_line_is_a_json_object_on_demand(tmp_path):
    lines = [json.loads(line) for line in kept(tmp_path, PROGRAM, "json")]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    facts = [(line["level"], line["logger"], line["message"]) for line in lines]
    assert facts == [
        ("INFO", "service", "a library prints"),
        ("WARNING", "mlflow.store", "MLflow warns"),
        ("ERROR", "vigie.x", "ümlaut"),
        ("ERROR", "vigie.x", "failed"),
    ]
    assert lines[1]["time"] == "2026-11-30T04:25:04"
    assert lines[3]["exception"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_log_file_stays_small_however_much_is_said(tmp_path, monkeypatch, log_format):
    monkeypatch.setattr(logs, "MOST_BYTES", 2_000)
    lines = kept(tmp_path, "for number in range(500): print('line', number)", log_format)
    assert "line 499" in lines[-1]
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["service.log", "service.log.1", "service.log.2"]
    assert all((tmp_path / name).stat().st_size <= 2_000 for name in files)


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "name", ["a\nERROR b", "a\r\n", "\x1b[2J", "\x9b2J", "a\u202eb", "\ud800", "a\u2028b"]
)
def test_a_name_writes_no_line_of_its_own_and_nothing_to_the_terminal(name, log_format, capsys):
    record = logging.makeLogRecord({"msg": "%s has failed", "args": (name,), "levelname": "ERROR"})
    line = logs.formatter(log_format).format(record)
    assert line.isprintable()
    assert line.encode()
    if log_format == "json":
        assert json.loads(line)["message"] == f"{name} has failed"


def test_a_traceback_is_indented_and_escapes_what_it_quotes():
    try:
        Path("\x1b[2J").rename("\x1b]0;title\x07")
    except OSError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    lines = logs.formatter("text").format(record).split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(line.startswith("    ") for line in lines[1:])


def test_what_a_line_is_about_stands_in_fields_of_its_own(monkeypatch):
    monkeypatch.setattr(logs, "_of_process", {})
    logs.name_process(job_id="job-1")
    facts = {"levelno": 20, "levelname": "INFO", "name": "vigie.x", "msg": "said"}
    record = logging.makeLogRecord(facts | {"model": "lstm_autoencoder", "version": 3})
    with logs.about(asset_id="pump-7"):
        within = json.loads(logs.formatter("json").format(record))
    assert [within[name] for name in ("asset_id", "model", "version")] == [
        *("pump-7", "lstm_autoencoder", 3),
    ]
    after = json.loads(logs.formatter("json").format(record))
    assert (after["job_id"], "asset_id" in after, "request_id" in after) == ("job-1", False, False)
