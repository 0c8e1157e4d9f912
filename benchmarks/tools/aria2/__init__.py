"""aria2: several servers and connections, with an optional SHA-256 of the whole file when the download is complete."""
from harness.command import output_of, run
from harness.rounds import Contestant

PACKAGES = {"aria2c": "aria2"}
# The mirrors of a benchmark share one host, and aria2 counts connections for each host.
BEST = ["-x", "12", "-s", "12", "-k", "1M", "--file-allocation=falloc", "--disk-cache=64M"]
# Against slow and silent servers: its manual's options, with the shortest values that it takes.
CAREFUL = ["-x", "12", "-s", "12", "-k", "1M", "--lowest-speed-limit=1M", "--timeout=2", "--connect-timeout=2", "--max-tries=0", "--retry-wait=1"]

FAULTY = {"aria2 + SHA-256": [], "aria2 tuned + SHA-256": CAREFUL}


def version():
    return output_of("aria2c", "--version").split()[2]


def downloads(source):
    target = ["-q", "--allow-overwrite=true", f"--header={source.header}", "-d", source.out.parent, "-o", source.out.name]
    check = [f"--checksum=sha-256={source.sha256}"]

    def contestant(name, *options):
        command = ["aria2c", *options, *target, *source.urls]
        shown = " ".join(str(option).replace(source.sha256, "HEX") for option in options)
        return Contestant(name, lambda: run(command), f"aria2c {shown} URL URL URL".replace("  ", " "))

    return [
        contestant("aria2"),
        contestant("aria2 + SHA-256", *check),
        contestant("aria2 tuned", *BEST),
        contestant("aria2 tuned + SHA-256", *BEST, *check),
    ]


def faulty_downloads(source):
    """Returns the command of each way to download from servers of which one fails."""
    target = ["-q", "--allow-overwrite=true", f"--header={source.header}", "-d", source.out.parent, "-o", source.out.name]
    return {name: ["aria2c", *options, *target, f"--checksum=sha-256={source.sha256}", *source.urls] for name, options in FAULTY.items()}
