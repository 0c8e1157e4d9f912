"""Starts a RabbitMQ node of a row's own: own name, ports and folder; the system's node is not touched."""
import os
import signal
import socket
import subprocess
from pathlib import Path

from .command import Failed, output_of, wait_until

SCRIPTS = Path("/usr/lib/rabbitmq/bin")
PACKAGES = {str(SCRIPTS / "rabbitmq-server"): "rabbitmq-server"}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Broker:
    """A running node; `close` ends it and its epmd."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        amqp, distribution, epmd = (free_port() for _ in range(3))
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{amqp}\ndisk_free_limit.absolute = 10MB\nvm_memory_high_watermark.absolute = 1GB\nlog.console = false\n"
        )
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "environment").write_text("")
        own = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        self.env = {
            **own, "HOME": str(self.folder), "ERL_EPMD_PORT": str(epmd), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/environment", "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins", "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log", "RABBITMQ_NODENAME": f"ddm-bench-{amqp}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution), "RABBITMQ_CTL_ERL_ARGS": loopback, "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
        }
        self.processes = []
        self.start("epmd", "-port", str(epmd), "-address", "127.0.0.1")
        node = self.start(SCRIPTS / "rabbitmq-server")
        self.port, self.pid, self.uri = amqp, node.pid, f"amqp://guest:guest@127.0.0.1:{amqp}/%2f"
        try:
            wait_until("RabbitMQ answers", lambda: node.poll() is None and self.answers(), timeout=120, interval=0.5)
        except Failed:
            self.close()
            raise

    def start(self, *command):
        with open(self.folder / "output", "ab") as out:
            process = subprocess.Popen(
                [str(word) for word in command], env=self.env, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.processes.append(process)
        return process

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as peer:
                # The header of AMQP 0-9-1, to which a node that is up sends its first frame.
                peer.sendall(b"AMQP\0\0\x09\x01")
                return peer.recv(1) == b"\x01"
        except OSError:
            return False

    def close(self):
        for process in reversed(self.processes):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


def version():
    found = output_of("dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server")
    return found.strip()
