"""Files of the web, of S3 and of Google Cloud Storage."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from vigie.errors import InvalidDataError
from vigie.tables.sources.addresses import Address
from vigie.tables.sources.web import address_of, client, refusal

if TYPE_CHECKING:
    import httpx

BYTES_AT_A_TIME = 1 << 20
CONNECT_S, ANSWER_S = 10.0, 60.0
"""Timeouts to connect, and for an answer, in seconds."""
ENDINGS = {
    "text/csv": ".csv",
    "application/vnd.apache.parquet": ".parquet",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
}
"""How the name of a file ends that has no ending of its own, by its media type."""
LOGIN = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."


@contextmanager
def copied(address: Address) -> Iterator[Path]:
    """Have a copy of a file as long as a block lasts.

    Raises
    ------
    InvalidDataError
        If there is no such file, or it cannot be had.
    """
    with tempfile.TemporaryDirectory() as folder:
        name = re.sub(r"[^\w.-]", "_", unquote(address.path).rpartition("/")[2])
        if not name.strip("."):
            raise InvalidDataError(
                f"{address.shown} is a folder.", field="SOURCE", remedy="Name one file in it."
            )
        if address.scheme in ("http", "https"):
            path = _download(address, Path(folder, name))
        else:
            path = _copy(address, Path(folder, name))
        yield path


def _download(address: Address, path: Path) -> Path:
    """Fetch a file of a web server, and return where it is."""
    url = f"{address_of(address)}?{address.query}" if address.query else address_of(address)
    # Nothing is compressed on the way, so what comes compressed is a packed file.
    headers = {"Accept-Encoding": "identity"}
    with (
        client(address) as http,
        http.stream("GET", url, headers=headers, follow_redirects=True) as response,
    ):
        if not response.is_success:
            raise refusal(address, response.status_code)
        if not path.suffix:
            media = response.headers.get("Content-Type", "").partition(";")[0].strip()
            path = path.with_suffix(ENDINGS.get(media, ""))
        with path.open("wb") as file:
            for part in _parts(response, path):
                file.write(part)
    return path


def _parts(response: httpx.Response, path: Path) -> Iterator[bytes]:
    # Some servers call x.csv.gz an x.csv in the encoding gzip; decoded, it would not be what its
    # name says.
    is_compressed = path.suffix == ".gz"
    return (response.iter_raw if is_compressed else response.iter_bytes)(BYTES_AT_A_TIME)


def _copy(address: Address, path: Path) -> Path:
    """Fetch an object of a store, and return where it is."""
    key = f"{address.host}/{unquote(address.path).lstrip('/')}"
    try:
        # As it is: by default an object whose name ends in .gz would be decompressed.
        with (
            _store(address).open_input_stream(key, compression=None) as source,
            path.open("wb") as file,
        ):
            shutil.copyfileobj(source, file, BYTES_AT_A_TIME)
    except FileNotFoundError:
        raise InvalidDataError(
            f"There is no {address.shown}.", field="SOURCE", remedy="Correct the address."
        ) from None
    except (OSError, ValueError) as error:
        said = address.cleaned(str(error))
        raise InvalidDataError(
            f"{address.shown} cannot be read: {said.rstrip('.')}.",
            field="SOURCE",
            remedy=_remedy(address, said),
        ) from None
    return path


def _store(address: Address) -> Any:
    """Return the store of an address, with the login that the environment holds."""
    from datetime import timedelta

    from pyarrow import fs

    if address.scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=CONNECT_S))
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        region = fs.resolve_s3_region(address.host)
    return fs.S3FileSystem(
        region=region,
        endpoint_override=endpoint,
        connect_timeout=CONNECT_S,
        request_timeout=ANSWER_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
    )


def _remedy(address: Address, said: str) -> str:
    if address.scheme == "gs":
        return "Set GOOGLE_APPLICATION_CREDENTIALS, or correct the address."
    is_login = re.search(
        r"ACCESS_DENIED|HTTP status 403|InvalidAccessKey|Signature|credential", said
    )
    return (
        LOGIN if is_login else "Start it, or correct the address; AWS_ENDPOINT_URL names a server."
    )
