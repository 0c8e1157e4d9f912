"""Details queries: grants that are durable, confirmed and stored on three servers, and reads without a grant."""
import json

import harness.broker
import tools.nginx
from harness.command import peak_resident_mib, percentile
from harness.ddm import System
from harness.fleet import Fleet, fill, sample_ids
from harness.load import measured
from harness.rounds import Contestant, Ratio, Row
from rows.stored_tokens import Probe, time_until_stored

ROWS = {
    "grants": "Details queries with a grant: durable, confirmed by RabbitMQ, stored on three servers, all on these cores",
    "details-no-grant": "Details queries without a grant on a large catalogue",
}
TOOLS = ["nginx"]
PACKAGES = {"wrk": "wrk", **harness.broker.PACKAGES}
CONNECTIONS = 128
BOUND = "bound: nginx, one answer from memory"
INFO, HALF = "ddm-info-server", "ddm-info-server, half load"


def measure(bench, name):
    return grants(bench) if name == "grants" else reads(bench)


def grants(bench):
    seconds = 4 if bench.quick else 30
    row = Row("grants", ROWS["grants"])
    row.settings = {"data": f"on {bench.file_system(True)}", "connections": CONNECTIONS, "seconds": seconds}
    row.columns = [
        "requests_per_s", "p50_ms", "p99_ms", "info_cpu_us", "servers_cpu_us", "broker_cpu_us", "usable_p50_ms", "usable_p99_ms", "stored_s",
    ]
    bench.versions["rabbitmq-server"] = harness.broker.version()
    with bench.folder(True) as folder:
        broker = harness.broker.Broker(folder / "broker")
        try:
            with System(bench.programs, folder / "ddm", 3, amqp=broker.uri) as system:
                file = system.publish(bench.random_file(folder / "plain", 1000), 3)
                (folder / "ids").write_text(file + "\n")
                full = grant_load(system, broker, folder / "ids", seconds)
                rate = full()["requests_per_s"]
                half = grant_load(system, broker, folder / "ids", seconds, pause_ms=round(CONNECTIONS / (rate / 2) * 1e3))
                row.contest([Contestant(INFO, full, "wrk -t1 -c128, as fast as answers come"),
                             Contestant(HALF, half, "the same with pauses")], bench.rounds, warm_up=False)
        finally:
            broker.close()
    row.compare(Ratio("grants a second", "requests_per_s", INFO, at_least=5000))
    row.compare(Ratio("CPU of the info-server, µs a grant", "info_cpu_us", INFO, at_most=80))
    row.compare(Ratio("p99 at half load, ms", "p99_ms", HALF, at_most=50))
    row.compare(Ratio("usable everywhere after the answer at half load, p99 in ms", "usable_p99_ms", HALF, at_most=50))
    row.compare(Ratio("last tokens stored on three servers, s after the last answer", "stored_s", INFO, at_most=1))
    return row


def grant_load(system, broker, ids, seconds, **settings):
    pids = {"info": system.info.pid, "broker": broker.pid, **{f"server-{n}": server.pid for n, server in enumerate(system.servers)}}
    file = ids.read_text().strip()

    def run_once():
        with Probe(system, file) as probe:
            result, spent = measured(pids, system.info_url, seconds, CONNECTIONS, script="details.lua", token=system.session, ids=ids, **settings)
        stored = time_until_stored(system, file)
        count = result["requests"] + len(probe.waits)
        return {
            "requests_per_s": result["requests"] / result["seconds"], "p50_ms": result["p50_ms"], "p99_ms": result["p99_ms"],
            "info_cpu_us": spent["info"] / count * 1e6, "broker_cpu_us": spent["broker"] / count * 1e6,
            "servers_cpu_us": sum(spent[f"server-{n}"] for n in range(3)) / count * 1e6,
            "usable_p50_ms": percentile(probe.waits, 50) * 1e3, "usable_p99_ms": percentile(probe.waits, 99) * 1e3, "stored_s": stored,
        }

    return run_once


def answered(server, url, seconds, **settings):
    result, spent = measured({"server": server.pid}, url, seconds, CONNECTIONS, script="details.lua", **settings)
    return {
        "requests_per_s": result["requests"] / result["seconds"], "p50_ms": result["p50_ms"], "p99_ms": result["p99_ms"],
        "cpu_us": spent["server"] / result["requests"] * 1e6, "rss_mib": peak_resident_mib(server.pid),
    }


def reads(bench):
    files, seconds = bench.size(1_000_000, 20_000), bench.size(10, 3)
    row = Row("details-no-grant", ROWS["details-no-grant"])
    row.settings = {"catalogue": f"{files:,} files on {bench.file_system(True)}", "connections": CONNECTIONS, "seconds": seconds}
    row.columns = ["requests_per_s", "p50_ms", "p99_ms", "cpu_us", "rss_mib"]
    with bench.folder(True) as folder, System(bench.programs, folder / "ddm", 0) as system:
        fleet = Fleet(system, 3)
        system.callback(fleet.close)
        fill(system, files)
        ids = folder / "ids"
        ids.write_text("\n".join(sample_ids(system, 65_536)) + "\n")
        load = lambda server, url, **settings: lambda: answered(server, url, seconds, ids=ids, token=system.session, **settings)
        query = {"query": "?grant=false"}
        contestants = [
            Contestant(f"{INFO}, uniform", load(system.info, system.info_url, **query), "wrk -t1 -c128"),
            Contestant(f"{INFO}, Zipf", load(system.info, system.info_url, zipf=1, **query), "the same, the r-th file with weight 1/r"),
        ]
        if bench.has(row, "nginx"):
            body = json.dumps(system.details(ids.read_text().split("\n")[0], grant=False), separators=(",", ":"))
            answer = f"default_type application/json; return 200 '{body}';"
            server = tools.nginx.serve(system, folder / "nginx", folder, tools.nginx.TUNED, location=answer)
            contestants.append(Contestant(BOUND, load(server, server.url), "return 200 with the body of one such answer"))
        row.contest(contestants, bench.rounds)
    row.compare(Ratio("reads a second, uniform", "requests_per_s", f"{INFO}, uniform", at_least=20_000))
    row.compare(Ratio("reads a second, Zipf", "requests_per_s", f"{INFO}, Zipf", at_least=20_000))
    row.compare(Ratio("reads a second, of the bound's", "requests_per_s", f"{INFO}, uniform", BOUND))
    return row
