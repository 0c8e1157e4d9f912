"""One of three servers fails in the middle of a download: what it costs beyond what the others need."""
import signal
import threading
import time

from harness.command import Failed, run
from harness.ddm import System
from harness.rounds import Contestant, Ratio, Row
from harness.source import Source

ROWS = {
    "server-killed": "One of three servers is killed midway",
    "server-paused": "One of three servers is stopped midway (SIGSTOP): it accepts connections and sends nothing",
    "server-slow": "One of three servers sends 125 kB/s from the start",
}
TOOLS = ["aria2"]
RATE, SLOW = 16 << 20, 125_000
FAILING = 2
TARGETS = {"server-killed": 1, "server-paused": 3, "server-slow": 1}


def measure(bench, name):
    size = bench.size(192, 64) << 20
    row = Row(name, ROWS[name])
    row.settings = {"file": f"{size >> 20} MiB on {bench.memory_file_system()}", "rate": f"{RATE >> 20} MiB/s of each server"}
    row.columns = ["beyond_s", "wall_s", "waste"]
    contestants = [contestant(bench, name, "ddm-client", size, "ddm-client -o OUT FILE")]
    if bench.has(row, "aria2"):
        for tool, options in bench.tools["aria2"].FAULTY.items():
            contestants.append(contestant(bench, name, tool, size, " ".join(["aria2c", *options, "--checksum=sha-256=HEX URL URL URL"])))
    row.contest(contestants, bench.rounds, warm_up=False)
    row.compare(Ratio("cost in seconds beyond the ideal of the two others", "beyond_s", "ddm-client", at_most=TARGETS[name]))
    for peer in row.samples:
        if peer != "ddm-client":
            row.compare(Ratio(f"time, of {peer}'s", "wall_s", "ddm-client", peer))
    row.notes.append(
        "The ideal is calculated: the time until the failure, and what was not sent then at the rate of the servers that are left. A server's"
        " limit lets a burst pass, therefore the cost can be below zero. A download that has not ended after 60 s (15 s with `--quick`) counts as"
        " failed. With its defaults aria2 opens one connection to a host: it uses one of the three servers, which need not be the one that fails."
    )
    return row


def contestant(bench, fault, tool, size, how):
    def run_once():
        rate = lambda n: ["--max-rate", SLOW if fault == "server-slow" and n == FAILING else RATE]
        # Each run has servers of its own: a limit remembers what it sent, and a killed server is gone.
        with bench.memory_folder() as folder, System(bench.programs, folder / "ddm", 3, server_args=rate) as system:
            plain = bench.random_file(folder / "plain", size)
            source = Source(system, plain, system.publish(plain, 3), folder / "out")
            command, options = command_of(bench, tool, source)
            injection = FaultInjection(system, fault, size)
            try:
                sample = run(command, timeout=bench.size(60, 15), **options)
            finally:
                injection.end()
            source.check()
            if fault == "server-slow":
                ideal = size / (2 * RATE)
            else:
                ideal = injection.at + max(size - injection.sent, 0) / (2 * RATE)
            # A killed server no longer says what it sent.
            left = system.content_bytes(system.servers[:FAILING] if fault == "server-killed" else None)
            lost = injection.sent_by_failing if fault == "server-killed" else 0
            return {"wall_s": sample["wall_s"], "beyond_s": sample["wall_s"] - ideal, "waste": (left + lost) / size - 1}

    return Contestant(tool, run_once, how)


def command_of(bench, tool, source):
    if tool == "ddm-client":
        return [source.system.programs / "ddm-client", "-q", "-f", "-o", source.out, source.file], {"env": source.system.client_env}
    return bench.tools["aria2"].faulty_downloads(source)[tool], {}


class FaultInjection:
    """Lets the third server fail when half of the file has been sent."""

    def __init__(self, system, fault, size):
        self.system, self.fault, self.size = system, fault, size
        self.failing, self.begun = system.servers[FAILING], time.perf_counter()
        self.at = self.sent = self.sent_by_failing = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        if fault != "server-slow":
            self.thread.start()

    def watch(self):
        while not self.over.wait(0.02):
            self.sent = self.system.content_bytes()
            if self.sent >= self.size / 2:
                break
        else:
            return
        self.sent_by_failing = self.system.content_bytes([self.failing])
        self.failing.process.send_signal(signal.SIGKILL if self.fault == "server-killed" else signal.SIGSTOP)
        self.at = time.perf_counter() - self.begun

    def end(self):
        self.over.set()
        if self.thread.ident:
            self.thread.join()
        if self.fault == "server-paused":
            self.failing.process.send_signal(signal.SIGCONT)
        if self.fault != "server-slow" and not self.at:
            raise Failed("the download ended before the failure")
