"""A large catalogue beside a small one: each kind of request, one after the other, while all servers send heartbeats."""
import http.client
import json
import os
import time

from harness.command import Failed, peak_resident_mib, percentile
from harness.ddm import System
from harness.fleet import Fleet, fill, sample_ids
from harness.rounds import Contestant, Ratio, Row

ROWS = {"placement": "Announcing, describing and searching files in a large catalogue with many servers"}
TOOLS = []
SYNC = "bound: append and sync 4 KiB"
SMALL_FILES, SMALL_SERVERS = 50, 3
PLACEMENT = "announce a file, synced"
QUESTIONS = {
    "list, 50 files": "/v1/files?limit=50",
    "details without a grant": "/v1/files/{id}?grant=false",
    "details with a grant, synced": "/v1/files/{id}",
    "replicas": "/v1/files/{id}/replicas",
    PLACEMENT: "/v1/files",
    "search: a part of one name": "/v1/files?limit=50&q=0000033.",
    "search: a part of a quarter of the names": "/v1/files?limit=50&q=-south-",
    "search: a part of no name": "/v1/files?limit=50&q=nowhere",
    "search: two letters of no name": "/v1/files?limit=50&q=qq",
}


def measure(bench, name):
    servers, files = bench.size(1000, 100), bench.size(1_000_000, 20_000)
    requests = bench.size(400, 100)
    row = Row(name, ROWS[name])
    row.settings = {
        "data": f"on {bench.file_system(True)}", "small": f"{SMALL_SERVERS} servers and {SMALL_FILES} files",
        "large": f"{servers:,} servers and {files:,} files", "requests": f"{requests} of each kind in a round",
    }
    row.columns = ["p50_ms", "p99_ms"]
    with bench.folder(True) as folder, \
            Catalogue(bench.programs, folder / "small", SMALL_SERVERS, SMALL_FILES) as small, \
            Catalogue(bench.programs, folder / "large", servers, files) as large:
        contestants = [Contestant(SYNC, lambda: latencies(lambda n: sync_once(folder / "synced"), requests), "write, fdatasync")]
        for question, path in QUESTIONS.items():
            for size, side in (("small", small), ("large", large)):
                contestants.append(Contestant(f"{question}, {size}", side.asking(path, requests), path))
        row.contest(contestants, bench.rounds, warm_up=False)
        for size, side in (("small", small), ("large", large)):
            row.notes.append(
                f"The {size} catalogue: info-server at most {peak_resident_mib(side.info.pid):.0f} MiB;"
                f" {side.fleet.sent} heartbeats, {side.fleet.failed} failed, those during its restart among them."
            )
    add_cost_of_placement(row)
    return row


def add_cost_of_placement(row):
    """Adds the time of an announcement beyond that of a sync, from all rounds together."""
    for size in ("small", "large"):
        samples = row.samples[f"{PLACEMENT}, {size}"]
        for sample, sync in zip(samples, row.samples[SYNC]):
            if sample and sync:
                sample["beyond_sync_ms"] = sample["p99_ms"] - sync["p99_ms"]
    row.columns.append("beyond_sync_ms")
    row.compare(Ratio("p99 of an announcement beyond that of a sync, ms", "beyond_sync_ms", f"{PLACEMENT}, large", at_most=5))
    for question in QUESTIONS:
        row.compare(Ratio(f"p99 of {question}, large ÷ small", "p99_ms", f"{question}, large", f"{question}, small"))


class Catalogue(System):
    """A system of simulated servers with a filled catalogue."""

    def __init__(self, programs, folder, servers, files):
        super().__init__(programs, folder, 0)
        try:
            self.fleet = Fleet(self, servers)
            self.callback(self.fleet.close)
            fill(self, files)
            self.ids = sample_ids(self, 1200)
        except BaseException:
            self.close()
            raise

    def asking(self, path, requests):
        def run_once():
            connection = http.client.HTTPConnection(self.info_address, timeout=60)
            try:
                return latencies(lambda n: self.ask(connection, path, n), requests)
            finally:
                connection.close()

        return run_once

    def ask(self, connection, path, n):
        headers, body = {"Authorization": f"Bearer {self.session}"}, None
        if path == "/v1/files":
            body = json.dumps({"name": "fresh.bin", "size": 1000, "policy": {"replicas": 3}, "quorum": 2})
            headers["Content-Type"] = "application/json"
        connection.request("POST" if body else "GET", path.replace("{id}", self.ids[n % len(self.ids)]), body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status >= 300:
            raise Failed(f"{path}: {answer.status}")


def latencies(ask, count):
    times = []
    for n in range(count):
        begun = time.perf_counter()
        ask(n)
        times.append((time.perf_counter() - begun) * 1e3)
    return {"p50_ms": percentile(times, 50), "p99_ms": percentile(times, 99)}


def sync_once(path):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, bytes(4096))
    os.fdatasync(descriptor)
    os.close(descriptor)
