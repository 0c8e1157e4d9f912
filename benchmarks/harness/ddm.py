"""Starts a DDM system of real processes in a folder, for one row."""
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import urllib.parse
from pathlib import Path

from .command import Failed, output_of, wait_until

EMAIL = "benchmark@example.org"
PASSWORD = "password-of-a-benchmark"


class Process:
    """A program that runs until the row ends."""

    def __init__(self, command, log, **popen):
        self.log = Path(log)
        with open(log, "ab") as out:
            self.process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out, stdin=subprocess.DEVNULL, **popen)
        self.pid = self.process.pid

    def address(self):
        """Returns the address it listens on, from its log."""

        def found():
            if self.process.poll() is not None:
                raise Failed(f"{self.process.args[0]} ended: {self.log.read_text()[-800:]}")
            match = re.search(r"127\.0\.0\.1:(\d+)", self.log.read_text())
            return match and match[0]

        return wait_until(f"an address in {self.log}", found)

    def stop(self):
        if self.process.poll() is None:
            # A stopped process handles no other signal.
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class System(contextlib.ExitStack):
    """An info-server and file servers with an account that is logged in."""

    def __init__(self, programs, folder, servers=3, *, amqp=None, info_args=(), server_args=None, pin=None):
        super().__init__()
        self.programs, self.folder = Path(programs), Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.amqp = ["--amqp", amqp] if amqp else []
        self.info_args, self.pin = list(info_args), ["taskset", "-c", str(pin)] if pin is not None else []
        self.env = {**os.environ, "HOME": str(self.folder), "DDM_LOG": "info"}
        self.client_env = {**self.env, "DDM_LOG": "error"}
        self.servers, self.info_starts = [], 0
        try:
            self.start_info("127.0.0.1:0")
            output_of(
                self.programs / "ddm-info-server", "--data", self.folder / "info", "user", "add", EMAIL, "--role", "admin",
                input=PASSWORD, env=self.env,
            )
            self.client("login", EMAIL, input=PASSWORD)
            logins = json.loads((self.folder / ".config/ddm/logins.json").read_text())
            self.session = next(iter(logins.values()))["token"]
            for n in range(servers):
                self.start_server(n, server_args(n) if server_args else [])
            self.wait_for_servers()
        except BaseException:
            self.close()
            raise

    def start(self, *command, log):
        process = Process(command, self.folder / log)
        self.callback(process.stop)
        return process

    def start_info(self, listen):
        # A log for each start: the address is read from it.
        self.info_starts += 1
        self.info = self.start(
            *self.pin, self.programs / "ddm-info-server", "--data", self.folder / "info", "--listen", listen, "--download-lifetime", "12h",
            *self.amqp, *self.info_args, log=f"info-{self.info_starts}.log",
        )
        self.info_address = self.info.address()
        self.info_url = f"http://{self.info_address}"
        self.client_env["DDM_INFO_URL"] = self.info_url

    def start_server(self, n, args=()):
        server = self.start(
            *self.pin, self.programs / "ddm-file-server", "--data", self.folder / f"server-{n}", "--listen", "127.0.0.1:0", "--info",
            self.info_url, "--join-secret-file", self.folder / "info/join-secret", *self.amqp, *args, log=f"server-{n}.log",
        )
        server.url = f"http://{server.address()}"
        self.servers.append(server)

    def wait_for_servers(self):
        wanted = {server.url for server in self.servers if server.process.poll() is None}

        def listed():
            urls = {server["url"].rstrip("/") for server in self.get("/v1/servers")["servers"]}
            return wanted <= urls

        wait_until("all file servers are live", listed)

    def client(self, *args, **options):
        return output_of(self.programs / "ddm-client", *args, env=self.client_env, cwd=self.folder, **options)

    def publish(self, path, quorum):
        """Publishes a file and returns its id."""
        for line in self.client("--json", "publish", "--again", "--quorum", quorum, "--replicas", quorum, path).splitlines():
            event = json.loads(line)
            if event["event"] == "published":
                return event["file"]["id"]
        raise Failed("nothing was published")

    def get(self, path):
        return request(self.info_address, "GET", path, self.session)

    def details(self, file, grant=True):
        return self.get(f"/v1/files/{file}" + ("" if grant else "?grant=false"))

    def content_bytes(self, only=None):
        """Returns the bytes of content that the file servers have sent."""
        total = 0
        for server in self.servers if only is None else only:
            text = request(server.url.removeprefix("http://"), "GET", "/metrics", None, parse=False)
            total += int(re.search(r"^ddm_file_server_content_bytes_total (\d+)", text, re.M)[1])
        return total


def request(address, method, path, token, body=None, parse=True):
    """Sends one request and returns its answer; every status but a success is a failure."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            body, headers["Content-Type"] = json.dumps(body), "application/json"
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status >= 300:
        raise Failed(f"{method} {urllib.parse.urlsplit(path).path}: {answer.status} {content[:200]!r}")
    return (json.loads(content) if content else None) if parse else content.decode()
