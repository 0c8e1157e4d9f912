"""Runs and measures commands, and the processor time of servers."""
import os
import select
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
COMMAND_TIMEOUT_S = 900
GNU_TIME = "/usr/bin/time"


class Failed(Exception):
    """A command failed, or its output was wrong."""


def run(command, *, timeout=COMMAND_TIMEOUT_S, first_byte=False, **popen):
    """Runs a command to its end and returns wall time, processor time and peak memory.

    GNU time stands between, as a process started from here would inherit the peak memory of this program; without it memory is not
    measured. With `first_byte`, the time until the first byte on standard output is measured too, and the rest is discarded.
    """
    popen.setdefault("stdout", subprocess.PIPE if first_byte else subprocess.DEVNULL)
    popen.setdefault("stdin", subprocess.DEVNULL)
    sample, ended = {}, None
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as figures:
        out = figures.fileno()
        before = [GNU_TIME, "-q", "-f", "%M", "-o", f"/dev/fd/{out}"] if Path(GNU_TIME).exists() else []
        begun = time.perf_counter()
        process = subprocess.Popen([*before, *map(str, command)], stderr=log, pass_fds=[out], start_new_session=True, **popen)
        try:
            if first_byte:
                if readable(process.stdout.fileno(), timeout) and os.read(process.stdout.fileno(), 1):
                    sample["first_byte_ms"] = (time.perf_counter() - begun) * 1e3
                while readable(process.stdout.fileno(), timeout) and os.read(process.stdout.fileno(), 1 << 20):
                    pass
            ended = wait4(process, timeout)
        finally:
            if ended is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stdout:
                process.stdout.close()
        log.seek(0)
        words = log.read()[-2000:].decode(errors="replace").strip()
        figures.seek(0)
        memory = figures.read().split()
    if ended is None:
        raise Failed(f"{command[0]} did not end within {timeout} s")
    status, usage, end = ended
    sample = {"wall_s": end - begun, **sample}
    if status != 0:
        raise Failed(f"{Path(str(command[0])).name} ended with status {os.waitstatus_to_exitcode(status)}: {words or 'no message'}")
    user, system = usage.ru_utime, usage.ru_stime
    sample.update({"user_s": user, "system_s": system, "cpu_s": user + system})
    return {**sample, "rss_mib": int(memory[-1]) / 1024} if memory else sample


def wait4(process, timeout):
    """Waits for a process; returns its status, its usage and the time of its end, or None at the deadline."""
    # A pidfd becomes readable when the process ends: no polling interval in what is measured.
    handle = os.pidfd_open(process.pid)
    try:
        if not readable(handle, timeout):
            return None
        at = time.perf_counter()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return status, usage, at
    finally:
        os.close(handle)


def readable(descriptor, timeout):
    """Waits until a descriptor is readable; returns true if it is within the time."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(timeout * 1000))


def processor_seconds(pid):
    """Returns user and system time of a process and its children that still run."""
    total = 0
    for one in [pid, *children(pid)]:
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_SECOND


def children(pid):
    """Returns the pids of all descendants."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += [int(child), *children(int(child))]
        except OSError:
            continue
    return found


def peak_resident_mib(pid):
    """Returns the peak memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def wait_until(what, condition, timeout=60, interval=0.05):
    """Waits until a condition holds and returns its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {timeout} s: {what}")
        time.sleep(interval)
    return value


def percentile(values, part):
    """Returns the value below which `part` per cent of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) * part // 100, len(ordered) - 1)] if ordered else 0.0


def median(values):
    return statistics.median(values)


def output_of(*command, **options):
    """Returns the standard output of a short command."""
    options.setdefault("timeout", 120)
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise Failed(f"{command[0]}: {(done.stderr.strip() or done.stdout.strip())[-500:]}")
    return done.stdout
