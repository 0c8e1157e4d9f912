"""curl: one connection to one server, without a check of the content."""
from harness.command import output_of, run
from harness.rounds import Contestant

PACKAGES = {"curl": "curl"}


def version():
    return output_of("curl", "--version").split()[1]


def downloads(source):
    command = ["curl", "-sf", "-H", source.header, "-o", source.out, source.urls[0]]
    sync = ["sh", "-c", '"$@" && sync "$0"', source.out, *command]
    return [
        Contestant("curl", lambda: run(command), "curl -sf -o OUT URL"),
        Contestant("curl + sync", lambda: run(sync), "curl -sf -o OUT URL && sync OUT"),
    ]


def first_bytes(source):
    command = ["curl", "-sf", "-H", source.header, source.urls[0]]
    return [Contestant("curl", lambda: run(command, first_byte=True), "curl -sf URL, with a token at hand")]
