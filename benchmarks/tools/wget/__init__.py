"""GNU Wget: one connection to one server, without a check of the content."""
from harness.command import output_of, run
from harness.rounds import Contestant

PACKAGES = {"wget": "wget"}


def version():
    return output_of("wget", "--version").split()[2]


def downloads(source):
    command = ["wget", "-q", "--header", source.header, "-O", source.out, source.urls[0]]
    return [Contestant("wget", lambda: run(command), "wget -q -O OUT URL")]


def first_bytes(source):
    command = ["wget", "-q", "--header", source.header, "-O", "-", source.urls[0]]
    return [Contestant("wget", lambda: run(command, first_byte=True), "wget -q -O - URL, with a token at hand")]
