"""API keys in the database: what is stored, who knows it how soon, and what an outage changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from servers import PostgreSQL
from sqlalchemy import create_engine, text

from vigie.api import keyring
from vigie.api.keyring import Keyring
from vigie.config import Settings
from vigie.errors import ConflictError, HistoryError, InvalidDataError, KeyRefusedError
from vigie.history.keys import KeyStore
from vigie.keys import ApiKey, Scope, new_key

NewHistory = Callable[[], str]
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def settings(new_history: NewHistory, tmp_path: Path) -> Settings:
    return Settings(history_url=new_history(), state_dir=tmp_path)


@pytest.fixture
def store(settings: Settings) -> Iterator[KeyStore]:
    store = KeyStore(settings)
    yield store
    store.close()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the times that a running service takes."""
    for name in ("CHECK_EVERY_S", "CERTAIN_S", "PATIENCE_S", "READ_EVERY_S"):
        monkeypatch.setattr(keyring, name, getattr(keyring, name) / 10)
    monkeypatch.setattr(keyring, "QUIET_AFTER_FAILURE_S", 0.05)


def added(store: KeyStore, name: str, expires: datetime | None = None) -> tuple[ApiKey, str]:
    key, sent = new_key(name, [Scope.DETECT], expires)
    store.add(key)
    return key, sent


async def is_let_in(ring: Keyring, sent: str) -> bool:
    try:
        await ring.verified(sent)
    except KeyRefusedError:
        return False
    return True


def test_a_key_is_stored_without_its_secret_and_found_by_its_id_or_its_name(
    store: KeyStore, settings: Settings
) -> None:
    (first, sent), (second, _) = added(store, "gateway"), added(store, "grafana", NOON)

    assert store.all() == [first, second]
    engine = create_engine(str(settings.history_url))
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM api_keys")).all()
    engine.dispose()
    secret = sent.rpartition("_")[2]
    assert len(secret) * 4 >= 128
    assert secret not in str(rows)

    store.note_use(first.id, NOON)
    store.note_use(first.id, NOON - timedelta(minutes=1))
    assert [key.used for key in store.all()] == [NOON, None]

    with pytest.raises(ConflictError, match=first.id):
        added(store, "gateway")
    assert store.revoke("gateway") == replace(first, used=NOON)
    assert store.revoke(first.id).revoked is not None
    again, _ = added(store, "gateway")
    assert store.revoke("gateway").id == again.id
    with pytest.raises(InvalidDataError, match="no key 'gateway'"):
        store.revoke("gateway")
    assert [key.revoked is None for key in store.all()] == [False, True, False]


def test_a_new_key_works_at_once_and_a_revoked_one_not_for_long(
    store: KeyStore, settings: Settings, at_once: None
) -> None:
    async def run() -> None:
        ring = Keyring(lambda: KeyStore(settings))
        _, first = added(store, "first")
        assert await is_let_in(ring, first)
        key, second = added(store, "second")
        assert await is_let_in(ring, second)
        assert not await is_let_in(ring, new_key("nobody's", [Scope.ADMIN])[1])

        store.revoke(key.id)
        while await is_let_in(ring, second):
            await asyncio.sleep(0.01)
        with pytest.raises(KeyRefusedError, match=r"second .* was revoked at"):
            await ring.verified(second)
        assert await is_let_in(ring, first)

        # A request after a long rest waits for the truth.
        store.revoke("first")
        await asyncio.sleep(keyring.CERTAIN_S)
        assert not await is_let_in(ring, first)
        ring.close()

    asyncio.run(run())


@pytest.mark.usefixtures("at_once")
def test_keys_of_a_file_that_was_deleted_are_not_let_in(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)

    async def run() -> None:
        store = KeyStore(settings)
        _, gone = added(store, "gone")
        store.close()
        ring = Keyring(lambda: KeyStore(settings))
        assert await is_let_in(ring, gone)
        for file in tmp_path.glob("history.db*"):
            file.unlink()
        while await is_let_in(ring, gone):
            await asyncio.sleep(0.01)
        store = KeyStore(settings)
        _, new = added(store, "new")
        store.close()
        assert await is_let_in(ring, new)
        ring.close()

    asyncio.run(run())
    assert (tmp_path / "history.db").stat().st_mode & 0o077 == 0


def test_a_key_ends_when_it_expires(store: KeyStore, settings: Settings) -> None:
    async def run() -> None:
        ring = Keyring(lambda: KeyStore(settings))
        _, sent = added(store, "soon", datetime.now(UTC) + timedelta(seconds=2))
        assert await is_let_in(ring, sent)
        while await is_let_in(ring, sent):
            await asyncio.sleep(0.02)
        with pytest.raises(KeyRefusedError, match=r"soon .* expired at"):
            await ring.verified(sent)
        ring.close()

    asyncio.run(run())


def test_the_last_use_is_stored_once_a_minute(store: KeyStore, settings: Settings) -> None:
    async def run() -> None:
        ring = Keyring(lambda: KeyStore(settings))
        _, sent = added(store, "busy")
        await ring.verified(sent)
        first_use = datetime.now(UTC)
        await asyncio.sleep(0.05)
        await ring.verified(sent)
        ring.close()
        [key] = store.all()
        assert key.used is not None
        assert before <= key.used <= first_use

    before = datetime.now(UTC)
    asyncio.run(run())


def test_while_the_database_is_frozen_known_keys_go_on_and_unknown_ones_are_not_called_wrong(
    postgresql: PostgreSQL,
    tmp_path: Path,
    at_once: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("vigie.history.postgresql.PatientConnection.patience_s", 0.3)
    settings = Settings(history_url=postgresql.new_database(), state_dir=tmp_path)
    store = KeyStore(settings)
    _, known = added(store, "known")
    _, unknown = added(store, "unknown")
    caplog.set_level(logging.INFO)

    async def run() -> None:
        ring = Keyring(lambda: KeyStore(settings))
        assert await is_let_in(ring, known)
        ring._keys.pop(unknown.split("_")[1])
        with postgresql.frozen():
            while "cannot be verified" not in caplog.text:
                assert await is_let_in(ring, known)
                await asyncio.sleep(0.05)
            with pytest.raises(HistoryError):
                await ring.verified(unknown)
            monkeypatch.setattr(keyring, "OUTAGE_S", keyring.CERTAIN_S)
            with pytest.raises(HistoryError):
                await ring.verified(known)

        async def is_known_again() -> bool:
            try:
                return await is_let_in(ring, unknown)
            except HistoryError:
                return False

        while not await is_known_again():
            await asyncio.sleep(0.05)
        assert await is_let_in(ring, known)
        ring.close()

    asyncio.run(run())
    [error] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "API keys cannot be verified" in error.getMessage()
    assert "API keys can be verified again" in caplog.text
    assert known.split("_")[2] not in caplog.text
    store.close()
