"""ddm-client."""
from harness.command import output_of, run
from harness.packages import ROOT
from harness.rounds import Contestant

PACKAGES = {}


def version(programs):
    commit = output_of("git", "-C", ROOT, "describe", "--always", "--dirty").strip()
    return f"{output_of(programs / 'ddm-client', '--version').split()[-1]}, tree {commit}"


def client(source, *args):
    return [source.system.programs / "ddm-client", *args]


def downloads(source):
    command = client(source, "-q", "-f", "-o", source.out, source.file)
    return [Contestant("ddm-client", lambda: run(command, env=source.system.client_env), "ddm-client -o OUT FILE")]


def first_bytes(source):
    command = client(source, "get", "-q", "-o", "-", source.file)
    run_once = lambda: run(command, first_byte=True, env=source.system.client_env)
    return [Contestant("ddm-client", run_once, "ddm-client get -o - FILE, logged in; the first chunk verified")]
