"""rqbit: a swarm of three seeds and one downloader on this machine; built from the Rust registry."""
import tools.libtorrent
from harness.broker import free_port
from harness.command import Failed, output_of, run, wait_until
from harness import packages
from harness.ddm import Process
from harness.rounds import Contestant

# Makes the torrent.
PACKAGES = tools.libtorrent.PACKAGES
VERSION = "9.1.0"
# Alone on this machine: nobody else is looked for.
ALONE = ["--disable-dht", "--disable-lsd", "--disable-trackers", "--disable-upnp-port-forward", "--listen-ip", "127.0.0.1", "-v", "warn"]
program = None


def prepare():
    global program
    program = packages.install_crate("rqbit", VERSION, "--no-default-features", "--features", "rust-tls")


def version():
    if program is None:
        raise Failed(f"rqbit {VERSION} is not built from the registry")
    return output_of(program, "--version").split()[-1]


def downloads(source, stack):
    torrent = tools.libtorrent.make_torrent(source.plain, "v1")
    ports = [free_port() for _ in range(tools.libtorrent.SEEDS)]
    for port in ports:
        seed = [program, *ALONE, "--listen-port", port, "download", "--disable-http-api", "--overwrite", "-o", source.plain.parent, torrent]
        process = Process(seed, torrent.with_suffix(f".{port}"))
        stack.callback(process.stop)
        wait_until("a seed listens", lambda: listens(port))
    folder = source.out.with_name(source.out.name + ".swarm")
    peers = ",".join(f"127.0.0.1:{port}" for port in ports)
    own = [program, *ALONE, "download", "--disable-http-api", "-e", "--initial-peers", peers, "-o", folder, torrent]
    # The program names the file after the torrent; renaming it costs nothing that could be measured.
    script = 'out=$1 made=$2; shift 2; "$@" && mv "$made" "$out"'
    command = ["sh", "-c", script, "sh", source.out, folder / source.plain.name, *own]
    return [Contestant("rqbit", lambda: run(command), "rqbit download -e --initial-peers A,B,C TORRENT; SHA-1 pieces")]


def listens(port):
    with open("/proc/net/tcp", encoding="ascii") as table:
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in table)
