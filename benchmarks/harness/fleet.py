"""Simulates file servers that enrol, answer who they are and send heartbeats, and fills a catalogue with files that they hold."""
import base64
import hashlib
import http.client
import http.server
import json
import os
import sqlite3
import threading
import uuid

from .command import Failed
from .ddm import request

HEARTBEAT_INTERVAL_S = 3
# Shares the heartbeats, so that a slow answer delays few of them.
SENDERS = 4
ZONES = ["eu", "us", "ap", "af"]
REPLICAS = 3


def server_token():
    """Returns a token as docs/PROTOCOL.md defines it: prefix, 256 random bits and a checksum."""
    secret = os.urandom(32)
    body = secret + hashlib.sha256(b"ddmv_" + secret).digest()[:4]
    return "ddmv_" + base64.urlsafe_b64encode(body).decode().rstrip("=")


class Fleet:
    """Servers that are live until `close`."""

    def __init__(self, system, count):
        self.system, self.over, self.failed, self.sent = system, threading.Event(), 0, 0
        self.members = {f"sim-{n:04}": (str(uuid.uuid4()), server_token(), ZONES[n % len(ZONES)]) for n in range(count)}
        self.listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.identity_handler())
        self.listener.daemon_threads = True
        self.threads = [threading.Thread(target=self.listener.serve_forever, daemon=True)]
        self.threads[0].start()
        secret = (system.folder / "info/join-secret").read_text().strip()
        for id in self.members:
            if not self.beat(id, secret)["reachable"]:
                raise Failed(f"the info-server does not reach {id}")
        ids = list(self.members)
        self.threads += [threading.Thread(target=self.keep_beating, args=(ids[n::SENDERS],), daemon=True) for n in range(SENDERS)]
        for thread in self.threads[1:]:
            thread.start()

    def identity_handler(self):
        members = self.members

        class Identity(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                id = self.path.split("/")[1]
                known = id in members
                body = json.dumps({"server": id, "instance": members[id][0]} if known else {}).encode()
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Identity

    def beat(self, id, join_secret=None):
        instance, token, zone = self.members[id]
        heartbeat = {
            "zone": zone, "url": f"http://127.0.0.1:{self.listener.server_port}/{id}", "instance": instance, "load": 0,
            "free_bytes": 1 << 44, "weight": 1,
        }
        if join_secret:
            heartbeat["secret_sha256"] = hashlib.sha256(token.encode()).hexdigest()
        return request(self.system.info_address, "PUT", f"/v1/servers/{id}", join_secret or token, heartbeat)

    def keep_beating(self, ids):
        while ids:
            for id in ids:
                if self.over.wait(HEARTBEAT_INTERVAL_S / len(ids)):
                    return
                try:
                    self.beat(id)
                    self.sent += 1
                except (Failed, OSError, http.client.HTTPException):
                    # While the info-server is restarted.
                    self.failed += 1

    def close(self):
        self.over.set()
        self.listener.shutdown()
        for thread in self.threads:
            thread.join()
        self.listener.server_close()


def fill(system, count):
    """Stops the info-server, writes `count` files with their replicas into its catalogue, and starts it again."""
    listen = system.info_address
    system.info.stop()
    database = sqlite3.connect(system.folder / "info/catalogue.sqlite", isolation_level=None)
    database.create_function("identifier", 1, identifier)
    for statement in ("pragma synchronous = off", "pragma cache_size = -262144", "begin immediate"):
        database.execute(statement)
    database.execute("create temp table place as select row_number() over (order by id) - 1 as n, id from servers where id like 'sim-%'")
    database.execute("create unique index temp.places on place (n)")
    database.execute("create temp table copy as select value as k from json_each(?)", [json.dumps(list(range(REPLICAS)))])
    # Ids as of files that were announced one a millisecond; names as people give them.
    database.execute(
        """with recursive one (i) as (select 1 union all select i + 1 from one where i < ?)
        insert into files (id, name, size, chunk_size, state, quorum, owner, created_at, sha256, root, digests, policy, settled)
        select identifier(1700000000000 + i),
            printf('%s-%s-%07d.%s', json_extract('["backup","release","dataset","image","video"]', printf('$[%d]', i % 5)),
                json_extract('["north","south","east","west"]', printf('$[%d]', i % 4)), i,
                json_extract('["iso","tar","img"]', printf('$[%d]', i % 3))),
            1048576, 1048576, 'available', 2, (select min(id) from users), 1700000000000 + i,
            randomblob(32), randomblob(32), randomblob(32), '{"replicas":3}', 1
        from one""",
        [count],
    )
    places = """from names join files on files.id = file_id join copy
        join place on place.n = (names.n * 7919 + k * 331) % (select count(*) from place)"""
    for table, values in (
        ("replicas (file_id, server_id, counter, runs, root)", "1, '[[0,1]]', files.root"),
        ("assignments (file_id, server_id, wanted, complete, since)", "1, 1, files.created_at"),
    ):
        database.execute(f"insert or ignore into {table} select files.id, place.id, {values} {places}")
    database.execute("commit")
    database.execute("pragma wal_checkpoint(truncate)")
    database.close()
    system.start_info(listen)


def identifier(milliseconds):
    """Returns a UUIDv7 of a time."""
    raw = bytearray(milliseconds.to_bytes(6, "big") + os.urandom(10))
    raw[6], raw[8] = 0x70 | raw[6] & 0x0F, 0x80 | raw[8] & 0x3F
    return bytes(raw)


def sample_ids(system, count):
    """Returns ids from all over the catalogue, in random order."""
    database = sqlite3.connect(f"file:{system.folder}/info/catalogue.sqlite?mode=ro", uri=True)
    try:
        return [str(uuid.UUID(bytes=raw)) for (raw,) in database.execute("select id from files order by random() limit ?", [count])]
    finally:
        database.close()
