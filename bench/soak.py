"""A soak: two replicas on PostgreSQL under load, while parts of it are taken away.

    python bench/soak.py postgresql+psycopg://USER:PASSWORD@HOST/EMPTY_DATABASE --minutes 30

starts MLflow and two replicas of the service. Eight clients send the readings of 500 assets, spread
over both as by a load balancer. Meanwhile models are trained over REST and promoted, one replica is
killed with SIGKILL every two minutes and started again, and the registry is taken away twice: first
killed, then hanging. At the end it compares the answers with the history, and prints:

- lost: readings that were answered, and are not in the history;
- wrong version: answers by a version that was not in Production while the request was open, nor
  within the time that a replica has to follow a promotion;
- 5xx, and connections that broke although their replica was not killed;
- memory of the replica that lives on, and how long answers took.

A client whose connection breaks sends the same readings to the other replica. They have times, so
the history has them once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from statistics import quantiles
from typing import Any

import figures
import httpx
from servers import free_port
from sqlalchemy import create_engine, text

from vigie import samples
from vigie.client import Client
from vigie.config import Settings
from vigie.errors import ServiceUnavailableError, VigieError
from vigie.local import Program, await_health, mlflow_server, running
from vigie.services.anomaly_detection_service import AnomalyDetectionService

N_ASSETS, N_CLIENTS = 500, 8
PERIOD_S = 10.0
"""Between two readings of an asset."""
IN_A_BATCH = 20
"""Readings of one request; the rest of a client's assets are sent one at a time."""
KILL_EVERY_S, TRAIN_EVERY_S, AWAY_S = 120.0, 150.0, 60.0
POLL_S, SLACK_S = 5.0, 10.0
"""How often a replica asks for promotions, and what it may take beyond that."""
TRAINED = "isolation_forest"
API = "/api/v1/anomalies"
NAMES = samples.healthy(10).feature_names


@dataclass
class Production:
    """Which version of the trained model is in Production, and since when."""

    moves: list[tuple[float, float, int]] = field(default_factory=list)
    """Begin and end of each promotion, and its version."""
    outages: list[tuple[float, float]] = field(default_factory=list)

    def allows(self, version: int, sent: float, answered: float) -> bool:
        """Return whether an answer by a version is right for a request of this time."""
        for (began, _, number), after in zip(self.moves, [*self.moves[1:], None], strict=True):
            if number != version or began > answered:
                continue
            # A replica that cannot ask goes on with what it has.
            until = float("inf") if after is None else after[1] + POLL_S + SLACK_S
            for begin, end in self.outages:
                if begin - POLL_S < until < end + POLL_S:
                    until = end + POLL_S + SLACK_S
            if sent <= until:
                return True
        return False


@dataclass
class Counts:
    """What clients have seen."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    answered: Counter[str] = field(default_factory=Counter)
    """Readings by asset."""
    statuses: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    versions: list[tuple[int, float, float, str]] = field(default_factory=list)
    """Of each answer the version, when it was asked for and came, and the replica."""
    one_ms: list[float] = field(default_factory=list)
    batch_ms: list[float] = field(default_factory=list)


class Replica:
    """One service, which can be killed and started again."""

    def __init__(self, name: str, settings: Settings):
        self.name, self.settings = name, settings
        self.url = f"http://127.0.0.1:{settings.port}"
        self.is_killed = threading.Event()
        self._stack = ExitStack()
        self.pid = 0

    def start(self) -> None:
        """Start it, and wait until it can answer."""
        command = [sys.executable, "-P", "-m", "vigie.cli", "serve"]
        variables = self.settings.variables(*Settings.model_fields)
        self.settings.state_dir.mkdir(exist_ok=True)
        log = self.settings.state_dir / "vigie.log"
        process = self._stack.enter_context(running(command, variables, log))
        await_health(f"Replica {self.name}", process, f"{self.url}{API}/health/ready", log)
        self.pid = process.pid
        self.is_killed.clear()

    def kill(self) -> None:
        """Kill it without a warning."""
        self.is_killed.set()
        os.kill(self.pid, signal.SIGKILL)
        self._stack.close()

    def stop(self) -> None:
        """Stop it as an operator does."""
        self._stack.close()

    @property
    def memory_mb(self) -> float:
        """The memory of its process, without its trainings."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the soak, and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("history", help="URL of an empty PostgreSQL database")
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vigie-soak-") as folder:
        _soak(Path(folder), given.history, 60.0 * given.minutes)


def _soak(folder: Path, history: str, seconds: float) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    production, counts = Production(), Counts()
    common = Settings(mlflow_tracking_uri=uri, history_url=history, registry_poll_s=POLL_S)
    registry = Registry(common.model_copy(update={"state_dir": folder / "mlflow"}), production)
    registry.start()
    _train_first(common.model_copy(update={"state_dir": folder / "first"}))
    production.moves.append((0.0, time.time(), 1))
    replicas = [
        Replica(name, common.model_copy(update={"state_dir": folder / name, "port": free_port()}))
        for name in ("a", "b")
    ]
    for replica in replicas:
        replica.start()
    ended, memory = threading.Event(), list[float]()
    jobs: Counter[str] = Counter()
    workers: list[Callable[[], None]] = [
        lambda: _every(KILL_EVERY_S, ended, lambda: _kill_and_start(replicas[1])),
        lambda: _train_and_promote(ended, replicas, production, jobs),
        lambda: _take_away_twice(ended, seconds, registry),
        lambda: _every(10.0, ended, lambda: memory.append(replicas[0].memory_mb)),
        *(_client(number, ended, replicas, counts) for number in range(N_CLIENTS)),
    ]
    threads = [threading.Thread(target=worker) for worker in workers]
    for thread in threads:
        thread.start()
    ended.wait(seconds)
    ended.set()
    for thread in threads:
        thread.join()
    for replica in replicas:
        replica.stop()
    registry.stop()
    _report(counts, production, jobs, memory, _lost(history, counts), seconds)


class Registry:
    """MLflow, which can be taken away."""

    def __init__(self, settings: Settings, production: Production):
        self._settings, self._production = settings, production
        self._stack = ExitStack()
        self._program: Program | None = None

    def start(self) -> None:
        """Start it, with the data that it had."""

        def note(program: Program) -> None:
            self._program = program

        self._stack.enter_context(mlflow_server(self._settings, note))

    def stop(self) -> None:
        """Stop it."""
        self._stack.close()

    def go_away(self, how: signal.Signals) -> None:
        """Be dead, or hang, for a minute."""
        assert self._program is not None
        began = time.time()
        # With its workers, which have the port.
        os.killpg(self._program.process.pid, how)
        time.sleep(AWAY_S)
        if how is signal.SIGSTOP:
            os.killpg(self._program.process.pid, signal.SIGCONT)
        else:
            self._stack.close()
            self.start()
        self._production.outages.append((began, time.time()))


def _train_first(settings: Settings) -> None:
    service = AnomalyDetectionService(settings)
    bench = samples.healthy(2000)
    service.train_all_models(bench.data, bench.feature_names, stage="Production")
    service.close()


def _every(period_s: float, ended: threading.Event, act: Callable[[], None]) -> None:
    while not ended.wait(period_s):
        act()


def _kill_and_start(replica: Replica) -> None:
    replica.kill()
    replica.start()


def _take_away_twice(ended: threading.Event, seconds: float, registry: Registry) -> None:
    """Take the registry away after a third of the time, and after two."""
    for how in (signal.SIGKILL, signal.SIGSTOP):
        if ended.wait(seconds / 3 if how is signal.SIGKILL else seconds / 3 - AWAY_S):
            return
        registry.go_away(how)


def _train_and_promote(
    ended: threading.Event,
    replicas: Sequence[Replica],
    production: Production,
    jobs: Counter[str],
) -> None:
    """Train over REST, now here and now there, and promote what comes of it."""
    for number in count(1):
        if ended.wait(TRAIN_EVERY_S):
            return
        replica, bench = replicas[number % 2], samples.healthy(2000, seed=number)
        with Client(replica.url) as client:
            try:
                job = client.train(
                    bench.data,
                    feature_names=bench.feature_names,
                    model_names=[TRAINED],
                    wait=False,
                )
                while not job.state.has_ended and not ended.wait(1.0):
                    # Its replica may be killed meanwhile; it knows the job when it is back.
                    with suppress(ServiceUnavailableError):
                        job = client.get_job(job)
                jobs[job.state] += 1
                newest = client.list_versions(TRAINED, limit=1)[0].version
                if newest == production.moves[-1][2]:
                    continue
                began = time.time()
                client.promote(TRAINED, newest, reason=f"Training {number} of the soak.")
            except VigieError as error:
                jobs[f"not promoted ({type(error).__name__})"] += 1
                continue
        production.moves.append((began, time.time(), newest))
        jobs["promoted"] += 1


def _client(
    number: int,
    ended: threading.Event,
    replicas: Sequence[Replica],
    counts: Counts,
) -> Callable[[], None]:
    """Return what sends the readings of a part of the assets, until the end."""
    assets = [f"asset-{asset}" for asset in range(number, N_ASSETS, N_CLIENTS)]
    rows = samples.healthy(5000, seed=1000 + number).data.tolist()

    def reading(asset: str, round_: int, time_: datetime) -> dict[str, Any]:
        row = rows[(17 * assets.index(asset) + round_) % len(rows)]
        features = dict(zip(NAMES, row, strict=True))
        return {"asset_id": asset, "timestamp": time_.isoformat(), "features": features}

    def run() -> None:
        turn = count(number)
        with ExitStack() as stack:
            clients = {
                replica.name: stack.enter_context(httpx.Client(base_url=replica.url, timeout=30.0))
                for replica in replicas
            }
            for round_ in count():
                began = time.monotonic()
                now = datetime.now(UTC)
                readings = [reading(asset, round_, now) for asset in assets]
                requests = _requests(readings)
                for done, (path, body) in enumerate(requests, 1):
                    _send(clients, replicas, next(turn), path, body, counts, ended)
                    if ended.wait(
                        max(0.0, began + PERIOD_S * done / len(requests) - time.monotonic())
                    ):
                        return

    return run


def _requests(readings: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    whole, rest = readings[:IN_A_BATCH], readings[IN_A_BATCH:]
    return [("detect/batch", whole), *(("detect", reading) for reading in rest)]


def _send(
    clients: dict[str, httpx.Client],
    replicas: Sequence[Replica],
    turn: int,
    path: str,
    body: Any,
    counts: Counts,
    ended: threading.Event,
) -> None:
    """Send readings to one replica after the other, until one answers."""
    for replica in islice((replicas[n % len(replicas)] for n in count(turn)), 40):
        sent, started = time.time(), time.perf_counter()
        try:
            answer = clients[replica.name].post(f"{API}/{path}", json=body)
        except httpx.TransportError as error:
            was_killed = replica.is_killed.is_set()
            kind = "of a killed replica" if was_killed else f"of {replica.name}: {error!r}"
            with counts.lock:
                counts.broken[kind] += 1
            if ended.wait(0.1):
                return
            continue
        took_ms = 1e3 * (time.perf_counter() - started)
        results = answer.json() if answer.is_success else []
        results = results if isinstance(results, list) else [results]
        with counts.lock:
            counts.statuses[str(answer.status_code)] += 1
            (counts.batch_ms if path == "detect/batch" else counts.one_ms).append(took_ms)
            for result in results:
                counts.answered[result["asset_id"]] += 1
                version = result["models"][TRAINED]["version"]
                counts.versions.append((version, sent, time.time(), replica.name))
        if answer.is_success:
            return
        if ended.wait(0.1):
            return


def _lost(history: str, counts: Counts) -> int:
    """Return how many of the readings that were answered are not in the history."""
    engine = create_engine(history)
    with engine.connect() as connection:
        query = text(
            "SELECT asset_id, count(*) FROM readings JOIN assets ON assets.id = asset "
            "GROUP BY asset_id"
        )
        stored = {asset: int(n) for asset, n in connection.execute(query)}
    engine.dispose()
    return sum(max(0, n - stored.get(asset, 0)) for asset, n in counts.answered.items())


def _report(
    counts: Counts,
    production: Production,
    jobs: Counter[str],
    memory: Sequence[float],
    n_lost: int,
    seconds: float,
) -> None:
    print(f"{seconds / 60:g} minutes on {figures.machine()}")
    print(f"answered: {sum(counts.answered.values())} readings of {len(counts.answered)} assets")
    print(f"lost: {n_lost}")
    wrong = [one for one in counts.versions if not production.allows(*one[:3])]
    print(f"wrong version: {len(wrong)} {wrong[:5] or ''}")
    print(f"answers by status: {dict(counts.statuses)}")
    print(f"broken connections: {dict(counts.broken)}")
    print(f"trainings: {dict(jobs)}; versions {[version for *_, version in production.moves]}")
    for what, times in (
        ("one reading", counts.one_ms),
        (f"batch of {IN_A_BATCH}", counts.batch_ms),
    ):
        if len(times) > 1:
            cuts = quantiles(times, n=100)
            print(f"{what}: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, max {max(times):.0f} ms")
    if len(memory) > 2:
        third = len(memory) // 3
        early, late = sorted(memory[third : 2 * third]), sorted(memory[2 * third :])
        print(
            f"memory of replica a: {memory[0]:.0f} MB at first, {early[len(early) // 2]:.0f} MB in "
            f"the second third, {late[len(late) // 2]:.0f} MB in the last (medians)"
        )


if __name__ == "__main__":
    main()
