"""cp, sync and `openssl dgst`: what copying, hashing and syncing cost without a network."""
from harness.command import output_of, run
from harness.rounds import Contestant

# coreutils' own sha256sum uses no SHA instructions in Debian 12.
PACKAGES = {"cp": "coreutils", "openssl": "openssl"}


def version():
    return f"{output_of('cp', '--version').splitlines()[0].split()[-1]}, {output_of('openssl', 'version').split()[1]}"


def hashes(path):
    command = ["openssl", "dgst", "-sha256", path]
    return Contestant("openssl dgst", lambda: run(command), "openssl dgst -sha256 FILE")


def copies(path, out):
    """Returns contestants that store a file as durably as a publication does, by hand."""
    script = 'cp "$1" "$2" && openssl dgst -sha256 "$1" && sync "$2"'
    twice = 'cp "$1" "$2" && cp "$1" "$2.second" && sync "$2" "$2.second"'
    return [
        Contestant("cp + openssl + sync", lambda: run(["sh", "-c", script, "sh", path, out]), script),
        Contestant("bound: two copies, synced", lambda: run(["sh", "-c", twice, "sh", path, out]), twice),
    ]
