"""libtorrent: a swarm of three seeds and one downloader on this machine."""
from pathlib import Path

from harness.command import output_of, run
from harness.ddm import Process
from harness.rounds import Contestant

PACKAGES = {"/usr/lib/python3/dist-packages/libtorrent.cpython-311-x86_64-linux-gnu.so": "python3-libtorrent"}
PYTHON = "/usr/bin/python3"
PEER = Path(__file__).with_name("peer.py")
SEEDS = 3


def version():
    return output_of(PYTHON, "-c", "import libtorrent; print(libtorrent.__version__)").strip()


def make_torrent(plain, kind):
    """Makes a torrent of a file with SHA-1 pieces (v1) or SHA-256 pieces (v2) beside it."""
    torrent = plain.with_name(f"{plain.name}-{kind}.torrent")
    if not torrent.exists():
        output_of(PYTHON, PEER, "make", kind, plain, torrent)
    return torrent


def downloads(source, stack):
    return [
        swarm(source, stack, "default", "v1", "default settings, SHA-1 pieces"),
        swarm(source, stack, "tuned", "v2", "high_performance_seed, TCP alone, long request queues; SHA-256 pieces"),
    ]


def swarm(source, stack, setting, kind, how):
    torrent = make_torrent(source.plain, kind)
    seed = [PYTHON, PEER, "seed", setting, torrent, source.plain.parent]
    seeds = [Process(seed, torrent.with_suffix(f".{n}")) for n in range(SEEDS)]
    for process in seeds:
        stack.callback(process.stop)
    ports = [process.address().rsplit(":", 1)[1] for process in seeds]
    command = [PYTHON, PEER, "get", setting, torrent, source.out, *ports]
    return Contestant(f"libtorrent {setting}", lambda: run(command), how)
