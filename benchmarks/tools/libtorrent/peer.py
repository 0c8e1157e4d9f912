"""One member of a swarm.

peer.py make v1|v2 FILE TORRENT
peer.py seed default|tuned TORRENT FOLDER          prints its address and seeds until it is ended
peer.py get default|tuned TORRENT OUT PORT…        downloads from seeds on this machine
"""
import os
import sys
import time

import libtorrent

POLL_INTERVAL_S = 0.005
DEADLINE_S = 600


def make(kind, path, torrent):
    storage = libtorrent.file_storage()
    libtorrent.add_files(storage, path)
    flags = libtorrent.create_torrent.v1_only if kind == "v1" else libtorrent.create_torrent.v2_only
    maker = libtorrent.create_torrent(storage, 0, flags)
    libtorrent.set_piece_hashes(maker, os.path.dirname(path))
    with open(torrent, "wb") as out:
        out.write(libtorrent.bencode(maker.generate()))


def session(setting):
    settings = libtorrent.high_performance_seed() if setting == "tuned" else libtorrent.default_settings()
    if setting == "tuned":
        # Its manual's advice for fast links: TCP instead of uTP, which yields to other traffic, and long queues of requests. It
        # connects to peers when its clock ticks.
        settings.update({
            "enable_outgoing_utp": False, "enable_incoming_utp": False, "request_queue_time": 10, "max_out_request_queue": 3000,
            "max_allowed_in_request_queue": 3000, "tick_interval": 100, "connection_speed": 1000,
        })
    settings.update({
        # Alone on this machine: nobody else is looked for, and all seeds have one address.
        "listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
        "allow_multiple_connections_per_ip": True, "alert_mask": 0,
    })
    return libtorrent.session(settings)


def add(own, torrent, folder, seed):
    parameters = libtorrent.add_torrent_params()
    parameters.ti, parameters.save_path = libtorrent.torrent_info(torrent), folder
    if seed:
        parameters.flags |= libtorrent.torrent_flags.seed_mode
    parameters.flags &= ~libtorrent.torrent_flags.auto_managed
    parameters.flags &= ~libtorrent.torrent_flags.paused
    return own.add_torrent(parameters)


def main():
    if sys.argv[1] == "make":
        make(*sys.argv[2:])
        return
    action, setting, torrent, place, *ports = sys.argv[1:]
    own = session(setting)
    if action == "seed":
        add(own, torrent, place, seed=True)
        print(f"listening on 127.0.0.1:{own.listen_port()}", flush=True)
        while True:
            time.sleep(60)
    deadline = time.monotonic() + DEADLINE_S
    folder = place + ".swarm"
    os.mkdir(folder)
    handle = add(own, torrent, folder, seed=False)
    for port in ports:
        handle.connect_peer(("127.0.0.1", int(port)))
    while not handle.status().is_seeding:
        if time.monotonic() > deadline:
            sys.exit("the swarm did not deliver the file in time")
        time.sleep(POLL_INTERVAL_S)
    # What is complete may still be on its way to the file.
    handle.flush_cache()
    handle.pause()
    os.rename(os.path.join(folder, handle.torrent_file().name()), place)
    os.rmdir(folder)
    sys.stdout.flush()
    # The session's orderly end talks to trackers that do not exist, for seconds.
    os._exit(0)


main()
