"""Measures how soon a token that was granted is usable on every file server, while a load runs."""
import http.client
import signal
import threading
import time

from harness.command import Failed, wait_until

PROBE_INTERVAL_S = 0.05
# Last tokens that are looked for on every server.
LAST = 100


class KeptConnections:
    """Kept connections to the file servers of a file."""

    def __init__(self, system, file):
        self.system, self.path = system, f"/v1/files/{file}/content"
        self.file = file
        self.info = http.client.HTTPConnection(system.info_address, timeout=30)
        self.servers = [http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30) for server in system.servers]

    def grant(self):
        self.info.request("GET", f"/v1/files/{self.file}", headers={"Authorization": f"Bearer {self.system.session}"})
        answer = self.info.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise Failed(f"details: {answer.status}")
        # Cheaper than to parse all of it.
        return text.split('"download":')[1].split('"token":"')[1].split('"')[0]

    def usable(self, server, token):
        server.request("HEAD", self.path, headers={"Authorization": f"Bearer {token}"})
        answer = server.getresponse()
        answer.read()
        return answer.status == 200

    def close(self):
        for connection in [self.info, *self.servers]:
            connection.close()


class Probe:
    """Grants a token every 50 ms and measures the time until it opens the file on every server."""

    def __init__(self, system, file):
        self.connections, self.waits, self.error = KeptConnections(system, file), [], None
        self.over, self.thread = threading.Event(), threading.Thread(target=self.watch)

    def watch(self):
        try:
            while not self.over.wait(PROBE_INTERVAL_S):
                token, answered = self.connections.grant(), time.perf_counter()
                for server in self.connections.servers:
                    while not self.connections.usable(server, token) and time.perf_counter() < answered + 30:
                        pass
                self.waits.append(time.perf_counter() - answered)
        except (Failed, OSError, http.client.HTTPException) as error:
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.over.set()
        self.thread.join()
        self.connections.close()
        if self.error and not exception[0]:
            raise Failed(f"a token was not usable: {self.error}")


def time_until_stored(system, file):
    """Returns the time until the last tokens are stored on every server: the info-server, which could be asked, is stopped meanwhile."""
    connections = KeptConnections(system, file)
    tokens = [connections.grant() for _ in range(LAST)]
    answered = time.perf_counter()

    def stored():
        system.info.process.send_signal(signal.SIGSTOP)
        try:
            return all(connections.usable(server, token) for token in reversed(tokens) for server in connections.servers)
        finally:
            system.info.process.send_signal(signal.SIGCONT)

    try:
        wait_until("the last tokens are stored", stored, interval=0.01)
        return time.perf_counter() - answered
    finally:
        connections.close()
