"""Files of an S3 store and of web servers."""

from __future__ import annotations

import gzip
import io
import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pandas as pd
import pytest
import servers
from http_servers import listening

from vigie.errors import InvalidDataError
from vigie.tables.sources import fetch, open_remote

TABLE = pd.DataFrame({"time": [1, 2, 3], "rpm": [1450.0, 1451.5, None]})
CSV = TABLE.to_csv(index=False).encode()
_parquet = io.BytesIO()
TABLE.to_parquet(_parquet)
PARQUET = _parquet.getvalue()


def refused(url: str) -> InvalidDataError:
    with pytest.raises(InvalidDataError) as caught, open_remote(url):
        pass
    assert caught.value.field == "SOURCE"
    assert caught.value.__cause__ is None
    return caught.value


@pytest.fixture
def bucket(s3: servers.S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with files: its URL. The environment holds what a client needs."""
    for name, value in s3.environment.items():
        variable = "AWS_ENDPOINT_URL" if name == "MLFLOW_S3_ENDPOINT_URL" else name
        monkeypatch.setenv(variable, value)
    url = s3.new_bucket()
    client = boto3.client("s3")
    for key, content in {
        "a/b c@d.parquet": PARQUET,
        "x.csv.gz": gzip.compress(CSV),
        "large.bin": bytes(5 << 20),
    }.items():
        client.put_object(Bucket=url.removeprefix("s3://"), Key=key, Body=content)
    return url


def test_files_of_s3_are_copied_and_the_copies_are_removed(bucket: str) -> None:
    with open_remote(f"{bucket}/a/b%20c@d.parquet") as path:
        assert path.suffix == ".parquet"
        pd.testing.assert_frame_equal(pd.read_parquet(path), TABLE)
    assert not path.exists()
    with open_remote(f"{bucket}/x.csv.gz") as path:
        assert path.name == "x.csv.gz"
        pd.testing.assert_frame_equal(pd.read_csv(path), TABLE)
    with open_remote(f"{bucket}/large.bin") as path:
        assert path.stat().st_size == 5 << 20


def test_what_is_not_in_the_store_is_said(bucket: str) -> None:
    assert "There is no" in refused(f"{bucket}/none.csv").message
    assert "There is no" in refused("s3://nowhere/none.csv").message
    assert "folder" in refused(f"{bucket}/a/").message
    assert "cannot be read" in refused("s3:///none.csv").message


def test_a_store_that_is_down_is_said(
    bucket: str, monkeypatch: pytest.MonkeyPatch, new_port
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{new_port()}")
    error = refused(f"{bucket}/x.csv.gz")
    assert "cannot be read" in error.message
    assert "AWS_ENDPOINT_URL" in (error.remedy or "")


class Files(BaseHTTPRequestHandler):
    """Some files, whole ones only: a server that knows nothing of ranges."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        status, content, headers = 200, CSV, {}
        if path == "/old.csv":
            status, content, headers = 302, b"", {"Location": "/new.csv"}
        elif path == "/x.parquet":
            content = PARQUET
        elif path == "/x.csv.gz" or path == "/zipped.csv":
            content, headers = gzip.compress(CSV), {"Content-Encoding": "gzip"}
        elif path == "/export" and query == "signature=a%2Fb+c&q=1":
            headers = {"Content-Type": "text/csv; charset=utf-8"}
        elif path == "/locked.csv" and self.headers["Authorization"] is None:
            status = 401
        elif path == "/token.csv" and self.headers["Authorization"] != "Bearer t0ken":
            status = 403
        elif path == "/cut.csv":
            headers = {"Content-Length": str(len(CSV) + 10)}
        elif path not in ("/new.csv", "/locked.csv", "/token.csv", "/a b.csv", "/cut.csv"):
            status = 404
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *parts: object) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """A web server: its host and port."""
    with listening(ThreadingHTTPServer(("127.0.0.1", 0), Files)) as server:
        yield f"127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("new.csv", "new.csv"),
        ("old.csv", "old.csv"),
        ("zipped.csv", "zipped.csv"),
        ("x.csv.gz", "x.csv.gz"),
        ("x.parquet", "x.parquet"),
        ("export?signature=a%2Fb+c&q=1", "export.csv"),
    ],
)
def test_files_of_the_web_are_copied(web: str, path: str, name: str) -> None:
    with open_remote(f"http://{web}/{path}") as copy:
        assert copy.name == name
        table = pd.read_parquet(copy) if copy.suffix == ".parquet" else pd.read_csv(copy)
    pd.testing.assert_frame_equal(table, TABLE)
    assert not copy.exists()


def test_what_is_wrong_with_a_file_of_the_web_is_said(web: str, new_port) -> None:
    assert "404" in refused(f"http://{web}/none.csv").message
    assert "folder" in refused(f"http://{web}/").message
    assert "cannot be reached" in refused(f"http://{web}/cut.csv").message
    assert "cannot be reached" in refused(f"http://127.0.0.1:{new_port()}/x.csv").message
    assert "mongodb://" in refused(f"mongodb://{web}/x").message


def test_logins_of_the_web(
    web: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert "VIGIE_SOURCE_PASSWORD" in (refused(f"http://{web}/locked.csv").remedy or "")
    with open_remote(f"http://u:hunter2@{web}/locked.csv") as path:
        assert path.read_bytes() == CSV
    assert "other users" in caplog.text
    monkeypatch.setenv("VIGIE_SOURCE_TOKEN", "t0ken")
    with open_remote(f"http://{web}/token.csv") as path:
        assert path.read_bytes() == CSV
    with open_remote(f"http://{web}/new.csv?token=hunter2") as path:
        assert path.read_bytes() == CSV
    assert "hunter2" not in caplog.text
    assert "t0ken" not in caplog.text


def test_a_file_takes_no_query(web: str) -> None:
    with pytest.raises(InvalidDataError, match="takes no query"):
        fetch(f"http://{web}/new.csv", query="SELECT 1")
