"""nginx: static files, with the defaults of Debian and with what its documentation advises for this load."""
import os
import pwd
import socket
import subprocess
from pathlib import Path

from harness.command import Failed, wait_until
from harness.ddm import Process

PACKAGES = {"nginx": "nginx-light"}
DEBIAN = "access_log {folder}/access.log; sendfile on; tcp_nopush on;"
TUNED = (
    "access_log off; sendfile on; tcp_nopush on; sendfile_max_chunk 0; keepalive_requests 1000000000; reset_timedout_connection on;"
    " open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h;"
)


def version():
    done = subprocess.run(["nginx", "-v"], capture_output=True, text=True, timeout=10)
    return done.stderr.strip().rsplit("/", 1)[-1]


def serve(stack, folder, root, http, pin=None, workers=1, location=""):
    """Starts nginx on the files in `root` and returns its process with its URL."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
    own = " ".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes {workers}; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 4096; }}\n"
        f"http {{ {http.format(folder=folder)} default_type application/octet-stream; {own}\n"
        f"  server {{ listen 127.0.0.1:{port}; root {root}; location / {{ {location} }} }} }}\n"
    )
    before = ["taskset", "-c", str(pin)] if pin is not None else []
    process = Process([*before, "nginx", "-c", folder / "nginx.conf", "-p", folder], folder / "log")
    stack.callback(process.stop)

    def open_port():
        if process.process.poll() is not None:
            raise Failed(f"nginx ended: {(folder / 'log').read_text()[-300:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            return False

    wait_until("nginx listens", open_port)
    process.url = f"http://127.0.0.1:{port}"
    return process
