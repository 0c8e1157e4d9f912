"""Describes the machine and what limits it, so that figures can be compared."""
import os
import platform
import resource
import time
from pathlib import Path

BUSY_SAMPLE_S = 1
# A share of the processors above which a run is said to be disturbed.
DISTURBED_SHARE = 0.1


def first_line(path, start=""):
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(start):
                return line.split(":", 1)[-1].strip()
    except OSError:
        pass
    return "unknown"


def jiffies():
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4]


def busy_share(seconds=BUSY_SAMPLE_S):
    """Returns the share of all processors that is in use, 0 to 1. Nothing of ours runs while this is measured."""
    total, idle = jiffies()
    time.sleep(seconds)
    total_after, idle_after = jiffies()
    return 1 - (idle_after - idle) / max(total_after - total, 1)


def describe():
    memory = int(first_line("/proc/meminfo", "MemTotal").split()[0]) / 1048576
    return {
        "host": platform.node() or "unknown",
        "processor": first_line("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "sha_instructions": " sha_ni" in first_line("/proc/cpuinfo", "flags") or "sha2" in first_line("/proc/cpuinfo", "Features"),
        "memory_gib": round(memory, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "distribution": first_line("/etc/os-release", "PRETTY_NAME").split("=", 1)[-1].strip('"'),
        "virtual": "hypervisor" in first_line("/proc/cpuinfo", "flags"),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "tcp_congestion": first_line("/proc/sys/net/ipv4/tcp_congestion_control"),
        "load": os.getloadavg()[0],
    }


def file_system(path):
    """Returns type and device of the file system of a folder, and whether a sync reaches a disk there."""
    best = ("", "unknown", "unknown")
    resolved = str(Path(path).resolve())
    for line in Path("/proc/mounts").read_text().splitlines():
        device, point, kind = line.split()[:3]
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, kind, device)
    note = " (memory: a sync costs nothing)" if best[1] in ("tmpfs", "ramfs") else ""
    return f"{best[1]} on {best[2]}{note}"


def raise_open_files():
    """Raises the limit of open files to the hard limit, for this program and what it starts."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
