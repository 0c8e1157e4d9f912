"""Fetching a URL by workers with limited links, and replication over a limited link, in network namespaces."""
import os
import re

from harness.command import Failed, output_of
from harness.packages import example
from harness.rounds import Ratio, Row

ROWS = {
    "url-by-workers": "A URL fetched jointly by workers whose links are limited (needs root)",
    "replication": "Replication to a second zone of three servers over a limited link (needs root)",
}
TOOLS = []
PACKAGES = {"ip": "iproute2", "/usr/sbin/iptables": "iptables"}


def measure(bench, name):
    row = Row(name, ROWS[name])
    if os.geteuid() != 0:
        row.notes.append("Not measured: network namespaces need root.")
        return row
    return workers(bench, row) if name == "url-by-workers" else replication(bench, row)


def workers(bench, row):
    mib, mbit, counts = bench.size(256, 32), bench.size(50, 100), [1, 2, 3] if bench.quick else [1, 2, 3, 8]
    row.settings = {"file": f"{mib} MiB", "link": f"{mbit} Mbit/s of each worker"}
    row.columns = ["wall_s", "speed_up", "origin_ratio", "of_the_bound"]
    program = example(bench.programs, "together")

    def run_once():
        # One run measures all counts, so that a speed-up is that of one round.
        return parse_workers(output_of(program, mib, mbit, *counts, timeout=900), mib, mbit)

    collect(row, run_once, bench.size(bench.rounds, 1))
    row.compare(Ratio("speed-up with 3 workers", "speed_up", "3 workers", at_least=2.8))
    row.compare(Ratio("bytes from the origin ÷ file, 3 workers", "origin_ratio", "3 workers", at_most=1.02))
    row.compare(Ratio("time to the end after a kill, of the ideal with two", "of_the_bound", "one of 3 killed midway"))
    points = [[count, row.median(f"{count} workers", "speed_up")] for count in counts if row.figures(f"{count} workers", "speed_up")]
    row.curves.append({
        "title": "Speed-up by workers", "x": "workers", "y": "times one worker",
        "series": {"measured": points, "bound: the links": [[count, count] for count in counts]},
    })
    return row


def parse_workers(text, mib, mbit):
    found = {}
    for count, wall, speed_up, origin in re.findall(r"^\| (\d+) \| ([\d.]+) s \| [^|]* \| ([\d.]+) \| ([\d.]+) \|", text, re.M):
        bound = mib * 8 * 1.048576 / (mbit * int(count))
        found[f"{count} workers"] = {
            "wall_s": float(wall), "speed_up": float(speed_up), "origin_ratio": float(origin), "of_the_bound": float(wall) / bound,
        }
    killed = re.search(r"one of three killed .*: ([\d.]+) s to the end, ([\d.]+) x", text)
    if not found or not killed:
        raise Failed(f"unexpected output: {text[-300:]}")
    found["one of 3 killed midway"] = {"wall_s": float(killed[1]), "of_the_bound": float(killed[2])}
    return found


def collect(row, run_once, rounds):
    """Runs a program that measures several things at once, and gives each a line of its own."""
    failed = []
    for n in range(rounds):
        try:
            for name, sample in run_once().items():
                row.samples.setdefault(name, []).append(sample)
        except Failed as error:
            failed.append(str(error))
        print(f"  {row.name}: round {n + 1} of {rounds}", flush=True)
    if failed:
        row.failures["the measuring program"] = failed


def replication(bench, row):
    mib, mbit = bench.size(512, 64), 200
    row.settings = {"file": f"{mib} MiB on {bench.file_system(True)}", "link": f"{mbit} Mbit/s, shared by three servers"}
    row.columns = ["share_of_link", "share_of_link_all", "link_bytes_ratio", "passed_on_s", "healed_s"]
    program = example(bench.programs, "replication")
    patterns = {
        "share_of_link": r"rate: ([\d.]+) to the first", "share_of_link_all": r"first, ([\d.]+) to all",
        "link_bytes_ratio": r"crossed the link: ([\d.]+)", "passed_on_s": r"passed on ([-\d.]+) s", "healed_s": r"healed ([\d.]+) s",
    }

    def run_once():
        text = output_of(program, mib, mbit, timeout=900)
        return {"file servers": {metric: float(found[1]) for metric, pattern in patterns.items() if (found := re.search(pattern, text))}}

    collect(row, run_once, bench.size(bench.rounds, 1))
    row.compare(Ratio("bytes over the link ÷ file", "link_bytes_ratio", "file servers"))
    row.compare(Ratio("share of the link's rate", "share_of_link", "file servers"))
    return row
