"""``vigie keys``, and a service that nobody could get into, or everybody."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from vigie.cli import app, main
from vigie.cli.doctor import Check, examine
from vigie.config import Settings
from vigie.errors import InvalidDataError
from vigie.keys import FORM, hidden
from vigie.local import require_keys

pytestmark = pytest.mark.usefixtures("untracked")


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["keys", *words], env={"COLUMNS": "120"})


def listed() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(run("list", "--json").stdout)
    return found


def test_a_key_is_printed_once_listed_and_revoked(tmp_path: Path) -> None:
    assert "`vigie keys create" in run("list").stdout
    made = run("create", "line-2", "--scope", "read", "--scope", "detect", "--expires", "90d")
    sent = made.stdout.strip()
    assert FORM.fullmatch(sent)
    number, secret = sent.split("_")[1:]

    [key] = listed()
    expires = datetime.fromisoformat(str(key.pop("expires")))
    assert timedelta(days=89) < expires - datetime.now(UTC) < timedelta(days=91)
    assert datetime.fromisoformat(str(key.pop("created"))).tzinfo
    assert key == {
        "id": number,
        "name": "line-2",
        "scopes": ["detect", "read"],
        "used": None,
        "revoked": None,
    }
    table = run("list").stdout
    assert all(word in table for word in (number, "line-2", "detect", f"{expires:%Y-%m-%d}"))

    assert "ten seconds" in run("revoke", "line-2").stderr
    assert "was revoked" in run("revoke", number).stderr
    assert listed()[0]["revoked"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "history.db" for path in files)
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_a_key_that_has_leaked_is_revoked_by_itself() -> None:
    run("revoke", run("create", "leaked", "--scope", "admin").stdout.strip())
    assert listed()[0]["revoked"]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["create", "", "--scope", "read"], "NAME"),
        (["create", "a\x1b[31mb", "--scope", "read"], "NAME"),
        (["create", "x" * 101, "--scope", "read"], "NAME"),
        (["create", "0123456789ab", "--scope", "read"], "NAME"),
        (["create", "a", "--scope", "read", "--expires", "soon"], "--expires"),
        (["create", "a", "--scope", "read", "--expires", "0d"], "--expires"),
        (["create", "taken", "--scope", "read"], "NAME"),
        (["revoke", "nobody"], "KEY"),
    ],
)
def test_what_makes_no_key_is_refused_with_what_is_expected(words: list[str], field: str) -> None:
    run("create", "taken", "--scope", "read")
    refused = run(*words)
    assert refused.exit_code == 1
    assert refused.exception is not None
    assert str(refused.exception).startswith(f"{field}: ")
    assert len(listed()) == 1


def test_a_scope_that_there_is_not_is_named_with_those_that_there_are() -> None:
    refused = run("create", "a", "--scope", "root")
    assert refused.exit_code == 2
    assert all(scope in refused.stderr for scope in ("read", "detect", "train", "admin"))


@pytest.mark.parametrize("command", ["serve", "up"])
def test_nothing_listens_where_everybody_needs_a_key_and_nobody_has_one(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], new_port
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://localhost:{new_port()}")
    words = ["vigie", command, "--host", "0.0.0.0", "--port", str(new_port())]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert "VIGIE_HOST" in told
    assert "vigie keys create" in told
    assert "--insecure" in told


def test_a_service_may_start_once_somebody_has_a_key_or_nobody_needs_one(
    untracked: Settings,
) -> None:
    public = untracked.model_copy(update={"host": "0.0.0.0"})
    require_keys(untracked)
    require_keys(public.model_copy(update={"auth": "off"}))
    for demanding in (public, untracked.model_copy(update={"auth": "on"})):
        with pytest.raises(InvalidDataError, match="none in sqlite:///"):
            require_keys(demanding)
    run("create", "me", "--scope", "admin")
    require_keys(public)
    run("revoke", "me")
    with pytest.raises(InvalidDataError):
        require_keys(public)
    # Nobody gets in until the database answers; it may be there later.
    away = {"history_url": "postgresql://vigie@127.0.0.1:1/vigie"}
    require_keys(public.model_copy(update=away))


def test_the_doctor_says_who_needs_a_key(untracked: Settings) -> None:
    def check(**changed: str) -> Check:
        settings = untracked.model_copy(update=changed)
        [found] = [one for one in examine(settings) if one.question == "API keys?"]
        return found

    assert check().passed
    assert check(auth="off", host="0.0.0.0").passed is None
    assert "vigie keys create" in check(host="0.0.0.0").remedy
    run("create", "me", "--scope", "admin")
    assert "1 is valid" in check(host="0.0.0.0").finding


def test_a_text_keeps_the_id_of_a_key_and_nothing_of_its_secret() -> None:
    sent = run("create", "me", "--scope", "admin").stdout.strip()
    number, secret = sent.split("_")[1:]
    for text in (sent, f"GET /{sent}?a={sent}", repr({"k": sent}), sent[:-20]):
        assert number in hidden(text)
        assert not re.search(secret[:8], hidden(text))


def test_a_key_that_could_not_be_shown_is_revoked() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vigie.cli", "keys", "create", "line-2", "--scope", "read"],
            stdout=full, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    assert done.returncode == 1
    assert "is revoked, since it could not be shown" in done.stderr
    [key] = listed()
    assert key["revoked"]
    # Its name is free again.
    assert FORM.fullmatch(run("create", "line-2", "--scope", "read").stdout.strip())
