"""One file from three file servers, beside other programs from the same servers or from a swarm of three."""
import os

import tools.floor
from harness.ddm import System
from harness.rounds import Ratio, Row
from harness.source import Source, verified

ROWS = {
    "download-3-servers": "A verified download from three servers, in memory",
    "download-3-servers-disk": "A verified download from three servers, on a disk",
}
BOUND = "bound: receive, hash, write"
SERVER_TOOLS = ["curl", "wget", "aria2"]
SWARM_TOOLS = ["libtorrent", "rqbit"]
TOOLS = [*SERVER_TOOLS, *SWARM_TOOLS, "coreutils", "floor"]


def measure(bench, name):
    durable = name.endswith("-disk")
    mib = bench.size(1024, 256)
    row = Row(name, ROWS[name])
    row.settings = {"file": f"{mib} MiB on {bench.file_system(durable)}"}
    row.columns = ["wall_s", "cpu_s", "user_s", "system_s", "rss_mib", "origin_mib", "waste"]
    with bench.folder(durable) as folder, System(bench.programs, folder / "ddm", 3) as system:
        plain = bench.random_file(folder / "plain", mib << 20)
        source = Source(system, plain, system.publish(plain, 3), folder / "out")
        contestants = verified(bench.tools["ddm"].downloads(source), source)
        for tool in SERVER_TOOLS:
            if bench.has(row, tool):
                contestants += verified(bench.tools[tool].downloads(source), source)
        if bench.has(row, "coreutils"):
            contestants.append(bench.tools["coreutils"].hashes(plain))
        if bench.has(row, "floor"):
            contestants += bench.tools["floor"].receives(source)
        for tool in SWARM_TOOLS:
            if bench.has(row, tool):
                contestants += verified(bench.tools[tool].downloads(source, system), source, counted=False)
        row.contest(contestants, bench.rounds)
    compare(row, durable)
    return row


def compare(row, durable):
    ours = "ddm-client"
    if durable:
        row.compare(Ratio("time, of curl's with a sync of the file", "wall_s", ours, "curl + sync"))
    else:
        row.compare(Ratio("time, of an unchecked curl's from one server", "wall_s", ours, "curl", at_most=0.92))
    for peer, limit in (("aria2 + SHA-256", 0.35), ("aria2 tuned + SHA-256", None)):
        row.compare(Ratio(f"time, of {peer}'s", "wall_s", ours, peer, at_most=limit))
    for peer in [name for name in row.samples if name.startswith(("libtorrent", "rqbit"))]:
        row.compare(Ratio(f"time, of the {peer} swarm's", "wall_s", ours, peer, at_most=0.5))
    row.compare(Ratio("CPU, of curl's and openssl dgst's together", "cpu_s", ours, ["curl", "openssl dgst"], at_most=1.1))
    add_bound(row)
    row.compare(Ratio("CPU, of the bound's", "cpu_s", ours, BOUND))
    row.compare(Ratio("time, of the bound's", "wall_s", ours, BOUND))
    row.compare(Ratio("memory in MiB", "rss_mib", ours, None, at_most=24))
    row.notes.append(
        "`part:` rows are no downloads. The bound adds their processor time and that of `openssl dgst`, and for its time the servers' too, spread"
        " over all cores without a gap. `curl`, `wget` and `aria2` without a check verify nothing."
    )


def add_bound(row):
    """Calculates the bound of each round from its parts."""
    parts = [row.samples.get(name, []) for name in (tools.floor.RECEIVE, tools.floor.WRITE, "openssl dgst")]
    for receive, write, hash in zip(*parts):
        if receive and write and hash:
            own = receive["cpu_s"] + write["cpu_s"] + hash["cpu_s"]
            bound = {"cpu_s": own, "wall_s": (own + receive["sending_cpu_s"]) / os.cpu_count()}
        else:
            bound = None
        row.samples.setdefault(BOUND, []).append(bound)
