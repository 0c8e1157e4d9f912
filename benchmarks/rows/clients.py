"""Fifty clients at once."""
import concurrent.futures
import time

from harness.command import Failed, percentile, run
from harness.ddm import System
from harness.rounds import Contestant, Ratio, Row
from harness.source import Source, sha256_of

ROWS = {"clients-50": "Fifty clients download one file at the same time from three servers"}
TOOLS = ["curl"]
CLIENTS = 50


def measure(bench, name):
    mib = bench.size(64, 8)
    row = Row(name, ROWS[name], settings={"file": f"{mib} MiB for each client, on {bench.memory_file_system()}"})
    row.columns = ["all_done_s", "p50_s", "p99_s", "unfairness", "gb_per_s"]
    with bench.memory_folder() as folder, System(bench.programs, folder / "ddm", 3) as system:
        plain = bench.random_file(folder / "plain", mib << 20)
        source = Source(system, plain, system.publish(plain, 3), folder / "out")
        ours = lambda out: [system.programs / "ddm-client", "-q", "-f", "-o", out, source.file]
        contestants = [clients_at_once("ddm-client", source, folder, ours)]
        if bench.has(row, "curl"):
            spread = lambda out: ["curl", "-sf", "-H", source.header, "-o", out, source.urls[hash(out) % 3]]
            contestants.append(clients_at_once("curl", source, folder, spread))
        row.contest(contestants, bench.rounds, warm_up=False)
    row.compare(Ratio("p99 ÷ p50 of the clients' times", "unfairness", "ddm-client", at_most=1.2))
    row.compare(Ratio("time until all are done, of unchecked curls' from one server each", "all_done_s", "ddm-client", "curl"))
    return row


def clients_at_once(name, source, folder, command_for):
    outs = [folder / f"out-{n}" for n in range(CLIENTS)]

    def run_all():
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            begun = time.perf_counter()
            samples = list(pool.map(lambda out: run(command_for(out), env=source.system.client_env, cwd=folder), outs))
            took = time.perf_counter() - begun
        try:
            if any(sha256_of(out) != source.sha256 for out in outs):
                raise Failed("wrong bytes")
        finally:
            for out in outs:
                out.unlink(missing_ok=True)
        walls = [sample["wall_s"] for sample in samples]
        p50, p99 = percentile(walls, 50), percentile(walls, 99)
        return {"all_done_s": took, "p50_s": p50, "p99_s": p99, "unfairness": p99 / p50, "gb_per_s": CLIENTS * source.size / 1e9 / took}

    return Contestant(name, run_all)
