"""Ranges of a cached file: one server pinned to one core, the generator to another."""
import http.client
import os

import tools.floor
import tools.nginx
from harness.command import Failed, peak_resident_mib
from harness.ddm import System
from harness.load import measured
from harness.rounds import Contestant, Ratio, Row

ROWS = {
    "serve-4m": "Ranges of 4 MiB over 4 connections, server and generator pinned to one core each",
    "serve-64k": "Ranges of 64 KiB over 64 connections, server and generator pinned to one core each",
}
TOOLS = ["floor", "nginx"]
NEEDS = ["wrk"]
SERVER_CORE, GENERATOR_CORE = 0, 1


def measure(bench, name):
    part, connections = (4 << 20, 4) if name == "serve-4m" else (64 << 10, 64)
    size, seconds = bench.size(1024, 256) << 20, bench.size(5, 2)
    row = Row(name, ROWS[name])
    row.settings = {"file": f"{size >> 20} MiB on {bench.memory_file_system()}", "seconds": seconds, "connections": connections}
    row.columns = ["gb_per_s", "requests_per_s", "cpu_us", "cpu_s_per_gb", "p50_ms", "p99_ms", "rss_mib"]
    if os.cpu_count() < 2:
        row.notes.append("Not measured: server and generator need a core each.")
        return row
    with bench.memory_folder() as folder, System(bench.programs, folder / "ddm", 1, pin=SERVER_CORE) as system:
        plain = bench.random_file(folder / "root" / "plain", size)
        file = system.publish(plain, 1)
        details = system.details(file)
        token, url = details["download"]["token"], details["locations"][0]["url"]
        settings = {"size": size, "part": part, "script": "ranges.lua"}
        contestants = [contestant("ddm-file-server", system.servers[0], url, seconds, connections, token=token, **settings)]
        if bench.has(row, "nginx"):
            for label, kind, http_settings in (("nginx, Debian's settings", "debian", tools.nginx.DEBIAN), ("nginx", "tuned", tools.nginx.TUNED)):
                server = tools.nginx.serve(system, folder / kind, plain.parent, http_settings, SERVER_CORE)
                contestants.append(contestant(label, server, server.url + "/plain", seconds, connections, how=http_settings, **settings))
        if bench.has(row, "floor"):
            floor = tools.floor.serve(system, folder / "floor", plain, part, SERVER_CORE)
            contestants.append(
                contestant("bound: one receive, one sendfile", floor, floor.url, seconds, connections, how="tools/floor/server.py", **settings)
            )
        for one in contestants:
            check_range(one.url, token, plain, part)
        row.contest(contestants, bench.rounds)
    bound = "bound: one receive, one sendfile"
    row.compare(Ratio("throughput, of the bound's", "gb_per_s", "ddm-file-server", bound))
    row.compare(Ratio("throughput, of nginx's with Debian's settings", "gb_per_s", "ddm-file-server", "nginx, Debian's settings"))
    if name == "serve-4m":
        row.compare(Ratio("throughput, of nginx's", "gb_per_s", "ddm-file-server", "nginx", at_least=1.1))
        row.compare(Ratio("CPU per GB, of nginx's", "cpu_s_per_gb", "ddm-file-server", "nginx", at_most=0.75))
    else:
        row.compare(Ratio("throughput, of nginx's", "gb_per_s", "ddm-file-server", "nginx"))
        row.compare(Ratio("CPU per request, of nginx's", "cpu_us", "ddm-file-server", "nginx", at_most=0.95))
    row.compare(Ratio("CPU per request, of the bound's", "cpu_us", "ddm-file-server", bound))
    return row


def contestant(name, server, url, seconds, connections, how="", **settings):
    def run():
        result, spent = measured({"server": server.pid}, url, seconds, connections, pin=GENERATOR_CORE, **settings)
        if result["bytes"] < result["requests"] * settings["part"]:
            raise Failed("answers were shorter than the ranges")
        gigabytes = result["bytes"] / 1e9
        return {
            "gb_per_s": gigabytes / result["seconds"],
            "requests_per_s": result["requests"] / result["seconds"],
            "cpu_us": spent["server"] / result["requests"] * 1e6,
            "cpu_s_per_gb": spent["server"] / gigabytes,
            "p50_ms": result["p50_ms"],
            "p99_ms": result["p99_ms"],
            "rss_mib": peak_resident_mib(server.pid),
        }

    one = Contestant(name, run, how or f"wrk -t1 -c{connections} -s ranges.lua")
    one.url = url
    return one


def check_range(url, token, plain, part):
    """Compares a range with the file: wrk does not look at bodies."""
    host, path = url.removeprefix("http://").split("/", 1)
    connection = http.client.HTTPConnection(host, timeout=30)
    size = plain.stat().st_size
    for start in (0, size - part):
        connection.request("GET", "/" + path, headers={"Authorization": f"Bearer {token}", "Range": f"bytes={start}-{start + part - 1}"})
        answer = connection.getresponse()
        with open(plain, "rb") as file:
            file.seek(start)
            if answer.status != 206 or answer.read() != file.read(part):
                raise Failed(f"{url}: wrong bytes at {start}, status {answer.status}")
    connection.close()
