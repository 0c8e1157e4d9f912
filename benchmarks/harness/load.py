"""Drives servers with wrk."""
import json
import os
import re
from pathlib import Path

from .command import Failed, output_of, processor_seconds

HERE = Path(__file__).parent


def wrk(url, seconds, connections, *, script, threads=1, pin=None, **settings):
    """Runs wrk with one of the scripts here; returns rate, latencies and bytes. The settings reach the script as variables."""
    command = ["taskset", "-c", str(pin)] if pin is not None else []
    command += ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", HERE / script, url]
    environment = {**os.environ, "LUA_FOLDER": str(HERE), **{name.upper(): str(value) for name, value in settings.items()}}
    text = output_of(*command, env=environment)
    found = re.search(r"^RESULT (.*)$", text, re.M)
    if not found:
        raise Failed(f"wrk printed no result: {text[-300:]}")
    result = json.loads(found[1])
    if result["errors"]:
        raise Failed(f"{result['errors']} of {result['requests']} requests failed")
    if not result["requests"]:
        raise Failed("no request was answered")
    return result


def measured(pids, *args, **settings):
    """Runs wrk and adds the processor time of each named process for each request, in microseconds."""
    before = {name: processor_seconds(pid) for name, pid in pids.items()}
    result = wrk(*args, **settings)
    spent = {name: processor_seconds(pid) - before[name] for name, pid in pids.items()}
    return result, spent
