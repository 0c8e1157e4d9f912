"""Physical bounds: the least system calls that the same work takes, without a protocol, rights or a check."""
import socket
import sys
from pathlib import Path

from harness.command import processor_seconds, run, wait_until
from harness.ddm import Process
from harness.rounds import Contestant

PACKAGES = {"python3": "python3"}
RECEIVE, WRITE = "part: receive only", "part: write only"
SERVER = Path(__file__).with_name("server.py")


def version():
    return "python " + sys.version.split()[0]


def serve(stack, folder, path, part, pin=None):
    """Starts a server that answers every request with `part` bytes by one sendfile."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    before = ["taskset", "-c", str(pin)] if pin is not None else []
    process = Process([*before, "/usr/bin/python3", SERVER, path, part], folder / "log")
    stack.callback(process.stop)
    process.url = f"http://{process.address()}/"
    wait_until("it listens", lambda: socket.create_connection(process.address().split(":"), timeout=1).close() or True)
    return process


def receives(source):
    """Returns contestants whose processor time, and that of hashing, add up to the least that a verified download takes."""
    receive = ["curl", "-sf", "-H", source.header, "-o", "/dev/null", source.urls[0]]
    write = ["cp", "--reflink=never", source.plain, source.out]

    def receive_only():
        servers = [server.pid for server in source.system.servers]
        before = sum(map(processor_seconds, servers))
        sample = run(receive)
        return {**sample, "sending_cpu_s": sum(map(processor_seconds, servers)) - before}

    return [
        Contestant(RECEIVE, receive_only, "curl -sf -o /dev/null URL"),
        Contestant(WRITE, lambda: run(write), "cp FILE OUT"),
    ]
