"""Curves: what happens to rate, time and memory when one quantity grows."""
import concurrent.futures
import socket
import time

from harness.command import Failed, percentile, peak_resident_mib, run
from harness.ddm import System, request
from harness.fleet import Fleet, fill, sample_ids
from harness.load import wrk
from harness.rounds import Contestant, Ratio, Row
from harness.source import Source, sha256_of

ROWS = {
    "idle-connections": "Response time of the info-server with idle sockets on its listener",
    "growth-connections": "Ranges of 64 KiB by connections",
    "growth-servers": "A verified download by number of file servers",
    "growth-clients": "Clients at the same time, from three servers",
    "growth-files": "Details queries and the list by number of files in the catalogue",
    "growth-size": "Download time by size",
}
TOOLS = []
PACKAGES = {"wrk": "wrk"}


def measure(bench, name):
    row = Row(name, ROWS[name])
    globals()[name.replace("-", "_")](bench, row)
    return row


def curve(row, x, y, metric, points, log=True):
    """Adds a curve of one metric; `points` maps the name of a contestant to its place on the axis."""
    series = [[at, row.median(name, metric)] for name, at in points.items() if row.figures(name, metric)]
    row.curves.append({"title": f"{row.title}: {y}", "x": x, "y": y, "log": log, "series": {"ddm": series}})


def growth_connections(bench, row):
    counts = [1, 4, 16, 64, 256, 1000]
    seconds, size = 1 if bench.quick else 3, 256 << 20
    row.settings = {"file": f"{size >> 20} MiB on {bench.memory_file_system()}", "seconds": seconds}
    row.columns = ["requests_per_s", "p50_ms", "p99_ms", "rss_mib"]
    with bench.memory_folder() as folder, System(bench.programs, folder / "ddm", 1) as system:
        plain = bench.random_file(folder / "plain", size)
        source = Source(system, plain, system.publish(plain, 1), folder / "out")
        server = system.servers[0]

        def load(count):
            result = wrk(source.urls[0], seconds, count, script="ranges.lua", size=size, part=64 << 10, token=source.token)
            return {
                "requests_per_s": result["requests"] / result["seconds"], "p50_ms": result["p50_ms"], "p99_ms": result["p99_ms"],
                "rss_mib": peak_resident_mib(server.pid),
            }

        row.contest([Contestant(f"{count} connections", lambda count=count: load(count)) for count in counts], bench.rounds, warm_up=False)
        open_idle = [socket.create_connection(server.address().split(":"), timeout=30) for _ in range(1000)]
        row.contest([Contestant("100 connections beside 1000 idle ones", lambda: load(100))], bench.rounds, warm_up=False)
        for peer in open_idle:
            peer.close()
    points = {f"{count} connections": count for count in counts}
    curve(row, "connections", "requests a second", "requests_per_s", points)
    curve(row, "connections", "p99 in ms", "p99_ms", points)
    row.notes.append("The memory is the peak of the one server until then: it includes the counts measured before, in shuffled order.")


def growth_servers(bench, row):
    counts, mib = ([1, 2, 4, 8] if bench.quick else [1, 2, 4, 8, 16, 32]), bench.size(64, 16)
    row.settings = {"file": f"{mib} MiB on {bench.memory_file_system()}"}
    row.columns = ["wall_s", "cpu_s", "rss_mib"]
    with bench.memory_folder() as folder, System(bench.programs, folder / "ddm", max(counts)) as system:
        plain = bench.random_file(folder / "plain", mib << 20)
        contestants = []
        for count in counts:
            source = Source(system, plain, system.publish(plain, count), folder / f"out-{count}")
            contestants.append(Contestant(f"{count} servers", downloading(system, source)))
        row.contest(contestants, bench.rounds)
    curve(row, "file servers", "seconds", "wall_s", {f"{count} servers": count for count in counts})


def downloading(system, source):
    command = [system.programs / "ddm-client", "-q", "-f", "-o", source.out, source.file]

    def run_once():
        source.clear()
        sample = run(command, env=system.client_env)
        source.check()
        source.clear()
        return sample

    return run_once


def growth_clients(bench, row):
    counts, mib = [1, 3, 10, 30, 100], bench.size(16, 4)
    row.settings = {"file": f"{mib} MiB for each client, on {bench.memory_file_system()}"}
    row.columns = ["all_done_s", "p50_s", "p99_s", "gb_per_s"]
    with bench.memory_folder() as folder, System(bench.programs, folder / "ddm", 3) as system:
        plain = bench.random_file(folder / "plain", mib << 20)
        source = Source(system, plain, system.publish(plain, 3), folder / "out")

        def clients_at_once(count):
            outs = [folder / f"out-{n}" for n in range(count)]
            start = lambda out: run([system.programs / "ddm-client", "-q", "-f", "-o", out, source.file], env=system.client_env, cwd=folder)
            with concurrent.futures.ThreadPoolExecutor(count) as pool:
                begun = time.perf_counter()
                walls = [sample["wall_s"] for sample in pool.map(start, outs)]
                took = time.perf_counter() - begun
            if any(sha256_of(out) != source.sha256 for out in outs):
                raise Failed("wrong bytes")
            for out in outs:
                out.unlink()
            return {"all_done_s": took, "p50_s": percentile(walls, 50), "p99_s": percentile(walls, 99), "gb_per_s": count * source.size / 1e9 / took}

        row.contest([Contestant(f"{count} clients", lambda count=count: clients_at_once(count)) for count in counts], bench.rounds, warm_up=False)
    points = {f"{count} clients": count for count in counts}
    curve(row, "clients", "GB/s together", "gb_per_s", points)
    curve(row, "clients", "p99 in seconds", "p99_s", points)


def growth_files(bench, row):
    counts = [1000, 10_000] if bench.quick else [1000, 10_000, 100_000, 1_000_000]
    seconds = 1 if bench.quick else 5
    row.settings = {"data": f"on {bench.file_system(True)}", "connections": 64, "seconds": seconds}
    row.columns = ["requests_per_s", "p99_ms", "list_ms", "search_ms", "rss_mib"]
    for count in counts:
        with bench.folder(True) as folder, System(bench.programs, folder / "ddm", 0) as system:
            fleet = Fleet(system, 3)
            system.callback(fleet.close)
            fill(system, count)
            ids = folder / "ids"
            ids.write_text("\n".join(sample_ids(system, 65_536)) + "\n")

            def load():
                result = wrk(system.info_url, seconds, 64, script="details.lua", ids=ids, token=system.session, query="?grant=false")
                begun = time.perf_counter()
                system.get("/v1/files?limit=50")
                listed = time.perf_counter()
                system.get("/v1/files?limit=50&q=qq")
                return {
                    "requests_per_s": result["requests"] / result["seconds"], "p99_ms": result["p99_ms"], "list_ms": (listed - begun) * 1e3,
                    "search_ms": (time.perf_counter() - listed) * 1e3, "rss_mib": peak_resident_mib(system.info.pid),
                }

            row.contest([Contestant(f"{count:,} files", load)], bench.rounds)
    points = {f"{count:,} files": count for count in counts}
    metrics = {"requests_per_s": "details queries a second", "search_ms": "search for two letters of no name, ms", "rss_mib": "MiB of the info-server"}
    for metric, y in metrics.items():
        curve(row, "files", y, metric, points)


def growth_size(bench, row):
    sizes = [1, 4, 16, 64, 256] + ([] if bench.quick else [1024, 4096])
    row.settings = {"file": f"on {bench.memory_file_system()}"}
    row.columns = ["wall_s", "mib_per_s", "cpu_s", "rss_mib"]
    for mib in sizes:
        # Each size alone: a machine's memory holds few copies of the largest.
        with bench.memory_folder() as folder, System(bench.programs, folder / "ddm", 3) as system:
            plain = bench.random_file(folder / "plain", mib << 20)
            source = Source(system, plain, system.publish(plain, 1 if mib > 1024 else 3), folder / "out")
            download = downloading(system, source)

            def timed():
                sample = download()
                return {**sample, "mib_per_s": mib / sample["wall_s"]}

            row.contest([Contestant(f"{mib:,} MiB", timed)], bench.rounds)
    points = {f"{mib:,} MiB": mib for mib in sizes}
    curve(row, "MiB", "MiB/s", "mib_per_s", points)
    curve(row, "MiB", "memory of the client in MiB", "rss_mib", points)


def idle_connections(bench, row):
    sockets, requests = 2000, bench.size(2000, 300)
    row.settings = {"requests": f"{requests}, each on a connection of its own", "idle": f"{sockets} sockets: half a head, idle, silent"}
    row.columns = ["p50_ms", "p99_ms"]
    with bench.memory_folder() as folder, System(bench.programs, folder / "ddm", 0) as system:
        host, port = system.info_address.split(":")
        address = host, int(port)

        def ask():
            times = []
            for _ in range(requests):
                begun = time.perf_counter()
                request(system.info_address, "GET", "/livez", None, parse=False)
                times.append((time.perf_counter() - begun) * 1e3)
            return {"p50_ms": percentile(times, 50), "p99_ms": percentile(times, 99)}

        def ask_beside_idle_sockets():
            idle = [idle_socket(address, n) for n in range(sockets)]
            try:
                return ask()
            finally:
                for peer in idle:
                    peer.close()

        row.contest([Contestant("no other socket", ask), Contestant(f"{sockets} idle sockets", ask_beside_idle_sockets)], bench.rounds)
    row.compare(Ratio("p99, of that without idle sockets", "p99_ms", f"{sockets} idle sockets", "no other socket"))
    row.compare(Ratio("p99 in ms", "p99_ms", f"{sockets} idle sockets", at_most=1000))


def idle_socket(address, n):
    """Opens a connection: a third has sent half a head, a third idles after an answer, a third has sent nothing."""
    peer = socket.create_connection(address, timeout=30)
    if n % 3 < 2:
        peer.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n" + (b"\r\n" if n % 3 else b""))
    if n % 3 == 1 and not peer.recv(4096).startswith(b"HTTP/1.1 200"):
        raise Failed("no answer before it idles")
    return peer
